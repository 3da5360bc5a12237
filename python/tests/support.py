"""Files of the repository, networks and comparisons that the tests share."""

from __future__ import annotations

import importlib
import json
import math
import os
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

import gatefold_rnn as gf

REPOSITORY = Path(__file__).resolve().parents[2]
GOLDENS = REPOSITORY / "tests" / "goldens"
SENTIMENT = REPOSITORY / "models" / "sentiment" / "sentiment.safetensors"
# Frameworks that must be there, as `python/test.sh` found or installed them.
REQUIRED = [name for name in os.environ.get("GATEFOLD_PYTHON_REQUIRE", "").split(",") if name]


def framework(name: str):
    """A framework to compare with. One that is required and missing is an error; `test.sh` says which are not there."""
    # What Keras runs on: the smallest, unless the caller chose.
    os.environ.setdefault("KERAS_BACKEND", "jax")
    try:
        return importlib.import_module(name)
    except ImportError as error:
        assert name not in REQUIRED, f"{name} is required: {error}"
        pytest.skip(f"NOT RUN: {name} is not installed", allow_module_level=True)


def device() -> str:
    """Where tests run; `test.sh` runs some on a GPU driver too."""
    return os.environ.get("GATEFOLD_TEST_DEVICE", "cpu")


def safetensors(data: bytes) -> dict[str, np.ndarray]:
    """The arrays of a safetensors file."""
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    kinds = {"F32": "<f4", "I32": "<i4", "I64": "<i8", "F64": "<f8", "BOOL": "?"}
    arrays = {}
    for name, tensor in header.items():
        if name != "__metadata__":
            start, end = (8 + length + at for at in tensor["data_offsets"])
            arrays[name] = np.frombuffer(data[start:end], kinds[tensor["dtype"]]).reshape(tensor["shape"])
    return arrays


def bundle(name: str) -> dict[str, bytes]:
    """The files of a zip among the goldens."""
    with zipfile.ZipFile(GOLDENS / name) as archive:
        return {entry: archive.read(entry) for entry in archive.namelist()}


def close(got: np.ndarray, expected: np.ndarray, steps: int) -> bool:
    """Whether all numbers are within the crate's tolerance of f32 after so many timesteps (`Tolerance::f32`)."""
    atol = 2e-6 * max(math.sqrt(steps / 64), 1.0)
    return got.shape == expected.shape and bool(np.all(np.abs(got - expected) <= atol + 1e-5 * np.abs(expected)))


def lstm(inputs: int = 3, hidden: int = 5, **options) -> dict:
    return {"type": "lstm", "name": "lstm", "input_size": inputs, "hidden_size": hidden, **options}


def small(threads: int | None = None, **options) -> gf.Network:
    """An LSTM `[T, B, 3]` to `[T, B, 5]`."""
    return gf.network([lstm(**options)], seed=1, device=device(), threads=threads if device() == "cpu" else None)


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


def reference(net: gf.Network, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """An LSTM of one layer in f64: outputs `[T, B, H]`, h and c `[B, H]`."""
    weights = {name.split(".")[1]: tensor.astype(np.float64) for name, tensor in net.tensors().items()}
    w, u, b = weights["weight_ih_l0"], weights["weight_hh_l0"], weights["bias_ih_l0"] + weights["bias_hh_l0"]
    h = c = np.zeros((x.shape[1], u.shape[1]))
    outputs = []
    for step in x.astype(np.float64):
        i, f, g, o = np.split(step @ w.T + h @ u.T + b, 4, axis=-1)
        i, f, o = (1 / (1 + np.exp(-gate)) for gate in (i, f, o))
        c = f * c + i * np.tanh(g)
        h = o * np.tanh(c)
        outputs.append(h)
    return np.stack(outputs), h, c
