"""LSTM, GRU and plain RNN networks on any GPU and on the CPU.

    import gatefold_rnn as gf

    net = gf.load("model.onnx")           # also .keras, .h5, .safetensors, or bytes
    y = net(x)                            # NumPy in, NumPy out
    y, state = net.run(x, state)          # the next piece of the same sequences

`Streams` keeps the states of many streams, `Classifier` reads texts, `Scorer` takes Arrow batches, `Trainer` trains, `from_torch` and `from_keras` take the
models of other frameworks, and `gatefold_rnn.torch` has drop-in modules for PyTorch.
"""

from __future__ import annotations

from typing import Any

from ._describe import network
from ._native import Classifier, Network, State, Stream, Streams, devices, load
from ._score import Scorer
from ._train import History, Trainer
from ._verify import Verification, verify

__all__ = [
    "Classifier",
    "History",
    "Network",
    "Scorer",
    "State",
    "Stream",
    "Streams",
    "Trainer",
    "Verification",
    "devices",
    "from_keras",
    "from_torch",
    "load",
    "network",
    "verify",
]


def from_torch(module: Any, example: Any = None, *, device: str = "auto", threads: int | None = None) -> Network:
    """A PyTorch module as a `Network`; see `gatefold_rnn._from_torch.from_torch`."""
    from ._from_torch import from_torch as convert

    return convert(module, example, device=device, threads=threads)


def from_keras(
    model: Any, *, device: str = "auto", threads: int | None = None, weights: str | None = None
) -> Network:
    """A Keras model as a `Network`: it is saved to a temporary `.keras` file, which is read."""
    from ._from_keras import from_keras as convert

    return convert(model, device=device, threads=threads, weights=weights)
