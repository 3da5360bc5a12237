"""Golden cases of layer-normalized cells: the formulas of four packages in f64, each with its own order of gates and its
own biases, then converted to gatefold's tensors. See `golden.py` for how they are stored."""

import numpy as np

from golden import generator, store, uniform

EPS = 1e-5


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def norm(x, weight, bias=0.0, eps=EPS):
    mean = x.mean(-1, keepdims=True)
    return (x - mean) / np.sqrt(((x - mean) ** 2).mean(-1, keepdims=True) + eps) * weight + bias


def run(step, x, hidden, parts):
    """`step(x, state)` over time from 0: h of every step and the last state."""
    state = [np.zeros((x.shape[1], hidden)) for _ in range(parts)]
    outputs = []
    for x_t in x:
        state = step(x_t.astype(np.float64), state)
        outputs.append(state[0])
    return np.stack(outputs), state


class Weights:
    """Random f32 tensors by name; scales around 1."""

    def __init__(self, name):
        self.rng = generator(name)

    def __call__(self, *shape, around=0.0):
        return (around + uniform(self.rng, shape, 0.5)).astype(np.float32)


def blocks(array, order):
    """`[G*H, ..]` with its G blocks in another order: block k is the given array's block `order[k]`."""
    parts = np.split(array, len(order))
    return np.concatenate([parts[at] for at in order])


def torchaudio_lstm(name, inputs, hidden):
    """RNN-T's: `g_norm` of the sum, `c_norm` kept; gates i, f, g, o."""
    w = Weights(name)
    x2g, p2g = w(4 * hidden, inputs), w(4 * hidden, hidden)
    g_weight, g_bias, c_weight, c_bias = w(4 * hidden, around=1), w(4 * hidden), w(hidden, around=1), w(hidden)

    def step(x, state):
        h, c = state
        i, f, g, o = np.split(norm(x @ x2g.T + h @ p2g.T, g_weight, g_bias), 4, axis=-1)
        c = norm(sigmoid(f) * c + sigmoid(i) * np.tanh(g), c_weight, c_bias)
        return [sigmoid(o) * np.tanh(c), c]

    options = {"gate_norm": "sum", "cell_norm": "state"}
    tensors = {
        "weight_ih": x2g, "weight_hh": p2g, "norm_weight": g_weight, "norm_bias": g_bias,
        "norm_c_weight": c_weight, "norm_c_bias": c_bias,
    }  # fmt: skip
    return step, 2, options, tensors


def custom_lstm(name, inputs, hidden):
    """PyTorch's `custom_lstms.py`: `layernorm_i`, `layernorm_h`, and `layernorm_c` kept; gates i, f, g, o."""
    w = Weights(name)
    ih, hh = w(4 * hidden, inputs), w(4 * hidden, hidden)
    i_weight, i_bias, h_weight, h_bias = (w(4 * hidden, around=1), w(4 * hidden), w(4 * hidden, around=1), w(4 * hidden))
    c_weight, c_bias = w(hidden, around=1), w(hidden)

    def step(x, state):
        h, c = state
        gates = norm(x @ ih.T, i_weight, i_bias) + norm(h @ hh.T, h_weight, h_bias)
        i, f, g, o = np.split(gates, 4, axis=-1)
        c = norm(sigmoid(f) * c + sigmoid(i) * np.tanh(g), c_weight, c_bias)
        return [sigmoid(o) * np.tanh(c), c]

    options = {"gate_norm": "parts", "cell_norm": "state"}
    tensors = {
        "weight_ih": ih, "weight_hh": hh, "norm_ih_weight": i_weight, "norm_ih_bias": i_bias,
        "norm_hh_weight": h_weight, "norm_hh_bias": h_bias, "norm_c_weight": c_weight, "norm_c_bias": c_bias,
    }  # fmt: skip
    return step, 2, options, tensors


