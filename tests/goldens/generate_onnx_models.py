"""Whole models as PyTorch's two exporters, tf2onnx and Keras write them, and what the frameworks give.

    /opt/torch/bin/python generate_onnx_models.py torch OUT
    /opt/train/bin/python generate_onnx_models.py keras OUT
    /opt/torch/bin/python generate_onnx_models.py zip OUT   # OUT/*.onnx and OUT/*.golden.safetensors to onnx_models.zip,
                                                           # one of them with external data to onnx_external.zip

Goldens hold `input` (f32 or i32) and `output`. Where an exporter fails it is said; the test counts the models.
"""

import shutil
import sys
from pathlib import Path

import numpy as np

from onnx_bundle import bundle, write_golden

SEED = 20261124


def run(path, inputs):
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [i.name for i in session.get_inputs()]
    assert len(names) == len(inputs), (path, names)
    return session.run(None, dict(zip(names, inputs)))


def torch_models():
    import torch
    from torch import nn

    class Take(nn.Module):
        """A recurrent stack, then something made of its outputs."""

        def __init__(self, rnn, head=None, take="y", before=None, middle=None):
            super().__init__()
            self.before, self.rnn, self.middle, self.head, self.take = before, rnn, middle, head, take

        def forward(self, x):
            if self.before is not None:
                x = self.before(x)
            y, state = self.rnn(x)
            h = state[0] if isinstance(state, tuple) else state
            if self.middle is not None:
                y = self.middle(y)
            if self.take == "last_step":
                y = y[:, -1, :] if self.rnn.batch_first else y[-1]
            elif self.take == "h":
                y = h[-1]
            elif self.take == "h_both":
                y = torch.cat([h[-2], h[-1]], dim=1)
            elif self.take == "mean":
                y = y.mean(dim=1)
            elif self.take == "max":
                y = y.max(dim=1).values
            return y if self.head is None else self.head(y)

    class Wrap(nn.Module):
        def __init__(self, parts, forward):
            super().__init__()
            for name, part in parts.items():
                setattr(self, name, part)
            self.run = forward

        def forward(self, x):
            return self.run(self, x)

    class ChannelsFirst(nn.Module):
        def __init__(self, *layers):
            super().__init__()
            self.layers = nn.Sequential(*layers)

        def forward(self, x):
            return self.layers(x.transpose(1, 2)).transpose(1, 2)

    def residual(m, x):
        y, _ = m.rnn(x)
        return m.out(x + y)

    def two_branches(m, x):
        return m.out(torch.cat([m.a(x)[0], m.b(x)[0]], dim=2))

    def given_zeros(m, x):
        h = torch.zeros(2, x.shape[0], 6)
        y, _ = m.rnn(x, (h, torch.zeros_like(h)))
        return m.out(y)

    def gated(m, x):
        y, _ = m.rnn(x)
        return y * torch.sigmoid(m.gate(y))

    f = lambda *shape: torch.randn(*shape)
    models = {
        "lstm": (Take(nn.LSTM(5, 7)), f(6, 3, 5)),
        "gru": (Take(nn.GRU(5, 7, batch_first=True)), f(3, 6, 5)),
        "rnn_relu": (Take(nn.RNN(5, 7, nonlinearity="relu", batch_first=True)), f(3, 6, 5)),
        "lstm_two_layers_bidirectional": (Take(nn.LSTM(5, 6, 2, bidirectional=True, batch_first=True)), f(3, 7, 5)),
        "gru_two_layers_bidirectional": (Take(nn.GRU(5, 6, 2, bidirectional=True)), f(7, 2, 5)),
        "lstm_last_step_softmax": (Take(nn.LSTM(4, 6, batch_first=True), nn.Sequential(nn.Linear(6, 3), nn.Softmax(-1)), "last_step"), f(2, 5, 4)),
        "lstm_h_relu_dense": (Take(nn.LSTM(4, 6, 2, batch_first=True), nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 2)), "h"), f(2, 5, 4)),
        "lstm_h_both_directions": (Take(nn.LSTM(4, 6, 1, bidirectional=True, batch_first=True), nn.Linear(12, 3), "h_both"), f(2, 5, 4)),
        "embedding_gru_mean": (Take(nn.GRU(5, 6, batch_first=True), nn.Sequential(nn.Linear(6, 4), nn.GELU(), nn.Linear(4, 1), nn.Sigmoid()), "mean", nn.Embedding(19, 5)), torch.randint(0, 19, (3, 8))),
        "conv_pool_lstm": (Take(nn.LSTM(6, 5, batch_first=True), nn.Linear(5, 2), "y", ChannelsFirst(nn.Conv1d(4, 6, 3, padding=1), nn.ReLU(), nn.MaxPool1d(2))), f(2, 10, 4)),
        "conv_strided_average_gru": (Take(nn.GRU(6, 5, batch_first=True), None, "max", ChannelsFirst(nn.Conv1d(4, 6, 3, stride=2, dilation=2, groups=2, bias=False), nn.ELU(), nn.AvgPool1d(2, 1, padding=1))), f(2, 16, 4)),
        "layer_norm": (Take(nn.LSTM(5, 6, batch_first=True), nn.Linear(6, 3), "y", nn.LayerNorm(5), nn.LayerNorm(6)), f(2, 5, 5)),
        "batch_norm": (Take(nn.LSTM(5, 6, batch_first=True), nn.Linear(6, 3), "y", ChannelsFirst(nn.BatchNorm1d(5)), ChannelsFirst(nn.BatchNorm1d(6))), f(2, 5, 5)),
        "residual": (Wrap({"rnn": nn.LSTM(6, 6, batch_first=True), "out": nn.Linear(6, 4)}, residual), f(2, 5, 6)),
        "two_branches": (Wrap({"a": nn.LSTM(6, 4, batch_first=True), "b": nn.GRU(6, 5, batch_first=True), "out": nn.Linear(9, 4)}, two_branches), f(2, 5, 6)),
        "zero_state": (Wrap({"rnn": nn.LSTM(4, 6, 2, batch_first=True), "out": nn.Sequential(nn.Dropout(0.3), nn.Linear(6, 4), nn.Hardtanh())}, given_zeros), f(2, 5, 4)),
        "gate": (Wrap({"rnn": nn.GRU(4, 6, batch_first=True), "gate": nn.Linear(6, 6)}, gated), f(2, 5, 4)),
        "activations": (Take(nn.LSTM(4, 6, batch_first=True), nn.Sequential(nn.Linear(6, 6), nn.SiLU(), nn.Linear(6, 6), nn.GELU(approximate="tanh"), nn.Linear(6, 6), nn.Softplus(), nn.Softsign(), nn.Linear(6, 6), nn.Mish(), nn.SELU(), nn.LeakyReLU(0.2), nn.Hardsigmoid(), nn.Tanh())), f(2, 5, 4)),
    }
    return models


