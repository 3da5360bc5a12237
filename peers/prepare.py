"""Writes the cases that every peer reads: weights, input, the output expected, and the same network as ONNX.

One folder per case under OUT, named by its shape, `[gru:|rnn:][bi:][Lx]H,B,T`:

    weights.safetensors   weight_ih_l0 [GH, I], weight_hh_l0 [GH, H], bias_ih_l0 [GH], bias_hh_l0 [GH], with `_reverse` the second
                          direction's, then l1 and so on: PyTorch's names and gates, G = 4 of an LSTM, 3 of a GRU, 1 of an RNN
    data.safetensors      input [T, B, I], expected, expected_f16, expected_int8 [T, B, DH], D directions, all f32; the outputs
                          were computed in f64, of the weights as they are and rounded to those formats
    model.onnx            one LSTM, GRU or RNN node per layer: X [T, B, I] to Y [T, 1, B, H], of two directions [T, B, 2H]
    case.json             sizes, and how far rounding the weights moves the output

The reference is NumPy's f64, written out below, so that no engine that is timed also sets the answer.
"""

import argparse
import json
import pathlib
import re
from typing import NamedTuple

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save_file

NAMES = ["weight_ih", "weight_hh", "bias_ih", "bias_hh"]
WAYS = ["", "_reverse"]


class Shape(NamedTuple):
    """A case's network and input."""

    cell: str
    directions: int
    layers: int
    hidden: int
    batch: int
    steps: int

    @classmethod
    def parse(cls, text):
        found = re.fullmatch(r"(?:(lstm|gru|rnn):)?(bi:)?(?:(\d+)x)?(\d+),(\d+),(\d+)", text)
        if not found:
            raise argparse.ArgumentTypeError(f"expected [gru:|rnn:][bi:][Lx]H,B,T, got {text}")
        cell, both, layers, *sizes = found.groups()
        return cls(cell or "lstm", 2 if both else 1, int(layers or 1), *map(int, sizes))

    def __str__(self):
        cell = "" if self.cell == "lstm" else f"{self.cell}:"
        both = "bi:" if self.directions == 2 else ""
        layers = f"{self.layers}x" if self.layers > 1 else ""
        return f"{cell}{both}{layers}{self.hidden},{self.batch},{self.steps}"


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def lstm(weights, x):
    """h of all steps [T, B, H]; gates i, f, g, o."""
    w, r, b, c = weights
    state = np.zeros((x.shape[1], r.shape[1]))
    cell = np.zeros_like(state)
    for step in x @ w.T + b:
        i, f, g, o = np.split(step + state @ r.T + c, 4, axis=1)
        cell = sigmoid(f) * cell + sigmoid(i) * np.tanh(g)
        state = sigmoid(o) * np.tanh(cell)
        yield state


def gru(weights, x):
    """h of all steps [T, B, H]; gates r, z, n, the reset after the product."""
    w, r, b, c = weights
    state = np.zeros((x.shape[1], r.shape[1]))
    for step in x @ w.T + b:
        reset, update, new = np.split(step, 3, axis=1)
        reset_of, update_of, new_of = np.split(state @ r.T + c, 3, axis=1)
        update = sigmoid(update + update_of)
        state = (1 - update) * np.tanh(new + sigmoid(reset + reset_of) * new_of) + update * state
        yield state


def rnn(weights, x):
    """h of all steps [T, B, H]; tanh."""
    w, r, b, c = weights
    state = np.zeros((x.shape[1], r.shape[1]))
    for step in x @ w.T + b:
        state = np.tanh(step + state @ r.T + c)
        yield state


CELLS = {"lstm": lstm, "gru": gru, "rnn": rnn}


def output(cell, layers, x):
    """The last layer's h of all steps [T, B, DH] in f64; a layer is the weights of its directions."""
    x = x.astype(np.float64)
    for layer in layers:
        both = []
        for weights, way in zip(layer, (1, -1)):
            h = CELLS[cell]([array.astype(np.float64) for array in weights], x[::way])
            both.append(np.stack(list(h))[::way])
        x = np.concatenate(both, axis=2)
    return x


def to_f16(matrix):
    return matrix.astype(np.float16).astype(np.float32)


def to_int8(matrix):
    """Integers in ±127 times a scale per row, as gatefold stores them (docs/precision.md)."""
    scale = np.abs(matrix).max(axis=1, keepdims=True) / np.float32(127)
    for _ in range(4):
        scale = np.float32(127) * scale / np.float32(127)
    size = np.abs(matrix / scale)
    # Halves away from zero: NumPy's own rounding takes the even neighbour.
    whole = np.minimum(np.trunc(size) + (size - np.trunc(size) >= 0.5), np.float32(127))
    return np.copysign(whole, matrix) * scale