def haste_lstm(name, inputs, hidden):
    """haste's: `gamma` `[2, 4H]` and one bias, `gamma_h` and `beta_h` for the output alone; gates i, g, f, o."""
    w = Weights(name)
    kernel, recurrent, bias = w(inputs, 4 * hidden), w(hidden, 4 * hidden), w(4 * hidden)
    gamma = w(2, 4 * hidden, around=1)
    gamma_h, beta_h = w(hidden, around=1), w(hidden)

    def step(x, state):
        h, c = state
        gates = norm(x @ kernel, gamma[0]) + norm(h @ recurrent, gamma[1]) + bias
        i, g, f, o = np.split(gates, 4, axis=-1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        return [sigmoid(o) * np.tanh(norm(c, gamma_h, beta_h)), c]

    order = [0, 2, 1, 3]
    options = {"gate_norm": "parts", "cell_norm": "output"}
    tensors = {
        "weight_ih": blocks(kernel.T, order), "weight_hh": blocks(recurrent.T, order),
        "norm_ih_weight": blocks(gamma[0], order), "norm_ih_bias": blocks(bias, order),
        "norm_hh_weight": blocks(gamma[1], order), "norm_hh_bias": np.zeros(4 * hidden, np.float32),
        "norm_c_weight": gamma_h, "norm_c_bias": beta_h,
    }  # fmt: skip
    return step, 2, options, tensors


def dreamer_gru(name, inputs, hidden):
    """Dreamer's: one product of (x, h), normalized; gates reset, cand, update; `update - 1` weighs the candidate."""
    w = Weights(name)
    kernel, weight, bias = w(inputs + hidden, 3 * hidden), w(3 * hidden, around=1), w(3 * hidden)

    def step(x, state):
        (h,) = state
        parts = norm(np.concatenate([x, h], -1) @ kernel, weight, bias)
        reset, cand, update = np.split(parts, 3, axis=-1)
        cand, update = np.tanh(sigmoid(reset) * cand), sigmoid(update - 1)
        return [update * cand + (1 - update) * h]

    # gatefold's z weighs h: 1 - σ(u - 1) = σ(1 - u).
    order, sign = [0, 2, 1], np.repeat([1.0, -1.0, 1.0], hidden).astype(np.float32)
    shift = np.repeat([0.0, 1.0, 0.0], hidden).astype(np.float32)
    options = {"gate_norm": "sum"}
    tensors = {
        "weight_ih": blocks(kernel[:inputs].T, order), "weight_hh": blocks(kernel[inputs:].T, order),
        "norm_weight": sign * blocks(weight, order), "norm_bias": shift + sign * blocks(bias, order),
    }  # fmt: skip
    return step, 1, options, tensors


def haste_gru(name, inputs, hidden):
    """haste's: `gamma` `[2, 3H]`, a bias for each part; gates z, r, g."""
    w = Weights(name)
    kernel, recurrent = w(inputs, 3 * hidden), w(hidden, 3 * hidden)
    bias, recurrent_bias, gamma = w(3 * hidden), w(3 * hidden), w(2, 3 * hidden, around=1)

    def step(x, state):
        (h,) = state
        of_x = np.split(norm(x @ kernel, gamma[0]) + bias, 3, axis=-1)
        of_h = np.split(norm(h @ recurrent, gamma[1]) + recurrent_bias, 3, axis=-1)
        z, r = sigmoid(of_x[0] + of_h[0]), sigmoid(of_x[1] + of_h[1])
        return [z * h + (1 - z) * np.tanh(of_x[2] + r * of_h[2])]

    order = [1, 0, 2]
    options = {"gate_norm": "parts"}
    tensors = {
        "weight_ih": blocks(kernel.T, order), "weight_hh": blocks(recurrent.T, order),
        "norm_ih_weight": blocks(gamma[0], order), "norm_ih_bias": blocks(bias, order),
        "norm_hh_weight": blocks(gamma[1], order), "norm_hh_bias": blocks(recurrent_bias, order),
    }  # fmt: skip
    return step, 1, options, tensors


CASES = [
    ("layer_norm_lstm_torchaudio", "layer_norm_lstm", torchaudio_lstm),
    ("layer_norm_lstm_custom", "layer_norm_lstm", custom_lstm),
    ("layer_norm_lstm_haste", "layer_norm_lstm", haste_lstm),
    ("layer_norm_gru_dreamer", "layer_norm_gru", dreamer_gru),
    ("layer_norm_gru_haste", "layer_norm_gru", haste_gru),
]

if __name__ == "__main__":
    for name, cell, make in CASES:
        inputs, hidden, steps, batch = 5, 19, 6, 3
        step, parts, options, tensors = make(name, inputs, hidden)
        x = uniform(generator(name + " x"), (steps, batch, inputs), 1.0)
        output, state = run(step, x, hidden, parts)
        layer = {"type": cell, "name": "rnn", "input_size": inputs, "hidden_size": hidden, **options}
        c = state[1] if parts == 2 else np.zeros((batch, 0))
        golden = {"input": x, "output": output, "rnn.h_n": state[0][None], "rnn.c_n": c[None]}
        store(name, [layer], {f"rnn.{tensor}_l0": array for tensor, array in tensors.items()}, golden)
