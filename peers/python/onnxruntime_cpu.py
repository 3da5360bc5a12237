"""ONNX Runtime's CPU backend on the case's ONNX model."""

import onnxruntime
from exchange import measure


def prepare(folder, _weights, x):
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"X": x})[0]


measure(onnxruntime.__version__, "CPU, all threads", prepare)
