"""Writes the cases that every peer reads: weights, input, the output expected, and the same network as ONNX.

One folder per case under OUT:

    weights.safetensors   weight_ih_l0 [4H, I], weight_hh_l0 [4H, H], bias_ih_l0 [4H], bias_hh_l0 [4H]: PyTorch's names and gates
    data.safetensors      input [T, B, I], expected [T, B, H], both f32; expected was computed in f64
    model.onnx            one LSTM node: X [T, B, I] to Y [T, 1, B, H]
    case.json             sizes

The reference is NumPy's f64, written out below, so that no engine that is timed also sets the answer.
"""

import argparse
import json
import pathlib

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save_file

NAMES = ["weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"]


def lstm(weights, x):
    """h of all steps [T, B, H] in f64; gates i, f, g, o."""
    w, r, b, c = (weights[name].astype(np.float64) for name in NAMES)
    hidden = r.shape[1]
    state = np.zeros((x.shape[1], hidden))
    cell = np.zeros_like(state)
    out = []
    for step in x.astype(np.float64):
        gates = step @ w.T + b + state @ r.T + c
        i, f, g, o = np.split(gates, 4, axis=1)
        i, f, o = (1 / (1 + np.exp(-gate)) for gate in (i, f, o))
        cell = f * cell + i * np.tanh(g)
        state = o * np.tanh(cell)
        out.append(state)
    return np.stack(out)


def onnx_model(weights, steps, batch, size, hidden):
    """The same network as one ONNX LSTM node, whose gates are i, o, f, c; sizes fixed, as engines like it."""

    def reordered(array):
        i, f, g, o = np.split(array, 4)
        return np.concatenate([i, o, f, g])

    w, r, b, c = (reordered(weights[name]) for name in NAMES)
    constants = {"W": w[None], "R": r[None], "B": np.concatenate([b, c])[None]}
    node = helper.make_node("LSTM", ["X", "W", "R", "B"], ["Y"], hidden_size=hidden)
    graph = helper.make_graph(
        [node],
        "lstm",
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, [steps, batch, size])],
        [helper.make_tensor_value_info("Y", TensorProto.FLOAT, [steps, 1, batch, hidden])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)
    onnx.checker.check_model(model)
    return model


def write(folder, hidden, batch, steps, damage):
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng([hidden, batch, steps])
    bound = 1 / np.sqrt(hidden)
    shapes = [(4 * hidden, hidden), (4 * hidden, hidden), (4 * hidden,), (4 * hidden,)]
    weights = {name: generator.uniform(-bound, bound, shape).astype(np.float32) for name, shape in zip(NAMES, shapes)}
    x = generator.uniform(-1, 1, (steps, batch, hidden)).astype(np.float32)
    expected = lstm(weights, x).astype(np.float32)
    if damage:
        expected[-1, -1, -1] += 0.01  # one number: the control that every peer must call wrong
    save_file(weights, folder / "weights.safetensors")
    save_file({"input": x, "expected": expected}, folder / "data.safetensors")
    onnx.save(onnx_model(weights, steps, batch, hidden, hidden), folder / "model.onnx")
    sizes = {"cell": "lstm", "hidden": hidden, "batch": batch, "steps": steps}
    (folder / "case.json").write_text(json.dumps(sizes) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("shapes", nargs="+", help="H,B,T")
    arguments = parser.parse_args()
    for shape in arguments.shapes:
        hidden, batch, steps = map(int, shape.split(","))
        write(arguments.out / shape, hidden, batch, steps, damage=False)
    write(arguments.out / "control", 16, 1, 4, damage=True)


if __name__ == "__main__":
    main()
