"""Models whose input or output has other axes than a run of gatefold, and what ONNX Runtime makes of each.

    python generate_onnx_axes.py          # writes onnx_axes.zip

Case NAME is `NAME.onnx` and `NAME.golden.safetensors` with `input` and `output`, laid out as in the file.
"""

import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from golden import HERE, generator
from onnx_bundle import bundle, write_golden

# T and the number of features are equal on purpose: the two orders cannot be told apart by the shape.
T, B, I, H = 4, 3, 4, 5


class Graph:
    def __init__(self, name):
        self.nodes, self.constants, self.rng = [], [], generator(name)

    def constant(self, name, array):
        self.constants.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def weight(self, name, *shape):
        return self.constant(name, self.rng.uniform(-0.7, 0.7, shape).astype(np.float32))

    def node(self, op, inputs, output, **attributes):
        self.nodes.append(helper.make_node(op, inputs, [output] if isinstance(output, str) else output, **attributes))
        return output if isinstance(output, str) else output[0]

    def lstm(self, x, directions=1, outputs=("Y",)):
        weights = [self.weight(n, directions, 4 * H, k) for n, k in (("W", I), ("R", H))] + [self.weight("b", directions, 8 * H)]
        return self.node("LSTM", [x, *weights], list(outputs), hidden_size=H, direction="bidirectional" if directions == 2 else "forward")


def channels_first(g):
    y = g.lstm(g.node("Transpose", ["input"], "x", perm=[2, 0, 1]))
    y = g.node("Squeeze", [y, g.constant("one", np.array([1]))], "s")
    return g.node("Transpose", [y], "output", perm=[1, 0, 2])


def four_axes(g):
    return g.lstm(g.node("Transpose", ["input"], "x", perm=[1, 0, 2]), 2, ["output"])


def time_first_answer(g):
    y = g.lstm(g.node("Transpose", ["input"], "x", perm=[1, 0, 2]))
    return g.node("Squeeze", [y, g.constant("one", np.array([1]))], "output")


def last_state(g):
    return g.lstm("input", 2, ["", "output"]) or "output"


def rows(g):
    y = g.lstm("input")
    y = g.node("Reshape", [y, g.constant("shape", np.array([-1, H]))], "r")
    return g.node("MatMul", [y, g.weight("m", H, 2)], "output")


def convolution(g):
    y = g.node("Conv", ["input", g.weight("w", 6, I, 3)], "c", pads=[1, 1])
    return g.node("GlobalMaxPool", [y], "output")


CASES = {
    "channels_first": (channels_first, ["B", I, "T"]),
    "four_axes": (four_axes, ["B", "T", I]),
    "time_first_answer": (time_first_answer, ["B", "T", I]),
    "last_state": (last_state, ["T", "B", I]),
    "rows": (rows, ["T", "B", I]),
    "convolution": (convolution, ["B", I, "T"]),
}

if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        for name, (make, shape) in CASES.items():
            g = Graph(name)
            make(g)
            value = lambda name, shape: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
            graph = helper.make_graph(g.nodes, name, [value("input", shape)], [onnx.ValueInfoProto(name="output")], g.constants)
            model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
            model = onnx.shape_inference.infer_shapes(model)
            data = model.SerializeToString()
            (Path(folder) / f"{name}.onnx").write_bytes(data)
            x = g.rng.standard_normal([{"T": T, "B": B}.get(n, n) for n in shape]).astype(np.float32)
            [y] = onnxruntime.InferenceSession(data).run(["output"], {"input": x})
            write_golden(Path(folder) / f"{name}.golden.safetensors", {"input": x, "output": y})
            print(name, x.shape, y.shape)
        bundle(Path(folder), HERE / "onnx_axes.zip")
