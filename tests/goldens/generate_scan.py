"""Golden cases of cells whose units do not depend on each other: the formulas of their packages in f64, with the packages'
own tensors, which gatefold reads by these names. See `golden.py` for how they are stored.

minGRU-pytorch 0.2.1 (one step after the other, as it runs streams), sru 2.6.0, torchqrnn, haste's IndRNN."""

import numpy as np

from golden import generator, store, uniform

INPUTS, HIDDEN, STEPS, BATCH = 5, 19, 7, 3


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def g(x):
    return np.where(x >= 0, x + 0.5, sigmoid(x))


class Weights:
    """Random f32 tensors by name."""

    def __init__(self, name):
        self.rng = generator(name)
        self.tensors = {}

    def __call__(self, name, *shape, bound=0.7):
        self.tensors[name] = uniform(self.rng, shape, bound)
        return self.tensors[name].astype(np.float64)


def min_gru(w, x):
    """`[B, T, D]`, widened by an `expansion_factor` and made narrow again."""
    both = x @ w("to_hidden_and_gate.weight", 2 * HIDDEN, INPUTS).T
    hidden, gate = np.split(both, 2, axis=-1)
    h, outputs = np.zeros((BATCH, HIDDEN)), []
    for t in range(STEPS):
        z = sigmoid(gate[:, t])
        h = h + z * (g(hidden[:, t]) - h)
        outputs.append(h)
    return np.stack(outputs, 1) @ w("to_out.weight", INPUTS, HIDDEN).T, {"rnn": ([h], [])}


def min_lstm(w, x):
    three = x @ w("to_hidden_and_f_i_gate.weight", 3 * HIDDEN, INPUTS).T
    hidden, f, i = np.split(three, 3, axis=-1)
    h, outputs = np.zeros((BATCH, HIDDEN)), []
    for t in range(STEPS):
        of_f, of_i = sigmoid(f[:, t]), sigmoid(i[:, t])
        h = h * of_f / (of_f + of_i) + g(hidden[:, t]) * of_i / (of_f + of_i)
        outputs.append(h)
    return np.stack(outputs, 1), {"rnn": ([h], [])}


def sru_cell(w, prefix, x, hidden, directions, scale, tanh=False):
    outputs = hidden * directions
    k = 3 if x.shape[-1] == outputs else 4
    weight = w(f"{prefix}weight", x.shape[-1], outputs * k)
    of_c = w(f"{prefix}weight_c", 2 * outputs).reshape(2, directions, hidden)
    bias = w(f"{prefix}bias", 2 * outputs).reshape(2, directions, hidden)
    w.tensors[f"{prefix}scale_x"] = np.array([scale], np.float32)
    u = (x @ weight).reshape(STEPS, BATCH, directions, hidden, k)
    highway = u[..., 3] if k == 4 else x.reshape(STEPS, BATCH, directions, hidden) * np.float64(np.float32(scale))
    h, last_h, last_c = np.zeros((STEPS, BATCH, directions, hidden)), [], []
    for d in range(directions):
        c = np.zeros((BATCH, hidden))
        times = range(STEPS) if d == 0 else range(STEPS - 1, -1, -1)
        for t in times:
            forget = sigmoid(u[t, :, d, :, 1] + bias[0, d] + c * of_c[0, d])
            reset = sigmoid(u[t, :, d, :, 2] + bias[1, d] + c * of_c[1, d])
            c = u[t, :, d, :, 0] + (c - u[t, :, d, :, 0]) * forget
            seen = np.tanh(c) if tanh else c
            h[t, :, d] = highway[t, :, d] + (seen - highway[t, :, d]) * reset
        last_h.append(h[times[-1], :, d])
        last_c.append(c)
    return h.reshape(STEPS, BATCH, outputs), last_h, last_c


def sru(w, x, hidden=HIDDEN, directions=1, levels=2, scale=1.0, tanh=False):
    last_h, last_c = [], []
    for level in range(levels):
        x, h, c = sru_cell(w, f"rnn.rnn_lst.{level}.", x, hidden, directions, scale, tanh)
        last_h += h
        last_c += c
    return x, {"rnn": (last_h, last_c)}


