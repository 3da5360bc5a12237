"""Gradients of a loss by PyTorch and by Keras (on PyTorch, in f64): `gradients.st`.

Each case NAME is an entry of the metadata, as JSON: layers, loss and integers. Its numbers are two flat arrays: `NAME.given`
(f32: the tensors in file order, the input `[T, B, I]` unless it is of tokens, the state, the targets of a squared error)
and `NAME.gradients` (f64: of the tensors, of the input, of the state). States are h, then c, of one layer after the other.

    KERAS_BACKEND=torch python generate_gradients.py
"""

import json
import os
import sys

os.environ["KERAS_BACKEND"] = "torch"

import keras
import numpy as np
import torch
import torch.nn.functional as F
from keras.src.backend.common import dtypes
from safetensors.numpy import save_file
from torch import nn

from generate_pytorch_grid import (
    RECURRENT,
    Case,
    Run,
    conv,
    directions,
    draw_input,
    draw_weights,
    join,
    named,
    norm,
    pool,
    recurrent,
)
from golden import HERE, Tensors, dense, embedding, generator, lstm, softmax, uniform

ARRAYS: Tensors = {}
CASES: dict[str, str] = {}
F64 = torch.float64


def flat(parts: list, kind: str) -> np.ndarray:
    arrays = [np.asarray(part, dtype=kind).reshape(-1) for part in parts]
    return np.concatenate(arrays) if arrays else np.zeros(0, kind)


def put(name: str, about: dict, given: list, gradients: list) -> None:
    assert name not in CASES, name
    CASES[name] = json.dumps(about, separators=(",", ":"))
    ARRAYS[f"{name}.given"] = flat(given, "<f4")
    ARRAYS[f"{name}.gradients"] = flat(gradients, "<f8")
    assert all(np.isfinite(array).all() for array in (ARRAYS[f"{name}.given"], ARRAYS[f"{name}.gradients"])), name


class GradientRun(Run):
    """A run whose parameters, input and states keep their gradients."""

    def __init__(self, case: Case, weights: Tensors, given: Tensors):
        super().__init__(case, weights, given, F64)
        self.parts: dict[str, nn.Module] = {}
        self.initial: dict[str, torch.Tensor] = {}
        for layer in case.layers:
            for part in ("h", "c") if layer.get("initial_state") else ():
                name = f"{layer['name']}.initial_{part}"
                if name in self.weights:
                    self.initial[name] = self.weights.pop(name).requires_grad_()
        for tensor in self.given.values():
            if tensor.is_floating_point():
                tensor.requires_grad_()

    def part(self, layer: dict) -> nn.Module | None:
        part = super().part(layer)
        if part is not None:
            self.parts[layer["name"]] = part
        return part

    def state(self, layer: dict) -> tuple[torch.Tensor, ...] | None:
        if not layer.get("initial_state"):
            return super().state(layer)
        tensors = [self.initial[name] for name in self.initial if name.startswith(f"{layer['name']}.")]
        return tuple(tensor[:, None].expand(-1, self.case.batch, -1).contiguous() for tensor in tensors)

    def tensors(self) -> list[tuple[str, torch.Tensor, torch.Tensor | None]]:
        """Name, number and gradient of every tensor, in file order; statistics have no gradient."""
        found = []
        for layer in self.case.layers:
            if (part := self.parts.get(layer.get("name"))) is not None:
                for name, tensor in [*part.named_parameters(), *part.named_buffers()]:
                    if name != "num_batches_tracked":
                        found.append((name, tensor.detach(), tensor.grad if isinstance(tensor, nn.Parameter) else None))
            found += [(n, t.detach(), t.grad) for n, t in self.initial.items() if n.startswith(f"{layer.get('name')}.")]
        return found


