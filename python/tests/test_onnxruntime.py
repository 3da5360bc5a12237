"""ONNX files of the goldens, live against ONNX Runtime, with the axes of the file."""

import numpy as np
import pytest
from support import bundle, close, device, framework

import gatefold_rnn as gf

runtime = framework("onnxruntime")


def session(data: bytes):
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return runtime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def test_files_agree_with_onnx_runtime():
    """Every file of one input of numbers that both read; T is 7 and B is 3 where the file leaves them open."""
    compared, other, missed, traced = 0, 0, [], []
    for name, data in sorted(bundle("onnx_files.zip").items()):
        if not name.endswith(".onnx"):
            continue
        try:
            run = session(data)
        except runtime.capi.onnxruntime_pybind11_state.NotImplemented:
            other += 1  # an LSTM of opset 1
            continue
        inputs = run.get_inputs()
        net = gf.load(data, name=name, device=device())
        if len(inputs) != 1 or inputs[0].type != "tensor(float)" or net.file_axes is None or net.inputs[0]["kind"] == "tokens":
            other += 1
            continue
        axes = net.file_axes[0].strip("[]").split(", ")
        sizes = {"T": 7, "B": 3, "N": net.inputs[0]["width"]}
        shape = [size if isinstance(size, int) else sizes[axis] for size, axis in zip(inputs[0].shape, axes)]
        if len(shape) != len(axes) or len(axes) == 2 and len(net.inputs[0]["axes"].split(",")) == 3:
            other += 1
            continue
        x = np.random.default_rng(1).uniform(-1, 1, shape).astype(np.float32)
        try:
            expected = np.asarray(run.run(None, {inputs[0].name: x})[0])
        except runtime.capi.onnxruntime_pybind11_state.Fail:
            # An exporter wrote the T that it saw into a file that leaves T open: neither runs another.
            with pytest.raises(ValueError, match="steps"):
                net(x, file_order=True)
            traced.append(name)
            continue
        if expected.dtype != np.float32:
            other += 1
            continue
        try:
            y = net(x, file_order=True)
        except ValueError as error:
            missed.append((name, str(error)))
            continue
        y = y[net.outputs[0]] if isinstance(y, dict) else y
        compared += 1
        y, expected = np.squeeze(y), np.squeeze(expected)
        # ONNX Runtime rounds the inputs of its dynamically quantized LSTM to integers, gatefold does not.
        rounds = name == "hand_dynamic_quantize_lstm.onnx" and y.shape == expected.shape and np.abs(y - expected).max() < 1e-2
        if not rounds and not close(y, expected, 7):
            missed.append(name)
    assert missed == [] and compared > 100 and len(traced) == 4, (missed, compared, other, traced)
    assert not close(y + 1e-4, expected, 7), "the control"


def test_what_onnx_runtime_refuses_is_no_panic():
    for data in (b"\x08\x08", b"\x08" + b"\xff" * 40):
        with pytest.raises(Exception):
            session(data)
        with pytest.raises(ValueError):
            gf.load(data)
