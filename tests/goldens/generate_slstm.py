"""Golden cases of the sLSTM (Beck et al. 2024, "xLSTM"): the published equations in f64 by numpy, head by head, then converted to
gatefold's tensors. `python generate_slstm.py`, with numpy and safetensors. See `golden.py` for how they are stored."""

import numpy as np

from golden import generator, store, uniform

STEPS, BATCH, INPUTS, HIDDEN = 9, 3, 5, 8


def log_sigmoid(x):
    return np.minimum(x, 0) - np.log1p(np.exp(-np.abs(x)))


class Heads:
    """A layer of NH heads of DH units each; every head has its own R, `[gates, DH, DH]`, and sees its own h alone."""

    def __init__(self, name, inputs, hidden, heads):
        rng = generator(name)
        size = hidden // heads
        self.heads = heads
        self.w = uniform(rng, (4, hidden, inputs), 1.5)
        self.r = uniform(rng, (heads, 4, size, size), 1.0)
        self.b = uniform(rng, (4, hidden), 1.0)

    def run(self, x, exponential):
        """All timesteps from a state of 0."""
        return self.run_sums([x @ w.T for w in self.w.astype(np.float64)], exponential)

    def run_sums(self, sums, exponential):
        """The same from W x of every gate."""
        hidden = self.b.shape[1]
        size = hidden // self.heads
        h, c, n, m = (np.zeros((sums[0].shape[1], hidden)) for _ in range(4))
        outputs = []
        for t in range(len(sums[0])):
            raw = np.stack([of_gate[t] for of_gate in sums]) + self.b[:, None].astype(np.float64)
            for head in range(self.heads):
                own = slice(head * size, (head + 1) * size)
                raw[:, :, own] += np.einsum("bd,ged->gbe", h[:, own], self.r[head].astype(np.float64))
            i, f, z, o = raw
            kept = (f if exponential else log_sigmoid(f)) + m
            # Nothing was kept before the first step.
            after = np.where(n == 0, i, np.maximum(i, kept))
            of_i, of_f = np.exp(i - after), np.minimum(np.exp(kept - after), 1)
            c = of_f * c + of_i * np.tanh(z)
            n = of_f * n + of_i
            m = after
            h = c / n / (1 + np.exp(-o))
            outputs.append(h)
        return np.stack(outputs), [h, c, n, m]

    def tensors(self, level):
        """As gatefold has them: W `[4H, I]`, U `[4H, DH]`, whose row of a unit sees its head's units, one bias beside one of 0."""
        gates, hidden, inputs = self.w.shape
        u = np.concatenate([self.r[:, gate].reshape(hidden, -1) for gate in range(gates)])
        return {
            f"rnn.weight_ih_l{level}": self.w.reshape(gates * hidden, inputs),
            f"rnn.weight_hh_l{level}": u,
            f"rnn.bias_ih_l{level}": self.b.reshape(-1),
            f"rnn.bias_hh_l{level}": np.zeros_like(self.b.reshape(-1)),
        }


def case(name, levels, heads, exponential):
    x = uniform(generator(name + " x"), (STEPS, BATCH, INPUTS), 1.0)
    layers = [Heads(f"{name} {level}", INPUTS if level == 0 else HIDDEN, HIDDEN, heads) for level in range(levels)]
    flow, states, tensors = x.astype(np.float64), [], {}
    for level, layer in enumerate(layers):
        flow, state = layer.run(flow, exponential)
        states.append(state)
        tensors |= layer.tensors(level)
    golden = {"input": x, "output": flow}
    for at, part in enumerate("hcnm"):
        golden[f"rnn.{part}_n"] = np.stack([state[at] for state in states])
    options = {"num_layers": levels} | ({"num_heads": heads} if heads > 1 else {})
    if exponential:
        options["activations"] = ["exp", "tanh"]
    description = {"type": "slstm", "name": "rnn", "input_size": INPUTS, "hidden_size": HIDDEN, **options}
    store(name, [description], tensors, golden)


