"""How a golden case is stored; shared by `generate.py` and `generate_keras.py`.

Case NAME is two files: `NAME.safetensors`, a network that loads on its own, and `NAME.golden.safetensors`, an input
with what the network makes of it. Weights and inputs are f32 numbers; results are computed from them in f64 and
rounded to f32 once, at the end.
"""

import json
import zlib
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

HERE = Path(__file__).resolve().parent

Tensors = dict[str, np.ndarray]


def generator(name: str) -> np.random.Generator:
    """A case's own random numbers, so that adding a case changes no other."""
    return np.random.default_rng(zlib.crc32(name.encode()))


def uniform(rng: np.random.Generator, shape: tuple[int, ...], bound: float) -> np.ndarray:
    return rng.uniform(-bound, bound, shape).astype(np.float32)


def store(name: str, layers: list[dict], weights: Tensors, golden: Tensors) -> None:
    network = json.dumps({"format": 1, "layers": layers}, separators=(",", ":"))
    save_file(as_stored(weights), HERE / f"{name}.safetensors", metadata={"gatefold": network})
    save_file(as_stored(golden), HERE / f"{name}.golden.safetensors")


def as_stored(tensors: Tensors) -> Tensors:
    """Floats as f32, token ids as i32, both little endian and contiguous."""
    stored = {}
    for name, tensor in tensors.items():
        kind = "<f4" if np.issubdtype(tensor.dtype, np.floating) else "<i4"
        stored[name] = np.ascontiguousarray(tensor, dtype=kind)
        assert np.isfinite(stored[name]).all(), name
    return stored


def embedding(name: str, count: int, size: int) -> dict:
    return {"type": "embedding", "name": name, "num_embeddings": count, "embedding_dim": size}


def lstm(name: str, input_size: int, hidden_size: int, **options) -> dict:
    """Options not given are left out of the file: the reader's defaults apply."""
    return {"type": "lstm", "name": name, "input_size": input_size, "hidden_size": hidden_size, **options}


def dense(name: str, in_features: int, out_features: int, **options) -> dict:
    return {"type": "dense", "name": name, "in_features": in_features, "out_features": out_features, **options}


def softmax() -> dict:
    return {"type": "softmax"}