def draw_loss(about: dict, loss: str, output: torch.Tensor, rng: np.random.Generator, lengths=None):
    """Adds targets and options to `about`; the loss of `output` and the float targets, if any."""
    rows, width = output.shape[:-1], output.shape[-1]
    counts = torch.ones(rows, dtype=torch.bool)
    if lengths is not None and output.dim() == 3:
        counts = torch.arange(rows[0])[:, None] < torch.as_tensor(lengths)[None]
        about["counts"] = [int(x) for x in counts.reshape(-1)]
    about["loss"] = loss
    if loss == "mse":
        target = uniform(rng, tuple(output.shape), 1.0)
        square = (output - torch.from_numpy(target).to(F64)) ** 2
        return square.mean(-1)[counts].mean(), [target]
    about["classes"] = [int(x) for x in rng.integers(0, width, int(np.prod(rows)))]
    if loss == "smoothed":
        about["label_smoothing"] = 0.125
    if loss == "weighted":
        about["class_weights"] = [float(x) for x in uniform(rng, (width,), 0.5) + np.float32(1.0)]
    classes = torch.tensor(about["classes"]).masked_fill(~counts.reshape(-1), -100)
    weights = torch.tensor(about["class_weights"], dtype=F64) if "class_weights" in about else None
    smoothing = about.get("label_smoothing", 0.0)
    return F.cross_entropy(output.reshape(-1, width), classes, weights, label_smoothing=smoothing), []


def torch_case(name: str, *layers: dict, loss: str = "mse", time: int = 5, batch: int = 3, **options) -> None:
    case = Case(name, list(layers), time, batch, **options)
    rng = generator(name)
    weights = {key: value for key, value in draw_weights(case, rng).items()}
    for layer in layers:
        if layer.get("initial_state"):
            states = layer.get("num_layers", 1) * directions(layer)
            weights[f"{layer['name']}.initial_h"] = uniform(rng, (states, layer.get("proj_size") or layer["hidden_size"]), 1.0)
            if layer["type"] == "lstm":
                weights[f"{layer['name']}.initial_c"] = uniform(rng, (states, layer["hidden_size"]), 1.0)
    given = draw_input(case, rng)
    run = GradientRun(case, weights, given)
    # A loss from logits takes what a softmax would read.
    case.layers = [layer for layer in layers if layer["type"] != "softmax"]
    output = run.forward()
    about = {"layers": list(layers), "shape": [time, batch]}
    lengths = given.get("lengths")
    if lengths is not None:
        about["lengths"] = [int(x) for x in lengths]
    value, targets = draw_loss(about, loss, output, rng, lengths)
    value.backward()
    about["value"] = value.item()
    tensors = run.tensors()
    numbers, gradients = [tensor for _, tensor, _ in tensors], [grad for *_, grad in tensors if grad is not None]
    if "embedding" == layers[0]["type"]:
        about["tokens"] = [int(x) for x in given["input"].reshape(-1)]
    else:
        numbers.append(given["input"])
        gradients.append(run.given["input"].grad)
        about["input_size"] = given["input"].shape[-1]
    states = [key for key in given if key.endswith(("_0",))]
    if states:
        about["state"] = True
        numbers += [given[key] for key in states]
        gradients += [run.given[key].grad for key in states]
    put(name, about, numbers + targets, gradients)


