"""OpenVINO's CPU plugin on the case's ONNX model; products in f32."""

import openvino
from exchange import THREADS, cpu, measure

OPTIONS = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32", "NUM_STREAMS": 1}


def prepare(folder, _weights, x):
    threads = {} if THREADS is None else {"INFERENCE_NUM_THREADS": THREADS}
    model = openvino.Core().compile_model(folder / "model.onnx", "CPU", OPTIONS | threads)
    request = model.create_infer_request()
    # Its fastest way: neither side is copied.
    return lambda: request.infer({"X": x}, share_inputs=True, share_outputs=True)[0]


measure(openvino.__version__.split("-")[0], cpu(), prepare)