def qrnn_layer(w, prefix, x):
    """F takes in the new value."""
    weight, bias = w(f"{prefix}linear.weight", 3 * HIDDEN, x.shape[-1]), w(f"{prefix}linear.bias", 3 * HIDDEN)
    z, f, o = np.split(x @ weight.T + bias, 3, axis=-1)
    c, outputs = np.zeros((BATCH, HIDDEN)), []
    for t in range(STEPS):
        gate = sigmoid(f[t])
        c = gate * np.tanh(z[t]) + (1 - gate) * c
        outputs.append(sigmoid(o[t]) * c)
    return np.stack(outputs), outputs[-1], c


def qrnn(w, x):
    first, h_0, c_0 = qrnn_layer(w, "rnn.layers.0.", x)
    second, h_1, c_1 = qrnn_layer(w, "rnn.layers.1.", first)
    return second, {"rnn": ([h_0, h_1], [c_0, c_1])}


def qrnn_window(w, x):
    """A window of 2: the input beside that of the step before."""
    before = np.concatenate([np.zeros_like(x[:1]), x[:-1]])
    output, h, c = qrnn_layer(w, "rnn.", np.concatenate([x, before], -1))
    return output, {"rnn": ([h], [c])}


def ind_rnn(w, x):
    """haste's: `activation(x W + u * h + b)`."""
    sums = x @ w("kernel", INPUTS, HIDDEN) + w("bias", HIDDEN)
    u, h, outputs = w("recurrent_scale", HIDDEN), np.zeros((BATCH, HIDDEN)), []
    for t in range(STEPS):
        h = np.tanh(sums[t] + u * h)
        outputs.append(h)
    return np.stack(outputs), {"rnn": ([h], [])}


def layer(cell, inputs=INPUTS, hidden=HIDDEN, **options):
    return {"type": cell, "name": "rnn", "input_size": inputs, "hidden_size": hidden, **options}


WINDOW = [
    {"type": "input", "input_size": INPUTS},
    {"type": "pad", "name": "before", "left": 1, "right": -1},
    {"type": "join", "name": "window", "inputs": ["input", "before"], "join": "concat"},
]

CASES = [
    (
        "min_gru",
        min_gru,
        [
            layer("min_gru", bias=False, batch_first=True),
            {"type": "dense", "name": "to_out", "in_features": HIDDEN, "out_features": INPUTS, "bias": False},
        ],
        INPUTS,
    ),
    ("min_lstm", min_lstm, [layer("min_lstm", bias=False, batch_first=True)], INPUTS),
    ("sru", sru, [layer("sru", num_layers=2, peephole=True)], INPUTS),
    (
        "sru_highway",
        lambda w, x: sru(w, x, hidden=9, directions=2, scale=3**0.5, tanh=True),
        [layer("sru", 18, 9, num_layers=2, bidirectional=True, peephole=True, activations=["sigmoid", "tanh"])],
        18,
    ),
    ("qrnn", qrnn, [layer("qrnn", num_layers=2)], INPUTS),
    ("qrnn_window", qrnn_window, [*WINDOW, layer("qrnn", 2 * INPUTS)], INPUTS),
    ("ind_rnn", ind_rnn, [layer("ind_rnn", activations=["tanh"])], INPUTS),
]

if __name__ == "__main__":
    for name, run, layers, inputs in CASES:
        batch_first = layers[0].get("batch_first", False)
        shape = (BATCH, STEPS, inputs) if batch_first else (STEPS, BATCH, inputs)
        x = uniform(generator(name + " x"), shape, 1.0)
        weights = Weights(name)
        output, states = run(weights, x.astype(np.float64))
        golden = {"input": x, "output": output}
        for layer_name, (h, c) in states.items():
            golden[f"{layer_name}.h_n"] = np.stack(h)
            golden[f"{layer_name}.c_n"] = np.stack(c) if c else np.zeros((len(h), BATCH, 0))
        store(name, layers, weights.tensors, golden)