def torch_cases() -> None:
    for levels in (1, 2):
        for both in (False, True):
            for proj in (0, 2):
                for lengths in (False, True):
                    layer = lstm("layer", 3, 4, num_layers=levels, bidirectional=both, proj_size=proj)
                    name = f"lstm_l{levels}" + "_bi" * both + "_proj" * bool(proj) + "_lengths" * lengths
                    torch_case(name, layer, lengths=lengths, initial_state=True)
    for kind in ("gru", "rnn"):
        for levels, both, lengths in [(1, False, False), (1, True, True), (2, False, True), (2, True, False)]:
            for functions in (["tanh"], ["relu"]) if kind == "rnn" else ([],):
                layer = recurrent(kind, "layer", 3, 4, num_layers=levels, bidirectional=both)
                layer |= {"activations": functions} if functions == ["relu"] else {}
                name = f"{kind}_l{levels}" + "_bi" * both + "_lengths" * lengths + "_relu" * (functions == ["relu"])
                torch_case(name, layer, lengths=lengths, initial_state=True)
    for kind in RECURRENT:
        last = recurrent(kind, "layer", 3, 4, bidirectional=True, output="last", initial_state=True)
        torch_case(f"{kind}_last_learned_state", last, dense("d", 8, 2), lengths=True)
        torch_case(f"{kind}_no_bias", recurrent(kind, "layer", 3, 4, bias=False))
        stack = recurrent(kind, "a", 3, 17, output="sequence"), recurrent(kind, "b", 17, 5, output="last")
        torch_case(f"{kind}_wider_than_a_vector", *stack, dense("d", 5, 3), softmax(), loss="cross_entropy")
    for activation in ("linear", "relu", "tanh", "sigmoid"):
        torch_case(f"dense_{activation}", dense("d", 4, 3, activation=activation))
    tokens = embedding("e", 7, 3)
    torch_case("embedding", tokens, dense("d", 3, 4), softmax(), loss="cross_entropy")
    torch_case("embedding_padding", tokens, recurrent("gru", "g", 3, 4), dense("d", 4, 3), lengths=True)
    torch_case("embedding_padding_last", tokens, lstm("l", 3, 4, output="last"), dense("d", 4, 3), softmax(),
               loss="smoothed", lengths=True)  # fmt: skip
    for name, layer in {
        "conv": conv("c", 4, 3, 3),
        "conv_padding_stride": conv("c", 4, 3, 3, (2, 2), stride=2, activation="tanh"),
        "conv_dilation_groups": conv("c", 4, 2, 2, (1, 1), dilation=2, groups=2),
        "conv_same": conv("c", 4, 3, 4, "same", activation="relu"),
    }.items():
        torch_case(name, layer, time=7)
    torch_case("layer_norm", norm("layer_norm", 4, 1e-5))
    torch_case("batch_norm", norm("batch_norm", 4, 1e-5))
    torch_case("max_pool", dense("d", 4, 3), pool("max", 3, 2, (1, 1)), time=7)
    torch_case("average_pool", dense("d", 4, 3), pool("average", 3, 2, (1, 1), count_include_pad=True), time=7)
    torch_case("average_pool_not_counted", dense("d", 4, 3), pool("average", 3, 2, (1, 1)), time=7)
    for kind in ("max", "average"):
        torch_case(f"global_{kind}", dense("d", 4, 3), named("global_pool", "p", pool=kind))
    torch_case("residual", dense("d", 4, 4, activation="tanh"), join("add", "input", "d"), dense("o", 4, 2))
    for loss in ("cross_entropy", "smoothed", "weighted"):
        torch_case(f"loss_{loss}", dense("d", 4, 3), softmax(), loss=loss)


def gru_gates(matrix: np.ndarray) -> np.ndarray:
    """Rows z, r, h as r, z, n."""
    z, r, n = np.split(matrix, 3)
    return np.concatenate([r, z, n])


def keras_tensors(layer, numbers: list[np.ndarray], gradients: bool = False) -> list[np.ndarray]:
    """The weights of a Keras layer, or their gradients, as gatefold's tensors. Where Keras has one bias, the second is 0; its
    gradient is that of the first."""
    if isinstance(layer, keras.layers.Bidirectional):
        half = len(numbers) // 2
        return [t for part in (numbers[:half], numbers[half:]) for t in keras_tensors(layer.forward_layer, part, gradients)]
    if isinstance(layer, keras.layers.Embedding):
        return numbers
    if isinstance(layer, keras.layers.Dense):
        return [numbers[0].T, numbers[1]]
    gates = gru_gates if isinstance(layer, keras.layers.GRU) else lambda matrix: matrix
    second = numbers[2] if gradients else np.zeros_like(numbers[2])
    biases = list(numbers[2]) if numbers[2].ndim == 2 else [numbers[2], second]
    return [gates(tensor) for tensor in (numbers[0].T, numbers[1].T, *biases)]


