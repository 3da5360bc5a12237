"""Writes the model of `server/`: an LSTM of 40 features, H 128, its state an input and an output, with a head of two outputs."""

import sys

import numpy as np
import onnx
from onnx import TensorProto, helper

I, H, N = 40, 128, 2
rng = np.random.default_rng(1)


def weight(name: str, *shape: int) -> onnx.TensorProto:
    return onnx.numpy_helper.from_array(rng.uniform(-0.09, 0.09, shape).astype("f4"), name)


def value(name: str, *shape: int) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


nodes = [
    helper.make_node("LSTM", ["x", "W", "R", "B", "", "h", "c"], ["", "h_n", "c_n"], hidden_size=H),
    helper.make_node("Squeeze", ["h_n", "first"], ["rows"]),
    helper.make_node("Gemm", ["rows", "V", "b"], ["z"]),
    helper.make_node("Tanh", ["z"], ["y"]),
]
weights = [weight("W", 1, 4 * H, I), weight("R", 1, 4 * H, H), weight("B", 1, 8 * H), weight("V", H, N), weight("b", N)]
weights.append(onnx.numpy_helper.from_array(np.array([0], "i8"), "first"))
graph = helper.make_graph(
    nodes,
    "stream",
    [value("x", 1, 1, I), value("h", 1, 1, H), value("c", 1, 1, H)],
    [value("y", 1, N), value("h_n", 1, 1, H), value("c_n", 1, 1, H)],
    weights,
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
onnx.checker.check_model(model)
onnx.save(model, sys.argv[1])