FORMATS = {"f16": to_f16, "int8": to_int8}
# PyTorch's gates in ONNX's order: i, o, f, c and z, r, h.
ONNX_GATES = {"lstm": [0, 3, 1, 2], "gru": [1, 0, 2], "rnn": [0]}


def onnx_model(shape, layers):
    """The same network in ONNX, one node per layer; with fixed sizes, which engines optimize best."""
    constants, nodes = {}, []
    attributes = {"hidden_size": shape.hidden}
    attributes |= {"linear_before_reset": 1} if shape.cell == "gru" else {}
    attributes |= {"direction": "bidirectional"} if shape.directions == 2 else {}
    order = ONNX_GATES[shape.cell]

    def reordered(array):
        gates = np.split(array, len(order))
        return np.concatenate([gates[gate] for gate in order])

    for number, layer in enumerate(layers):
        last = number == len(layers) - 1
        w, r, b, c = (np.stack([reordered(array) for array in arrays]) for arrays in zip(*layer))
        constants |= {f"W{number}": w, f"R{number}": r, f"B{number}": np.concatenate([b, c], axis=1)}
        inputs = ["X" if number == 0 else f"X{number}", f"W{number}", f"R{number}", f"B{number}"]
        above = "Y" if last else f"X{number + 1}"
        # One direction's [T, 1, B, H] is the last layer's output as it is: a node more would be timed.
        y = above if last and shape.directions == 1 else f"Y{number}"
        nodes.append(helper.make_node(shape.cell.upper(), inputs, [y], **attributes))
        if shape.directions == 2:
            constants["sizes"] = np.array([shape.steps, shape.batch, 2 * shape.hidden])
            nodes.append(helper.make_node("Transpose", [y], [f"T{number}"], perm=[0, 2, 1, 3]))
            nodes.append(helper.make_node("Reshape", [f"T{number}", "sizes"], [above]))
        elif not last:
            constants["direction"] = np.array([1])
            nodes.append(helper.make_node("Squeeze", [y, "direction"], [above]))
    both = shape.directions == 2
    y_sizes = [shape.steps, shape.batch, 2 * shape.hidden] if both else [shape.steps, 1, shape.batch, shape.hidden]
    graph = helper.make_graph(
        nodes,
        shape.cell,
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, [shape.steps, shape.batch, shape.hidden])],
        [helper.make_tensor_value_info("Y", TensorProto.FLOAT, y_sizes)],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)
    onnx.checker.check_model(model)
    return model


def write(folder, shape, damage=False):
    """Writes the case and gives what case.json holds."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng([shape.hidden, shape.batch, shape.steps])
    bound = 1 / np.sqrt(shape.hidden)
    rows = len(ONNX_GATES[shape.cell]) * shape.hidden

    def drawn(width):
        sizes = [(rows, width), (rows, shape.hidden), (rows,), (rows,)]
        return [generator.uniform(-bound, bound, size).astype(np.float32) for size in sizes]

    widths = [shape.hidden, *[shape.directions * shape.hidden] * (shape.layers - 1)]
    layers = [[drawn(width) for _ in range(shape.directions)] for width in widths]
    x = generator.uniform(-1, 1, (shape.steps, shape.batch, shape.hidden)).astype(np.float32)
    exact = output(shape.cell, layers, x)
    expected, moved = {"expected": exact}, {}
    for name, rounded in FORMATS.items():
        stored = [[[*map(rounded, weights[:2]), *weights[2:]] for weights in layer] for layer in layers]
        found = output(shape.cell, stored, x)
        expected[f"expected_{name}"] = found
        moved[name] = float(np.abs(found - exact).max())
    for array in expected.values():
        array[-1, -1, -1] += 0.01 * damage  # one number: the negative control, which every peer must report as wrong
    names = [f"{name}_l{number}{way}" for number in range(shape.layers) for way in WAYS[: shape.directions] for name in NAMES]
    arrays = (array for layer in layers for weights in layer for array in weights)
    save_file(dict(zip(names, arrays)), folder / "weights.safetensors")
    save_file({"input": x} | {name: array.astype(np.float32) for name, array in expected.items()}, folder / "data.safetensors")
    onnx.save(onnx_model(shape, layers), folder / "model.onnx")
    case = shape._asdict() | {"moved_by_rounding": moved}
    (folder / "case.json").write_text(json.dumps(case) + "\n")
    return case


CONTROL = Shape.parse("16,1,4")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("shapes", nargs="+", type=Shape.parse, help="[gru:|rnn:][bi:][Lx]H,B,T")
    arguments = parser.parse_args()
    for shape in arguments.shapes:
        write(arguments.out / str(shape), shape)
    write(arguments.out / "control", CONTROL, damage=True)


if __name__ == "__main__":
    main()
