"""Networks that are described layer by layer."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from . import _native
from ._native import Network


def network(
    layers: Sequence[Mapping[str, Any]],
    *,
    texts: Iterable[str] | None = None,
    vocabulary: int = 10_000,
    labels: Sequence[str] = (),
    tensors: Mapping[str, Any] | None = None,
    init: str = "pytorch",
    seed: int = 0,
    device: str = "auto",
    threads: int | None = None,
) -> Network:
    """A network of these layers, each a dict as `Network.layers` shows it.

    Weights are those of `tensors` (arrays by name), or drawn by `init` (`"pytorch"`, `"keras"`). With `texts` the network reads
    texts: its vocabulary is their commonest words, at most `vocabulary`, and a first layer of the type `embedding` without
    `num_embeddings` gets one row for each. A last layer of the type `dense` without `out_features` gets one output for each
    of `labels`.
    """
    spec: dict[str, Any] = {"format": 1, "layers": [dict(layer) for layer in layers], "labels": list(labels)}
    if texts is not None:
        spec["text"] = _native.vocabulary(texts, vocabulary)
        first = spec["layers"][0] if layers else {}
        if first.get("type") == "embedding":
            first.setdefault("num_embeddings", len(spec["text"]["vocabulary"]))
    if labels:
        dense = [layer for layer in spec["layers"] if layer.get("type") == "dense"]
        if dense:
            dense[-1].setdefault("out_features", len(labels))
    given = None if tensors is None else dict(tensors)
    return _native.build(json.dumps(spec), given, init, seed, device, threads)
