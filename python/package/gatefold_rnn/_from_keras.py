"""Keras models."""

from __future__ import annotations

import os
import tempfile
from typing import Any

from ._native import Network, load


def from_keras(
    model: Any, *, device: str = "auto", threads: int | None = None, weights: str | None = None
) -> Network:
    """The network of a Keras model."""
    if not callable(getattr(model, "save", None)):
        raise TypeError(f"model: expected a Keras model, got {type(model).__name__}")
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "model.keras")
        model.save(path)
        return load(path, device=device, threads=threads, weights=weights)
