"""Writes the cases of training that every peer reads: first weights, tokens, labels, and the losses expected of the first steps.

The network is Embedding(10,000, 64) -> one layer -> Dense(2) on h of the last step; the loss is the mean cross-entropy of the B
rows; the optimizer is Adam (1e-3, 0.9, 0.999, 1e-8). One folder per case under OUT, named `train-` and its shape `[gru:]H,B,T`:

    weights.safetensors   embedding.weight [V, 64], weight_ih_l0 [GH, 64], weight_hh_l0 [GH, H], bias_ih_l0 [GH], bias_hh_l0 [GH],
                          dense.weight [2, H], dense.bias [2]; PyTorch's gates. An LSTM's bias_hh_l0 is 0 and is not trained, as in Keras
    data.safetensors      input [T, B] (tokens), labels [B], expected and expected_keras [4]: the loss of each of the first four
                          steps, all f32; Keras adds Adam's epsilon before the bias is corrected
    case.json             sizes

The reference is NumPy's f64, with the backward pass written out below, so that no engine that is timed also sets the answer.
"""

import json

import numpy as np
from prepare import Shape, sigmoid
from safetensors.numpy import save_file

VOCABULARY, WIDTH, CLASSES = 10_000, 64, 2
# Steps of a sample; their losses are compared.
STEPS = 4
RATE, BETA_1, BETA_2, EPSILON = 1e-3, 0.9, 0.999, 1e-8
NAMES = ["weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"]
CONTROL = Shape.parse("16,2,4")


def lstm(parameters, x):
    """h of the last step, and the gradients by x and the four tensors from that by h."""
    w, r, b, c = parameters
    h = [np.zeros((x.shape[1], r.shape[1]))]
    cells, gates = [h[0]], []
    for step in x @ w.T + b:
        i, f, g, o = np.split(step + h[-1] @ r.T + c, 4, axis=1)
        i, f, g, o = sigmoid(i), sigmoid(f), np.tanh(g), sigmoid(o)
        gates.append((i, f, g, o))
        cells.append(f * cells[-1] + i * g)
        h.append(o * np.tanh(cells[-1]))

    def backward(d_h):
        d_sums, d_c = np.zeros((*x.shape[:2], len(b))), 0.0
        for t in reversed(range(len(x))):
            i, f, g, o = gates[t]
            squashed = np.tanh(cells[t + 1])
            d_c = d_c + d_h * o * (1 - squashed**2)
            parts = [d_c * g * i * (1 - i), d_c * cells[t] * f * (1 - f), d_c * i * (1 - g**2), d_h * squashed * o * (1 - o)]
            d_sums[t] = np.concatenate(parts, axis=1)
            d_h, d_c = d_sums[t] @ r, d_c * f
        d_b = d_sums.sum((0, 1))
        # The second bias stays.
        return d_sums @ w, [np.einsum("tbg,tbi->gi", d_sums, x), products(d_sums, h[:-1]), d_b, 0 * d_b]

    return h[-1], backward


def gru(parameters, x):
    """As lstm; the reset after the product."""
    w, r, b, c = parameters
    h, gates = [np.zeros((x.shape[1], r.shape[1]))], []
    for step in x @ w.T + b:
        reset, update, new = np.split(step, 3, axis=1)
        reset_of, update_of, new_of = np.split(h[-1] @ r.T + c, 3, axis=1)
        reset, update = sigmoid(reset + reset_of), sigmoid(update + update_of)
        new = np.tanh(new + reset * new_of)
        gates.append((reset, update, new, new_of))
        h.append((1 - update) * new + update * h[-1])

    def backward(d_h):
        d_of_x, d_of_h = np.zeros((2, *x.shape[:2], len(b)))
        for t in reversed(range(len(x))):
            reset, update, new, new_of = gates[t]
            d_new = d_h * (1 - update) * (1 - new**2)
            d_update = d_h * (h[t] - new) * update * (1 - update)
            d_reset = d_new * new_of * reset * (1 - reset)
            d_of_x[t] = np.concatenate([d_reset, d_update, d_new], axis=1)
            d_of_h[t] = np.concatenate([d_reset, d_update, d_new * reset], axis=1)
            d_h = d_h * update + d_of_h[t] @ r
        d_w, d_r = np.einsum("tbg,tbi->gi", d_of_x, x), products(d_of_h, h[:-1])
        return d_of_x @ w, [d_w, d_r, d_of_x.sum((0, 1)), d_of_h.sum((0, 1))]

    return h[-1], backward


