"""ONNX Runtime's CPU backend on the case's ONNX model."""

import onnxruntime
from exchange import THREADS, cpu, measure


def prepare(folder, _weights, x):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS or 0
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(folder / "model.onnx", options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"X": x})[0]


measure(onnxruntime.__version__, cpu(), prepare)
