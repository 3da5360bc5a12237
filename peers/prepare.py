"""Writes the cases that every peer reads: weights, input, the output expected, and the same network as ONNX.

One folder per case under OUT, named by its shape, `[gru:][Lx]H,B,T`:

    weights.safetensors   weight_ih_l0 [GH, I], weight_hh_l0 [GH, H], bias_ih_l0 [GH], bias_hh_l0 [GH], then l1 and so on:
                          PyTorch's names and gates, G = 4 of an LSTM, 3 of a GRU
    data.safetensors      input [T, B, I], expected, expected_f16, expected_int8 [T, B, H], all f32; the outputs were computed in
                          f64, of the weights as they are and rounded to those formats
    model.onnx            one LSTM or GRU node per layer: X [T, B, I] to Y [T, 1, B, H]
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


class Shape(NamedTuple):
    """A case's network and input."""

    cell: str
    layers: int
    hidden: int
    batch: int
    steps: int

    @classmethod
    def parse(cls, text):
        found = re.fullmatch(r"(?:(lstm|gru):)?(?:(\d+)x)?(\d+),(\d+),(\d+)", text)
        if not found:
            raise argparse.ArgumentTypeError(f"expected [gru:][Lx]H,B,T, got {text}")
        cell, layers, *sizes = found.groups()
        return cls(cell or "lstm", int(layers or 1), *map(int, sizes))

    def __str__(self):
        layers = f"{self.layers}x" if self.layers > 1 else ""
        return f"{'' if self.cell == 'lstm' else self.cell + ':'}{layers}{self.hidden},{self.batch},{self.steps}"


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


def output(cell, layers, x):
    """The last layer's h of all steps [T, B, H] in f64."""
    x = x.astype(np.float64)
    for weights in layers:
        x = np.stack(list({"lstm": lstm, "gru": gru}[cell]([array.astype(np.float64) for array in weights], x)))
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
ONNX_GATES = {"lstm": [0, 3, 1, 2], "gru": [1, 0, 2]}


def onnx_model(shape, layers):
    """The same network in ONNX, one node per layer; sizes fixed, as engines like it."""
    constants, nodes = {}, []
    of_cell = {"lstm": {}, "gru": {"linear_before_reset": 1}}[shape.cell]
    order = ONNX_GATES[shape.cell]

    def reordered(array):
        gates = np.split(array, len(order))
        return np.concatenate([gates[gate] for gate in order])

    for number, weights in enumerate(layers):
        last = number == len(layers) - 1
        w, r, b, c = map(reordered, weights)
        constants |= {f"W{number}": w[None], f"R{number}": r[None], f"B{number}": np.concatenate([b, c])[None]}
        y = "Y" if last else f"Y{number}"
        inputs = ["X" if number == 0 else f"X{number}", f"W{number}", f"R{number}", f"B{number}"]
        nodes.append(helper.make_node(shape.cell.upper(), inputs, [y], hidden_size=shape.hidden, **of_cell))
        if not last:
            constants["direction"] = np.array([1])
            nodes.append(helper.make_node("Squeeze", [y, "direction"], [f"X{number + 1}"]))
    graph = helper.make_graph(
        nodes,
        shape.cell,
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, [shape.steps, shape.batch, shape.hidden])],
        [helper.make_tensor_value_info("Y", TensorProto.FLOAT, [shape.steps, 1, shape.batch, shape.hidden])],
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
    of_layer = [(rows, shape.hidden), (rows, shape.hidden), (rows,), (rows,)]
    layers = [[generator.uniform(-bound, bound, size).astype(np.float32) for size in of_layer] for _ in range(shape.layers)]
    x = generator.uniform(-1, 1, (shape.steps, shape.batch, shape.hidden)).astype(np.float32)
    exact = output(shape.cell, layers, x)
    expected, moved = {"expected": exact}, {}
    for name, rounded in FORMATS.items():
        found = output(shape.cell, [[*map(rounded, weights[:2]), *weights[2:]] for weights in layers], x)
        expected[f"expected_{name}"] = found
        moved[name] = float(np.abs(found - exact).max())
    for array in expected.values():
        array[-1, -1, -1] += 0.01 * damage  # one number: the control that every peer must call wrong
    names = [f"{name}_l{number}" for number in range(shape.layers) for name in NAMES]
    save_file(dict(zip(names, (array for weights in layers for array in weights))), folder / "weights.safetensors")
    save_file({"input": x} | {name: array.astype(np.float32) for name, array in expected.items()}, folder / "data.safetensors")
    onnx.save(onnx_model(shape, layers), folder / "model.onnx")
    case = shape._asdict() | {"moved_by_rounding": moved}
    (folder / "case.json").write_text(json.dumps(case) + "\n")
    return case


CONTROL = Shape("lstm", 1, 16, 1, 4)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("shapes", nargs="+", type=Shape.parse, help="[gru:][Lx]H,B,T")
    arguments = parser.parse_args()
    for shape in arguments.shapes:
        write(arguments.out / str(shape), shape)
    write(arguments.out / "control", CONTROL, damage=True)


if __name__ == "__main__":
    main()
