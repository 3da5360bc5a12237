"""Code that the Python peers share: it reads the case folder and prints one line of JSON (../README.md)."""

import json
import os
import pathlib
import sys
import time

import numpy as np

MOST_SAMPLES = 20_000
PRECISION = os.environ.get("PEER_PRECISION", "f32")
# Threads to use, None: the engine's own choice.
THREADS = int(os.environ["PEER_THREADS"]) if "PEER_THREADS" in os.environ else None


def arrays(path):
    """The arrays of a safetensors file, all f32; read here so that torch alone is enough."""
    content = pathlib.Path(path).read_bytes()
    length = int.from_bytes(content[:8], "little")
    found = {}
    for name, entry in json.loads(content[8 : 8 + length]).items():
        if name != "__metadata__":
            start, end = entry["data_offsets"]
            data = content[8 + length + start : 8 + length + end]
            found[name] = np.frombuffer(data, dtype="<f4").reshape(entry["shape"]).copy()
    return found


def cpu(threads=THREADS):
    """The CPU and its threads, as a device's name."""
    return f"CPU, {threads or 'all'} thread{'' if threads == 1 else 's'}"


def measure(version, device, prepare, prepare_step=None, expected="expected"):
    """Checks, times and prints; prepare(folder, weights, input) gives the function to time, which gives [T, B, DH].

    In a case of training, prepare_step(weights, tokens, labels) gives a step of training, which gives its loss; `expected`
    names the losses that it should have.
    """
    folder, budget, tolerance = sys.argv[1:4]
    folder = pathlib.Path(folder)
    data = arrays(folder / "data.safetensors")
    weights = arrays(folder / "weights.safetensors")
    if "labels" in data:
        step = prepare_step(weights, data["input"].astype(np.int64), data["labels"].astype(np.int64))
        run = lambda: np.array([step() for _ in data["expected"]])  # noqa: E731
    else:
        run = prepare(folder, weights, data["input"])

    def timed():
        start = time.perf_counter()
        output = run()
        return output, (time.perf_counter() - start) * 1e6

    output, first = timed()
    # The expected output is that of the rounded weights, so that only an engine's arithmetic is checked.
    expected = data[expected if PRECISION == "f32" else f"expected_{PRECISION}"]
    if output.size != expected.size:
        sys.exit(f"expected {expected.size} numbers, got {output.size}")
    error = float(np.abs(output.reshape(expected.shape).astype(np.float64) - expected).max())
    times = []
    if error <= float(tolerance):
        run()
        run()
        start = time.perf_counter()
        while len(times) < 3 or (time.perf_counter() - start < float(budget) / 1e3 and len(times) < MOST_SAMPLES):
            times.append(timed()[1])
    shown = error if np.isfinite(error) else str(error)
    print(json.dumps({"version": version, "device": device, "max_error": shown, "first_us": first, "times_us": times}))