def export_torch(out):
    import torch

    for index, (name, (model, x)) in enumerate(torch_models().items()):
        torch.manual_seed(SEED + index)
        model = model.eval()
        with torch.no_grad():
            for tensor in list(model.parameters()) + list(model.buffers()):
                if tensor.is_floating_point():
                    tensor.uniform_(-0.6, 0.6)
            for module in model.modules():
                if isinstance(module, torch.nn.BatchNorm1d):
                    module.running_var.uniform_(0.3, 1.7)
        expected = model(x).detach().numpy()
        for exporter in ("script", "dynamo"):
            path = out / f"torch_{exporter}_{name}.onnx"
            try:
                if exporter == "script":
                    torch.onnx.export(model, (x,), path, dynamo=False, opset_version=17, input_names=["input"], output_names=["output"],
                                      dynamic_axes={"input": {0: "a", 1: "b"}})
                else:
                    torch.onnx.export(model, (x,), path, dynamo=True, external_data=False, input_names=["input"], output_names=["output"])
            except Exception as error:  # told, and seen in the count
                print("EXPORT FAILED", path.name, str(error).splitlines()[0][:200])
                path.unlink(missing_ok=True)
                continue
            [got] = run(path, [x.numpy()])
            assert np.allclose(got, expected, atol=2e-5), (name, np.abs(got - expected).max())
            save(path, x.numpy(), expected)