def keras_case(name: str, layers: list[dict], parts: list, loss: str = "mse", time: int = 6, batch: int = 3) -> None:
    """`parts` are Keras layers that do what `layers` say; the loss reads the output of the last that is no softmax."""
    rng = generator(name)
    about = {"layers": layers, "shape": [time, batch]}
    tokens = layers[0]["type"] == "embedding"
    if tokens:
        x = rng.integers(0, layers[0]["num_embeddings"], (time, batch))
        x[rng.integers(1, time, batch), range(batch)] = 0
        x[0, 0] = 0
        about["tokens"] = [int(i) for i in x.reshape(-1)]
        inputs = torch.from_numpy(np.ascontiguousarray(x.T))
    else:
        about["input_size"] = layers[0]["input_size"]
        x = uniform(rng, (time, batch, layers[0]["input_size"]), 1.5)
        inputs = torch.from_numpy(x).to(F64).transpose(0, 1).contiguous().requires_grad_()
    model = keras.Sequential(parts)
    model.build(tuple(inputs.shape))
    weights = [uniform(rng, tuple(weight.shape), 0.5) for weight in model.weights]
    model.set_weights(weights)
    output = model(inputs)
    output = output.transpose(0, 1) if output.dim() == 3 else output
    value, targets = draw_loss(about, loss, output, rng)
    value.backward()
    about["value"] = value.item()
    numbers, gradients = [], []
    for layer in parts:
        numbers += keras_tensors(layer, [v.value.detach().numpy() for v in layer.weights])
        gradients += keras_tensors(layer, [v.value.grad.numpy() for v in layer.weights], True)
    if not tokens:
        numbers.append(x)
        gradients.append(inputs.grad.transpose(0, 1).numpy())
    put(name, about, numbers + targets, gradients)


def keras_in_f64() -> None:
    """Keras makes an operation on f64 numbers one on f32 numbers on any backend but TensorFlow."""
    keras.config.set_floatx("float64")
    dtypes.BIT64_TO_BIT32_DTYPE["float64"] = "float64"


def keras_cases() -> None:
    keras_in_f64()
    k = keras.layers
    for after in (True, False):
        name = f"keras_gru_reset_{'after' if after else 'before'}"
        gru = recurrent("gru", "g", 3, 4, reset_after=after)
        keras_case(name, [gru], [k.GRU(4, reset_after=after, return_sequences=True)])
        masked = recurrent("gru", "g", 3, 4, reset_after=after, masked_output="previous")
        masked = [embedding("e", 6, 3) | {"mask_zero": True}, masked | {"output": "last"}, dense("d", 4, 2)]
        parts = [k.Embedding(6, 3, mask_zero=True), k.GRU(4, reset_after=after), k.Dense(2)]
        keras_case(f"{name}_masked", masked, parts)
    tokens = embedding("e", 6, 3) | {"mask_zero": True}
    for both in (False, True):
        for sequence in (False, True):
            masked = "zero" if both and sequence else "previous"
            layer = lstm("l", 3, 4, bidirectional=both, masked_output=masked, output="sequence" if sequence else "last")
            part = k.LSTM(4, return_sequences=sequence)
            part = k.Bidirectional(part) if both else part
            name = "keras_lstm_masked" + "_bi" * both + "_sequence" * sequence
            keras_case(name, [tokens, layer, dense("d", 8 if both else 4, 2)], [k.Embedding(6, 3, mask_zero=True), part, k.Dense(2)])
    sentiment = [embedding("e", 12, 4), lstm("l", 4, 5, output="last"), dense("d", 5, 2), softmax()]
    keras_case("keras_sentiment", sentiment, [k.Embedding(12, 4), k.LSTM(5), k.Dense(2)], loss="cross_entropy")
    rnn = recurrent("rnn", "r", 3, 4, output="last")
    keras_case("keras_rnn", [rnn, dense("d", 4, 2)], [k.SimpleRNN(4), k.Dense(2)])


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch_cases()
    keras_cases()
    path = HERE / "gradients.st"
    save_file(ARRAYS, path, metadata=CASES)
    print(f"{len(CASES)} cases, {path.stat().st_size} bytes", file=sys.stderr)