def products(d_sums, h):
    return np.einsum("tbg,tbh->gh", d_sums, np.stack(h))


CELLS = {"lstm": lstm, "gru": gru}


def losses(cell, weights, tokens, labels, keras=False):
    """The losses of the first steps in f64, with the epsilon of PyTorch's Adam or of Keras'."""
    weights = {name: array.astype(np.float64) for name, array in weights.items()}
    moments = {name: (np.zeros_like(array), np.zeros_like(array)) for name, array in weights.items()}
    rows = np.arange(len(labels))
    for step in range(1, STEPS + 1):
        h, backward = CELLS[cell]([weights[name] for name in NAMES], weights["embedding.weight"][tokens])
        logits = h @ weights["dense.weight"].T + weights["dense.bias"]
        logits -= logits.max(axis=1, keepdims=True)
        d = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        yield -np.log(d[rows, labels]).mean()
        d[rows, labels] -= 1
        d /= len(labels)
        d_x, d_layer = backward(d @ weights["dense.weight"])
        gradients = dict(zip(NAMES, d_layer)) | {"dense.weight": d.T @ h, "dense.bias": d.sum(axis=0)}
        gradients["embedding.weight"] = np.zeros_like(weights["embedding.weight"])
        np.add.at(gradients["embedding.weight"], tokens, d_x)
        for name, gradient in gradients.items():
            mean, square = moments[name]
            mean += (1 - BETA_1) * (gradient - mean)
            square += (1 - BETA_2) * (gradient**2 - square)
            corrected = np.sqrt(1 - BETA_2**step)
            size = np.sqrt(square) / corrected + (EPSILON / corrected if keras else EPSILON)
            weights[name] -= RATE * mean / (1 - BETA_1**step) / size


def write(folder, shape, damage=False):
    """Writes the case and gives what case.json holds."""
    if shape.cell not in CELLS or shape.directions != 1 or shape.layers != 1:
        raise SystemExit(f"training: expected [gru:]H,B,T, got {shape}")
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng([shape.hidden, shape.batch, shape.steps])
    bound = 1 / np.sqrt(shape.hidden)
    rows = {"lstm": 4, "gru": 3}[shape.cell] * shape.hidden
    drawn = {"weight_ih_l0": (rows, WIDTH), "weight_hh_l0": (rows, shape.hidden), "bias_ih_l0": (rows,), "bias_hh_l0": (rows,)}
    drawn |= {"dense.weight": (CLASSES, shape.hidden), "dense.bias": (CLASSES,)}
    weights = {name: generator.uniform(-bound, bound, sizes).astype(np.float32) for name, sizes in drawn.items()}
    weights["embedding.weight"] = generator.normal(size=(VOCABULARY, WIDTH)).astype(np.float32)
    if shape.cell == "lstm":
        weights["bias_hh_l0"][:] = 0
    tokens = generator.integers(VOCABULARY, size=(shape.steps, shape.batch))
    labels = generator.integers(CLASSES, size=shape.batch)
    expected = {"expected": False, "expected_keras": True}
    arrays = {name: np.array(list(losses(shape.cell, weights, tokens, labels, keras))) for name, keras in expected.items()}
    for array in arrays.values():
        array[-1] += 0.01 * damage  # one number: the negative control, which every peer must report as wrong
    arrays |= {"input": tokens, "labels": labels}
    save_file(weights, folder / "weights.safetensors")
    save_file({name: array.astype(np.float32) for name, array in arrays.items()}, folder / "data.safetensors")
    case = shape._asdict() | {"moved_by_rounding": {}}
    (folder / "case.json").write_text(json.dumps(case) + "\n")
    return case