def export_keras(out):
    import keras
    import tensorflow as tf
    import tf2onnx
    from keras import layers as l

    def sequential(shape, *parts, dtype="float32"):
        return keras.Sequential([keras.Input(shape, dtype=dtype), *parts])

    def branches():
        x = keras.Input((5, 4))
        a, b = l.LSTM(6, return_sequences=True)(x), l.LSTM(6, return_sequences=True, go_backwards=True)(x)
        y = l.Dense(3)(l.Concatenate()([l.add([a, b]), l.multiply([a, b]), l.maximum([a, b])]))
        return keras.Model(x, y)

    f = lambda *shape: np.random.default_rng(SEED).standard_normal(shape).astype(np.float32)
    models = {
        "lstm_dense": (sequential((6, 4), l.LSTM(5), l.Dense(3, activation="softmax")), f(2, 6, 4)),
        "gru_sequence": (sequential((6, 4), l.GRU(5, return_sequences=True), l.Dense(3, activation="relu")), f(2, 6, 4)),
        "gru_reset_before": (sequential((6, 4), l.GRU(5, reset_after=False)), f(2, 6, 4)),
        "simple_rnn": (sequential((6, 4), l.SimpleRNN(5)), f(2, 6, 4)),
        "bidirectional_lstm": (sequential((6, 4), l.Bidirectional(l.LSTM(5, return_sequences=True)), l.Dense(2)), f(2, 6, 4)),
        "bidirectional_gru_last": (sequential((6, 4), l.Bidirectional(l.GRU(5)), l.Dense(2, activation="sigmoid")), f(2, 6, 4)),
        "conv_pool_lstm": (sequential((12, 4), l.Conv1D(6, 3, padding="same", activation="relu"), l.MaxPooling1D(2), l.LSTM(5)), f(2, 12, 4)),
        "embedding_lstm": (sequential((7,), l.Embedding(17, 5), l.LSTM(6, return_sequences=True), l.GlobalAveragePooling1D(), l.Dense(1, activation="sigmoid"), dtype="int32"), np.random.default_rng(SEED).integers(0, 17, (3, 7)).astype(np.int32)),
        "norms": (sequential((6, 4), l.BatchNormalization(), l.LSTM(5, return_sequences=True), l.LayerNormalization(), l.GlobalMaxPooling1D()), f(2, 6, 4)),
        "branches": (branches(), f(2, 5, 4)),
    }
    for name, (model, x) in models.items():
        random = np.random.default_rng(SEED)
        model.set_weights([random.uniform(0.3 if "variance" in w.path else -0.6, 0.9, w.shape) for w in model.weights])
        expected = np.asarray(model(x))
        for exporter in ("tf2onnx", "keras"):
            path = out / f"{exporter}_{name}.onnx"
            try:
                if exporter == "tf2onnx":
                    spec = (tf.TensorSpec((None, *x.shape[1:]), x.dtype, name="input"),)
                    tf2onnx.convert.from_function(tf.function(lambda input: model(input)), input_signature=spec, opset=17, output_path=str(path))
                else:
                    model.export(path, format="onnx", verbose=False)
            except Exception as error:
                print("EXPORT FAILED", path.name, repr(error).splitlines()[0][:200])
                path.unlink(missing_ok=True)
                continue
            [got] = run(path, [x])
            assert np.allclose(got, expected, atol=2e-5), (name, np.abs(got - expected).max())
            save(path, x, expected)


def save(path, x, expected):
    x = x.astype(np.int32 if np.issubdtype(x.dtype, np.integer) else np.float32)
    write_golden(path.with_suffix(".golden.safetensors"), {"input": x, "output": np.asarray(expected, np.float32)})
    print(path.name, path.stat().st_size)


def external(out):
    """A model whose tensors lie in a file beside it."""
    import onnx

    folder = out / "external"
    folder.mkdir(exist_ok=True)
    (folder / "weights.bin").unlink(missing_ok=True)
    model = onnx.load(out / "torch_script_lstm.onnx")
    onnx.save_model(model, folder / "model.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0)
    shutil.copy(out / "torch_script_lstm.golden.safetensors", folder / "model.golden.safetensors")
    bundle(folder, Path(__file__).with_name("onnx_external.zip"))


if __name__ == "__main__":
    what, out = sys.argv[1], Path(sys.argv[2])
    out.mkdir(exist_ok=True)
    if what == "zip":
        bundle(out, Path(__file__).with_name("onnx_models.zip"))
        external(out)
    else:
        {"torch": export_torch, "keras": export_keras}[what](out)
