"""Examples as the engine takes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ._native import Dataset, Network


def sequences(network: Network, x: Any) -> list[np.ndarray]:
    """Arrays `[T]` of token ids or `[T, I]` of numbers, from an array whose first axis is the examples, a list of arrays, or texts."""
    if isinstance(x, (str, bytes)):
        raise TypeError(f"x: expected many examples, got one {type(x).__name__}")
    if not isinstance(x, np.ndarray):
        x = list(x)
    if len(x) and isinstance(x[0], str):
        return network.encode([str(text) for text in x])
    return [np.asarray(one) for one in x]


def answers(network: Network, loss: str, y: Any) -> tuple[str, Any]:
    """The kind and the arrays of answers, as `Dataset` takes them."""
    if not isinstance(y, np.ndarray):
        y = list(y)
    if len(y) and isinstance(y[0], str):
        y = _classes(network.labels, y)
    if loss == "ctc":
        return "labels", [np.asarray(one) for one in y]
    if loss in ("mse", "mae", "huber"):
        return "values", [np.asarray(one, dtype=np.float32) for one in y]
    first = np.asarray(y[0]) if len(y) else np.zeros((), dtype=int)
    if first.dtype.kind == "f":
        return "values", [np.asarray(one, dtype=np.float32) for one in y]
    if first.ndim == 0:
        return "classes", np.asarray(y)
    return "step_classes", [np.asarray(one) for one in y]


def _classes(labels: Sequence[str], names: Sequence[str]) -> np.ndarray:
    places = {label: at for at, label in enumerate(labels)}
    unknown = [name for name in names if name not in places]
    if unknown:
        raise ValueError(f"y: expected labels of the network ({', '.join(labels) or 'it has none'}), got {unknown[0]!r}")
    return np.array([places[name] for name in names])


def dataset(network: Network, loss: str, x: Any, y: Any) -> Dataset:
    """Sequences with their answers."""
    kind, given = answers(network, loss, y)
    tokens = network.inputs[0]["kind"] == "tokens"
    return Dataset(tokens, sequences(network, x), kind, given)


def padded(network: Network, rows: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray | None]:
    """Sequences as one batch in the network's order of axes, and their lengths where these differ."""
    lengths = np.array([len(row) for row in rows])
    x = np.zeros((len(rows), max(int(lengths.max()), 1), *rows[0].shape[1:]), dtype=rows[0].dtype)
    for at, row in enumerate(rows):
        x[at, : len(row)] = row
    if not network.batch_first:
        x = np.swapaxes(x, 0, 1)
    return x, None if (lengths == lengths[0]).all() else lengths