def packaged(name, heads, window, cuda):
    """The same under the names of `xlstm`'s `sLSTMLayer`: projections head by head, before i and f a causal convolution and SiLU."""
    size = HIDDEN // heads
    rng = generator(name)
    layer = Heads(name, HIDDEN, HIDDEN, heads)
    projections = uniform(rng, (4, heads, size, size), 1.5)
    tensors = {f"cell.{gate}.weight": projections[at] for at, gate in enumerate(["fgate", "igate", "zgate", "ogate"])}
    if cuda:
        tensors["cell.slstm_cell._recurrent_kernel_"] = layer.r.transpose(0, 3, 1, 2).reshape(heads, size, 4 * size)
        tensors["cell.slstm_cell._bias_"] = layer.b.reshape(4, heads, size).transpose(1, 0, 2).reshape(-1)
    else:
        tensors["cell.slstm_cell._recurrent_kernel_"] = layer.r.reshape(heads, 4 * size, size)
        tensors["cell.slstm_cell._bias_"] = layer.b.reshape(-1)
    x = uniform(generator(name + " x"), (STEPS, BATCH, HIDDEN), 1.0)
    flow = x.astype(np.float64)
    layers, seen = [], flow
    if window:
        filters, bias = uniform(rng, (HIDDEN, 1, window), 1.0), uniform(rng, (HIDDEN,), 0.5)
        tensors |= {"cell.conv1d.conv.weight": filters, "cell.conv1d.conv.bias": bias}
        before = np.concatenate([np.zeros((window - 1, BATCH, HIDDEN)), flow])
        seen = sum(before[k : k + STEPS] * filters[:, 0, k].astype(np.float64) for k in range(window)) + bias
        seen = seen / (1 + np.exp(-seen))
        sizes = {"in_channels": HIDDEN, "out_channels": HIDDEN, "kernel_size": window, "groups": HIDDEN}
        padding = {"zeros": {"left": window - 1, "right": 0}}
        layers = [
            {"type": "conv1d", "name": "cell.conv1d.conv", **sizes, "padding": padding, "activation": "silu"},
            {"type": "join", "name": "both", "inputs": ["cell.conv1d.conv", "input"], "join": "concat"},
        ]
    parts = [part.reshape(STEPS, BATCH, heads, size) for part in (seen, seen, flow, flow)]
    sums = [np.einsum("tbhd,hod->tbho", part, w.astype(np.float64)) for part, w in zip(parts, projections)]
    output, state = layer.run_sums([part.reshape(STEPS, BATCH, HIDDEN) for part in sums], False)
    golden = {"input": x} | {f"cell.{part}_n": state[at][None] for at, part in enumerate("hcnm")}
    if window:
        golden["cell.conv1d.conv.past_n"] = x[1 - window :].transpose(1, 0, 2)[None]
    inputs = 2 * HIDDEN if window else HIDDEN
    layers.append({"type": "slstm", "name": "cell", "input_size": inputs, "hidden_size": HIDDEN} | ({"num_heads": heads} if heads > 1 else {}))
    if heads == 1:
        weight = uniform(rng, (HIDDEN,), 0.5)
        tensors["cell.group_norm.weight"] = weight
        centred = output - output.mean(-1, keepdims=True)
        output = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * (1 + weight.astype(np.float64))
        layers.append({"type": "layer_norm", "name": "cell.group_norm", "num_features": HIDDEN, "bias": False, "eps": 1e-5})
    store(name, [{"type": "input", "input_size": HIDDEN}, *layers], tensors, golden | {"output": output})


if __name__ == "__main__":
    case("slstm", 1, 1, False)
    case("slstm_heads", 2, 4, False)
    case("slstm_exponential", 1, 2, True)
    packaged("slstm_xlstm", 2, 4, False)
    packaged("slstm_xlstm_cuda", 2, 0, True)
    packaged("slstm_xlstm_norm", 1, 0, False)
