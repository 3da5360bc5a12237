"""Writes amp.zip: small networks of random weights as Neural Amp Modeler, GuitarML, RTNeural and AIDA-X store them, each with
an input and the output that PyTorch or Keras computes in float64.

    python generate_amp.py

Needs torch, keras with TensorFlow, numpy, safetensors.
"""

import json
import os
import zipfile

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import keras
import numpy as np
import safetensors.numpy
import torch

STEPS = 48
random = np.random.default_rng(22)
FILES = {}


def add(name, ending, file, x, y):
    """A file, and its input and output as `NAME.st`."""
    FILES[f"{name}{ending}"] = json.dumps(file).encode()
    arrays = {"x": np.ascontiguousarray(x, np.float32), "y": np.ascontiguousarray(y, np.float32)}
    FILES[f"{name}.st"] = safetensors.numpy.save(arrays)


def samples(rows, inputs):
    return (0.5 * random.standard_normal((rows, STEPS, inputs))).astype(np.float32)


def randomize(module, scale=0.5):
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.from_numpy(scale * random.standard_normal(parameter.shape)).float().double())


def numbers(tensor):
    return tensor.detach().numpy().astype(np.float32).tolist()


def nam(name, hidden, levels, inputs=1):
    core = torch.nn.LSTM(inputs, hidden, levels, batch_first=True).double()
    head = torch.nn.Linear(hidden, 1).double()
    for module in (core, head):
        randomize(module)
    h, c = (torch.from_numpy(0.4 * random.standard_normal((levels, hidden))).float().double() for _ in range(2))
    weights = []
    for level in range(levels):
        w, u, b, d = (getattr(core, f"{kind}_l{level}") for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
        with torch.no_grad():
            b.copy_((b + d).float().double())
            d.zero_()
        for part in (torch.cat([w, u], 1), b, h[level], c[level]):
            weights += numbers(part.flatten())
    weights += numbers(head.weight.flatten()) + numbers(head.bias)
    x = samples(2, inputs)
    state = tuple(part[:, None].repeat(1, 2, 1).contiguous() for part in (h, c))
    y = head(core(torch.from_numpy(x).double(), state)[0]).detach().numpy()
    config = {"input_size": inputs, "hidden_size": hidden, "num_layers": levels}
    file = {"version": "0.5.4", "metadata": {"name": name}, "architecture": "LSTM", "config": config}
    add(name, ".nam", {**file, "weights": weights, "sample_rate": 48000}, x, y)


def guitarml(name, unit, hidden, skip, inputs=1, levels=1, bias=True):
    core = getattr(torch.nn, unit)(inputs, hidden, levels, bias=bias).double()
    lin = torch.nn.Linear(hidden, 1, bias=bias).double()
    for module in (core, lin):
        randomize(module)
    state = {f"rec.{key}": numbers(value) for key, value in core.state_dict().items()}
    state |= {f"lin.{key}": numbers(value) for key, value in lin.state_dict().items()}
    model = {"model": "SimpleRNN", "input_size": inputs, "output_size": 1, "unit_type": unit, "num_layers": levels}
    model |= {"hidden_size": hidden, "bias_fl": bias} | ({} if skip is None else {"skip": skip})
    x = samples(2, inputs).transpose(1, 0, 2)
    double = torch.from_numpy(np.ascontiguousarray(x)).double()
    y = lin(core(double)[0]) + (0.0 if skip == 0 else double[:, :, :1])
    add(name, ".json", {"model_data": model, "state_dict": state}, x, y.detach().numpy())


KINDS = {"LSTM": "lstm", "GRU": "gru", "Dense": "dense", "Conv1D": "conv1d", "BatchNormalization": "batchnorm"}
KINDS |= {"PReLU": "prelu", "Activation": "activation"}


def rtneural(name, ending, layers, inputs=1, **fields):
    """Keras layers as RTNeural's scripts write them."""
    model = keras.Sequential([keras.Input((None, inputs), dtype="float64"), *layers])
    written = []
    for layer in model.layers:
        arrays = [(0.5 * random.standard_normal(w.shape)).astype(np.float32) for w in layer.get_weights()]
        if isinstance(layer, keras.layers.BatchNormalization):
            arrays[-1] = np.abs(arrays[-1]) + np.float32(0.5)
        layer.set_weights(arrays)
        one = {"type": KINDS[type(layer).__name__], "activation": "", "shape": [None, None, layer.output.shape[-1]]}
        if isinstance(layer, (keras.layers.Dense, keras.layers.Conv1D, keras.layers.Activation)):
            one["activation"] = layer.activation.__name__.replace("linear", "")
        if isinstance(layer, (keras.layers.LSTM, keras.layers.GRU)):
            one["activation"] = "tanh"
        if isinstance(layer, keras.layers.Conv1D):
            one |= {"kernel_size": list(layer.kernel_size), "dilation": list(layer.dilation_rate), "groups": layer.groups}
        if isinstance(layer, keras.layers.BatchNormalization):
            one["epsilon"] = layer.epsilon
        written.append({**one, "weights": [array.tolist() for array in arrays]})
    x = samples(2, inputs)
    gain = lambda key: 10.0 ** (fields.get(key, 0.0) / 20.0)
    scaled = x.astype(np.float64)
    scaled[:, :, 0] *= np.float32(gain("in_gain"))
    y = model.predict(scaled, verbose=0)
    if fields.get("in_skip"):
        y = y + scaled[:, :, :1]
    y = y * np.float32(gain("out_gain"))
    add(name, ending, {"in_shape": [None, None, inputs], "layers": written, **fields}, x, y)


def main():
    keras.config.set_floatx("float64")
    nam("nam", 3, 1)
    nam("nam_levels", 4, 3)
    nam("nam_knobs", 4, 1, inputs=3)
    guitarml("guitarml", "LSTM", 5, None)
    guitarml("guitarml_gru", "GRU", 4, 1, inputs=2)
    guitarml("guitarml_rnn", "RNN", 4, 0, levels=2)
    guitarml("guitarml_no_bias", "LSTM", 4, 1, bias=False)
    k = keras.layers
    lstm = lambda n: k.LSTM(n, return_sequences=True)
    gru = lambda n: k.GRU(n, return_sequences=True)
    rtneural("rtneural_lstm", ".json", [lstm(5), k.Dense(1)])
    rtneural("rtneural_gru", ".json", [gru(6), k.Dense(4, "sigmoid"), k.Dense(1)])
    rtneural("rtneural_layers", ".json", [
        k.Dense(4, "tanh"), k.PReLU(shared_axes=[1]), k.Conv1D(4, 3, padding="causal", dilation_rate=2, activation="relu"),
        k.BatchNormalization(), k.Conv1D(6, 2, padding="causal", groups=2), k.Activation("elu"), lstm(5), gru(4),
        k.Dense(2),
    ], inputs=2)
    rtneural("aidax", ".aidax", [lstm(4), k.Dense(1)], in_skip=1, in_gain=-6.0, out_gain=3.5, samplerate=48000)
    rtneural("aidax_knobs", ".json", [gru(4), k.Dense(1)], inputs=3, in_skip=1, in_gain=2.0)
    folder = os.path.dirname(os.path.abspath(__file__))
    with zipfile.ZipFile(os.path.join(folder, "amp.zip"), "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, content in sorted(FILES.items()):
            archive.writestr(zipfile.ZipInfo(name, (2026, 12, 1, 0, 0, 0)), content, zipfile.ZIP_DEFLATED, 9)


main()
