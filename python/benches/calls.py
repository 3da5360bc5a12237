"""What a call costs, in turns with ONNX Runtime: `python python/benches/calls.py [--wheel FILE …] [--out RECORD.md]`.

Both run the same LSTM on one thread. A round takes each engine once for some calls; the figures are CPU time of the thread for a
call: the least, the lower quartile and the median of the rounds. Needs the packages `onnx` and `onnxruntime`.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import statistics
import subprocess
import sys
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

import gatefold_rnn as gf

CASES = [(8, 8, 1, 1), (128, 128, 1, 1), (128, 128, 1, 50), (128, 128, 64, 1), (128, 128, 64, 50)]
ROUNDS = 41
# CPU time of one round of one engine.
ROUND_SECONDS = 0.02


def as_onnx(net: gf.Network, inputs: int, hidden: int) -> bytes:
    """The network's LSTM as ONNX, with states as inputs and outputs."""
    weights = {name.split(".")[1]: tensor for name, tensor in net.tensors().items()}

    def reordered(tensor: np.ndarray) -> np.ndarray:
        i, f, g, o = np.split(tensor, 4)
        return np.concatenate([i, o, f, g])

    biases = [reordered(weights[name]) for name in ("bias_ih_l0", "bias_hh_l0")]
    arrays = {
        "W": reordered(weights["weight_ih_l0"])[None],
        "R": reordered(weights["weight_hh_l0"])[None],
        "B": np.concatenate(biases)[None],
    }
    node = helper.make_node("LSTM", ["X", "W", "R", "B", "", "h", "c"], ["Y", "h_n", "c_n"], hidden_size=hidden)
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [node],
        "lstm",
        [value("X", TensorProto.FLOAT, ["T", "B", inputs])] + [value(n, TensorProto.FLOAT, [1, "B", hidden]) for n in "hc"],
        [value("Y", TensorProto.FLOAT, ["T", 1, "B", hidden])]
        + [value(n, TensorProto.FLOAT, [1, "B", hidden]) for n in ("h_n", "c_n")],
        [helper.make_tensor(name, TensorProto.FLOAT, a.shape, a.tobytes(), raw=True) for name, a in arrays.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def engines(inputs: int, hidden: int, batch: int, steps: int):
    net = gf.network([{"type": "lstm", "name": "lstm", "input_size": inputs, "hidden_size": hidden}], seed=1, device="cpu", threads=1)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(as_onnx(net, inputs, hidden), options, providers=["CPUExecutionProvider"])
    x = np.random.default_rng(0).uniform(-1, 1, (steps, batch, inputs)).astype(np.float32)
    zeros = np.zeros((1, batch, hidden), np.float32)
    feeds = {"X": x, "h": zeros, "c": zeros}
    state = net.initial_state(batch)
    binding = session.io_binding()
    for name, array in feeds.items():
        binding.bind_cpu_input(name, array)
    for name in ("Y", "h_n", "c_n"):
        binding.bind_output(name)
    error = float(np.abs(net(x) - session.run(None, feeds)[0][:, 0]).max())
    assert error < 2e-6, error
    return error, {
        "gatefold `net(x)`": lambda: net(x),
        "gatefold `net.run(x, state)`": lambda: net.run(x, state),
        "ONNX Runtime `run`": lambda: session.run(None, feeds),
        "ONNX Runtime io_binding": lambda: session.run_with_iobinding(binding),
    }


def seconds(call, times: int) -> float:
    start = time.thread_time()
    for _ in range(times):
        call()
    return (time.thread_time() - start) / times


def measured(calls: dict) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {name: [] for name in calls}
    times = {}
    for name, call in calls.items():
        seconds(call, 3)
        times[name] = max(1, int(ROUND_SECONDS / max(seconds(call, 10), 1e-7)))
    for _ in range(ROUNDS):
        for name, call in calls.items():
            found[name].append(seconds(call, times[name]) * 1e6)
    return found


def import_time(module: str, before: str = "") -> float:
    """Milliseconds of CPU time that importing takes, the least of seven."""
    code = f"import time, sys\n{before}\nstart = time.process_time()\nimport {module}\nprint(time.process_time() - start)"
    runs = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True) for _ in range(7)]
    return min(float(run.stdout) for run in runs) * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--wheel", action="append", default=[], help="a wheel whose size is reported")
    parser.add_argument("--out", help="a file for the record")
    given = parser.parse_args()
    rows, verdicts = [], []
    for inputs, hidden, batch, steps in CASES:
        error, calls = engines(inputs, hidden, batch, steps)
        found = measured(calls)
        cells = []
        for values in found.values():
            least, lower, median = min(values), statistics.quantiles(values, n=4)[0], statistics.median(values)
            cells.append(f"**{least:,.1f}** / {lower:,.1f} / {median:,.1f}")
        best = {name: min(values) for name, values in found.items()}
        ratio = best["ONNX Runtime `run`"] / best["gatefold `net.run(x, state)`"]
        rows.append(f"| I {inputs}, H {hidden}, B {batch}, T {steps} | " + " | ".join(cells) + f" | {ratio:.1f} | {error:.1e} |")
        if (hidden, batch, steps) == (8, 1, 1):
            verdicts.append(("a call of I 8, H 8, B 1, T 1 takes at most 2 µs", best["gatefold `net(x)`"] <= 2))
        if (hidden, batch, steps) == (128, 1, 1):
            verdicts.append(("a frame of H 128 takes at most half of ONNX Runtime's time", ratio >= 2))
    header = "| LSTM | " + " | ".join(calls) + " | ratio | largest difference |"
    cpu = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), platform.processor())
    lines = [
        "# A call from Python",
        "",
        f"`python/benches/calls.py` of {datetime.date.today()}, {cpu}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the end. "
        f"Python {platform.python_version()}, NumPy {np.__version__}, ONNX Runtime {onnxruntime.__version__}.",
        "",
        "µs of the thread's CPU time for a call on one thread, the engines in turns: least / lower quartile / median of "
        f"{ROUNDS} rounds. Ratio: the least of ONNX Runtime's `run` by that of `net.run(x, state)`.",
        "",
        header,
        "| --- |" + " ---: |" * (len(calls) + 2),
        *rows,
        "",
        f"Import, ms of CPU time: `gatefold_rnn` {import_time('gatefold_rnn'):.0f} with NumPy, "
        f"{import_time('gatefold_rnn', 'import numpy'):.1f} after NumPy; `onnxruntime` {import_time('onnxruntime'):.0f}.",
        "",
    ]
    for wheel in given.wheel:
        lines.append(f"`{os.path.basename(wheel)}`: {os.path.getsize(wheel) / 1e6:.2f} MB.")
    lines += [f"{'met' if met else '**not met**'}: {what}" for what, met in verdicts]
    text = "\n".join(lines) + "\n"
    print(text)
    if given.out:
        with open(given.out, "w", encoding="utf-8") as file:
            file.write(text)


if __name__ == "__main__":
    main()
