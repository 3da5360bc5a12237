"""PyTorch modules."""

from __future__ import annotations

import io
import warnings
from typing import Any

import torch
from torch import nn

from ._describe import network
from ._native import Network, load
from .torch import LastStep

CELLS = {nn.LSTM: "lstm", nn.GRU: "gru", nn.RNN: "rnn"}
# What a run leaves out.
NOTHING = (nn.Dropout, nn.Dropout1d, nn.AlphaDropout, nn.Identity)
FUNCTIONS: dict[type[nn.Module], Any] = {
    nn.ReLU: lambda m: "relu",
    nn.Tanh: lambda m: "tanh",
    nn.Sigmoid: lambda m: "sigmoid",
    nn.SiLU: lambda m: "silu",
    nn.Mish: lambda m: "mish",
    nn.SELU: lambda m: "selu",
    nn.Softsign: lambda m: "softsign",
    nn.Hardswish: lambda m: "hard_swish",
    nn.GELU: lambda m: "gelu" if m.approximate == "none" else "gelu_tanh",
    nn.LeakyReLU: lambda m: {"leaky_relu": {"alpha": m.negative_slope}},
    nn.ELU: lambda m: {"elu": {"alpha": m.alpha}},
    nn.ReLU6: lambda m: {"clip": {"alpha": 0.0, "beta": 6.0}},
    nn.Hardtanh: lambda m: {"clip": {"alpha": m.min_val, "beta": m.max_val}},
}


class NotByName(Exception):
    """A module that is no row of known layers; its words name it."""


def from_torch(
    module: nn.Module, example: Any = None, *, device: str = "auto", threads: int | None = None
) -> Network:
    """The network of a PyTorch module, as it runs in `eval()`: a `Trainer` of it has no dropout but what it is given.

    An `nn.LSTM`, `nn.GRU` or `nn.RNN`, and an `nn.Sequential` of these, `Embedding`, `Linear`, `LayerNorm`, activations, softmax,
    dropout and `gatefold_rnn.torch.LastStep`, are read from their weights; of a recurrent layer the output goes on. Any other module
    is exported to ONNX with `example`, its argument or a tuple of them.
    """
    if not isinstance(module, nn.Module):
        raise TypeError(f"module: expected a torch.nn.Module, got {type(module).__name__}")
    try:
        layers, tensors = _read(module)
    except NotByName as reason:
        if example is None:
            raise ValueError(f"module: {reason}; give `example`, by which it is exported to ONNX") from None
        return load(_exported(module, example), name=type(module).__name__, device=device, threads=threads)
    return network(layers, tensors=tensors, device=device, threads=threads)


def _read(module: nn.Module) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    layers: list[dict[str, Any]] = []
    tensors: dict[str, Any] = {}
    names: set[str] = set()
    for key, part in _parts(module, ""):
        if isinstance(part, NOTHING):
            continue
        layer = _layer(part)
        if "name" in layer:
            layer["name"] = _free_name(key, layer["name"], names)
        for name, tensor in part.state_dict().items():
            tensors[f"{layer['name']}.{name}"] = tensor.detach().to("cpu", torch.float32).numpy()
        layers.append(layer)
    return layers, tensors


def _parts(module: nn.Module, prefix: str) -> list[tuple[str, nn.Module]]:
    """The layers of a module in order, each with the names that lead to it."""
    if type(module) is not nn.Sequential:
        return [(prefix, module)]
    children = ((f"{prefix}_{key}" if prefix else key, part) for key, part in module.named_children())
    return [found for key, part in children for found in _parts(part, key)]


def _free_name(key: str, kind: str, names: set[str]) -> str:
    name = kind if not key else key if not key[0].isdigit() else f"{kind}_{key}"
    while name in names:
        name += "_"
    names.add(name)
    return name


def _layer(part: nn.Module) -> dict[str, Any]:
    kind = type(part)
    if kind in CELLS:
        assert isinstance(part, nn.RNNBase)
        layer: dict[str, Any] = {
            "type": CELLS[kind],
            "name": CELLS[kind],
            "input_size": part.input_size,
            "hidden_size": part.hidden_size,
            "num_layers": part.num_layers,
            "bidirectional": part.bidirectional,
            "bias": part.bias,
            "batch_first": part.batch_first,
        }
        if part.proj_size:
            layer["proj_size"] = part.proj_size
        if getattr(part, "nonlinearity", "tanh") == "relu":
            layer["activations"] = ["relu"]
        return layer
    if kind is nn.Embedding:
        assert isinstance(part, nn.Embedding)
        if part.max_norm is not None:
            raise NotByName("an Embedding with max_norm is not read")
        return {
            "type": "embedding",
            "name": "embedding",
            "num_embeddings": part.num_embeddings,
            "embedding_dim": part.embedding_dim,
        }
    if kind is nn.Linear:
        assert isinstance(part, nn.Linear)
        return {
            "type": "dense",
            "name": "linear",
            "in_features": part.in_features,
            "out_features": part.out_features,
            "bias": part.bias is not None,
        }
    if kind is nn.LayerNorm and len(part.normalized_shape) == 1:  # type: ignore[arg-type]
        return {
            "type": "layer_norm",
            "name": "norm",
            "num_features": part.normalized_shape[0],  # type: ignore[index]
            "eps": part.eps,
            "weight": part.weight is not None,
            "bias": part.bias is not None,
        }
    if kind is LastStep:
        return {"type": "select", "name": "last", "step": "last"}
    if kind is nn.Softmax and part.dim == -1:
        return {"type": "softmax"}
    if kind is nn.LogSoftmax and part.dim == -1:
        return {"type": "log_softmax", "name": "log_softmax"}
    if kind in FUNCTIONS:
        return {"type": "activation", "name": "activation", "activation": FUNCTIONS[kind](part)}
    name = repr(part) if len(repr(part)) < 80 else f"a {kind.__name__}"
    raise NotByName(f"{name} is not read by its weights")


def _exported(module: nn.Module, example: Any) -> bytes:
    arguments = example if isinstance(example, tuple) else (example,)
    file = io.BytesIO()
    training = module.training
    module.eval()
    try:
        with warnings.catch_warnings(), torch.no_grad():
            # Of the older exporter, which needs no further package, and of what it takes for constant.
            warnings.simplefilter("ignore")
            torch.onnx.export(module, arguments, file, dynamo=False)
    finally:
        module.train(training)
    return file.getvalue()
