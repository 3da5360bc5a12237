"""Builds the peers, runs them and gatefold on the same networks, prints one table; called by run.sh.

Every peer is a process of its own, called in turn in every round. It compares its output with the case's before it
times itself; one that is off is shown as wrong, without a time. One that cannot run is shown with the reason.
"""

import argparse
import datetime
import json
import math
import os
import pathlib
import re
import resource
import shutil
import statistics
import subprocess
import sys
import time
from typing import NamedTuple

import prepare
from prepare import Shape

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent
# What is built, and the cases; another checkout's can be taken (Burn is long to build).
TARGET = pathlib.Path(os.environ.get("PEERS_TARGET", ROOT / "target")).resolve()
# Outputs lie within ±1. Weights are rounded before they are compared, so that every format is held to the same.
TOLERANCE = 1e-5
# A call is repeated while other processes take more than this part of a core.
DISTURBED, TRIES = 0.05, 20
QUICK = ["64,1,25", "128,1,25", "256,1,25", "512,1,25", "1024,1,25", "128,4,25", "128,16,25"]
FULL = [f"{hidden},{batch},{50}" for batch in (1, 4, 16, 32) for hidden in (64, 128, 256, 512, 1024)]
CPU = [f"{hidden},1,100" for hidden in (64, 128, 256, 512, 1024)]
CPU += ["256,32,50", "2x512,16,50", "gru:512,16,50", "gru:1024,1,100", "128,1000,10"]
# What a peer is measured against: gatefold where it runs, with weights of its precision.
OURS = {
    ("gpu", "f32"): "gatefold",
    ("gpu", "f16"): "gatefold-f16",
    ("cpu", "f32"): "gatefold-cpu",
    ("cpu", "f16"): "gatefold-cpu-f16",
    ("cpu", "int8"): "gatefold-cpu-int8",
}


class Peer(NamedTuple):
    """A column of the table."""

    name: str
    place: str  # gpu or cpu
    command: list
    device: str  # PEER_DEVICE
    precision: str = "f32"  # PEER_PRECISION
    tolerance: float = TOLERANCE


class Goal(NamedTuple):
    """At hidden sizes and batches from the first to the last, how many times as fast as `other` gatefold shall be."""

    other: str
    times: float
    hidden: tuple
    batch: tuple

    def is_about(self, shape):
        one_lstm = (shape.cell, shape.directions, shape.layers) == ("lstm", 1, 1)
        pairs = [(shape.hidden, self.hidden), (shape.batch, self.batch)]
        return one_lstm and all(low <= size <= high for size, (low, high) in pairs)


# The project's goals: on a software adapter, where arithmetic dominates, and on a GPU.
SOFTWARE = [
    Goal("burn-wgpu", 10, (1, 128), (1, 1)),
    Goal("burn-wgpu", 3, (256, 512), (1, 1)),
    Goal("onnxruntime-webgpu", 2, (64, 512), (1, 1)),
]
GPU = [
    Goal("burn-wgpu", 10, (64, 1024), (1, 4)),
    Goal("burn-wgpu", 5, (64, 1024), (16, 32)),
    Goal("onnxruntime-webgpu", 5, (64, 1024), (1, 4)),
]
for cudnn in ("pytorch-cudnn", "pytorch-cudnn-f16"):
    GPU += [Goal(cudnn, 1, (1, 1024), (1, 4)), Goal(cudnn, 0.5, (1, 1024), (16, 64))]


def rust(name, target="peers-build"):
    return [str(TARGET / target / "release" / f"peer-{name}")]


def python(name):
    return [sys.executable, str(HERE / "python" / f"{name}.py")]


def peers(gpu, node):
    return [
        Peer("gatefold", "gpu", rust("gatefold"), gpu),
        Peer("gatefold-f16", "gpu", rust("gatefold"), gpu, "f16"),
        Peer("burn-wgpu", "gpu", rust("burn", "peers-burn"), gpu),
        Peer("onnxruntime-webgpu", "gpu", [node, str(HERE / "onnxruntime-webgpu" / "peer.js")], "webgpu"),
        Peer("pytorch-cudnn", "gpu", python("pytorch"), "cuda"),
        # It computes in f16 too: 11 bits, whose error carries over from step to step.
        Peer("pytorch-cudnn-f16", "gpu", python("pytorch"), "cuda", "f16", 5e-3),
        Peer("gatefold-cpu", "cpu", rust("gatefold"), "cpu"),
        Peer("gatefold-cpu-f16", "cpu", rust("gatefold"), "cpu", "f16"),
        Peer("gatefold-cpu-int8", "cpu", rust("gatefold"), "cpu", "int8"),
        Peer("onnxruntime-cpu", "cpu", python("onnxruntime_cpu"), "cpu"),
        Peer("openvino", "cpu", python("openvino_cpu"), "cpu"),
        Peer("pytorch-cpu", "cpu", python("pytorch"), "cpu"),
        Peer("rten", "cpu", rust("rten"), "cpu"),
        Peer("candle", "cpu", rust("candle"), "cpu"),
        Peer("tract", "cpu", rust("tract"), "cpu"),
    ]


def chosen_peers(everyone, places, names):
    """Those of `places` and, unless there are no `names`, of these with gatefold beside each."""
    here = [peer for peer in everyone if peer.place in places]
    if not names:
        return here
    measures = {OURS[peer.place, peer.precision] for peer in here if peer.name in names} | {OURS[places[0], "f32"]}
    return [peer for peer in here if peer.name in measures | set(names)]


def build(chosen, gatefold):
    """What is missing or older than its source, gatefold's runner from the checkout `gatefold`; a peer that does not
    build is reported where it would have run."""
    for binary in dict.fromkeys(pathlib.Path(peer.command[0]) for peer in chosen if len(peer.command) == 1):
        target = binary.parents[1]
        command = ["cargo", "build", "--release", "--locked", "-p", binary.name, "--target-dir", str(target)]
        print(f"building {binary.name}", file=sys.stderr, flush=True)
        checkout = gatefold if binary.name == "peer-gatefold" else ROOT
        if subprocess.run(command, cwd=checkout / "peers").returncode != 0:
            print(f"{binary.name} does not build", file=sys.stderr)
    node = any(peer.name == "onnxruntime-webgpu" for peer in chosen)
    if node and not (HERE / "onnxruntime-webgpu" / "node_modules").exists() and shutil.which("npm"):
        # --ignore-scripts: the package's own would fetch CUDA, which WebGPU does not need.
        subprocess.run(["npm", "ci", "--ignore-scripts"], cwd=HERE / "onnxruntime-webgpu")


class Limits(NamedTuple):
    """Limits of a call; `threads` is None if the engine may use any number of threads on any core."""

    budget: int
    timeout: int
    threads: int | None
    quiet_until: float  # time.monotonic() from which a disturbed call is taken as it is

    def cores(self):
        """The cores that a peer is held to: it may start more threads than it is told to."""
        return sorted(os.sched_getaffinity(0))[-self.threads :] if self.threads else None


def call(peer, case, limits):
    """The peer's answer, or {"failed": reason}."""
    environment = dict(os.environ, PEER_DEVICE=peer.device, PEER_PRECISION=peer.precision)
    hold = None
    if cores := limits.cores():
        environment["PEER_THREADS"] = str(limits.threads)
        hold = lambda: os.sched_setaffinity(0, cores)  # noqa: E731
    command = [*peer.command, str(case), str(limits.budget), str(peer.tolerance)]
    try:
        done = subprocess.run(
            command, env=environment, preexec_fn=hold, capture_output=True, text=True, timeout=limits.timeout
        )
    except FileNotFoundError as error:
        return {"failed": f"{error.filename} is not there"}
    except subprocess.TimeoutExpired:
        return {"failed": f"no answer within {limits.timeout} s"}
    if done.returncode == 0:
        return json.loads(done.stdout.strip().splitlines()[-1])
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    # A Rust panic's message stands under its headline.
    told = [line for line in lines if re.search(r"error|not |no |panicked|expected", line, re.I)] or lines
    return {"failed": (told[0] if told else f"exit code {done.returncode}").strip()[:300]}


def time_of_others():
    """CPU seconds since the start that went to other processes than this and its children (Linux)."""
    stat = pathlib.Path("/proc/stat")
    if not stat.exists():
        return 0.0
    user, nice, system, _idle, _wait, *interrupts_and_stolen = map(int, stat.read_text().split("\n")[0].split()[1:9])
    own = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    busy = (user + nice + system + sum(interrupts_and_stolen)) / os.sysconf("SC_CLK_TCK")
    return busy - sum(usage.ru_utime + usage.ru_stime for usage in own)


def undisturbed(peer, case, limits):
    """The answer of a call during which other processes used little CPU time, or of the last try, and their share."""
    for _ in range(TRIES):
        start, others = time.monotonic(), time_of_others()
        answer = call(peer, case, limits)
        taken = (time_of_others() - others) / (time.monotonic() - start)
        if taken <= DISTURBED or time.monotonic() > limits.quiet_until:
            break
        print(f"{peer.name} again: other processes took {taken:.0%} of a core", file=sys.stderr, flush=True)
        time.sleep(2)
    return answer, taken


def is_right(answer, peer):
    error = answer["max_error"]
    return not isinstance(error, str) and error <= peer.tolerance


def controls(chosen, case, limits):
    """Checks that every peer that runs reports the damaged case as wrong; gives the reasons of those that do not run."""
    absent = {}
    for peer in chosen:
        answer = call(peer, case, limits)
        if "failed" in answer:
            absent[peer.name] = answer["failed"]
            print(f"{peer.name}: not run: {answer['failed']}", file=sys.stderr, flush=True)
        elif is_right(answer, peer) or answer["times_us"]:
            sys.exit(f"{peer.name}: expected the damaged case to be reported as wrong, got right")
    return absent


def measure(chosen, absent, cases, shapes, rounds, limits):
    """Results by shape and peer."""
    results = {str(shape): {} for shape in shapes}
    for shape in results:
        for number in range(rounds):
            for peer in chosen:
                found = results[shape].setdefault(peer.name, {"times_us": [], "round_medians_us": []})
                if peer.name in absent:
                    found["failed"] = absent[peer.name]
                if "failed" in found or "wrong" in found:
                    continue
                answer, disturbed = undisturbed(peer, cases / shape, limits)
                found["disturbed"] = max(disturbed, found.get("disturbed", 0.0))
                if "failed" in answer:
                    found.clear()
                    found["failed"] = answer["failed"]
                elif not is_right(answer, peer):
                    found.clear()
                    found["wrong"] = f"off by {answer['max_error']}, tolerance {peer.tolerance}"
                else:
                    found["times_us"] += answer["times_us"]
                    found["round_medians_us"].append(statistics.median(answer["times_us"]))
                    found["max_error"] = max(answer["max_error"], found.get("max_error", 0.0))
                    found["first_us"] = answer["first_us"] if number == 0 else found["first_us"]
                    found["version"], found["device"] = answer["version"], answer["device"]
        print(f"{shape} done", file=sys.stderr, flush=True)
    return results


def summarise(found, steps):
    """Median and quartiles over all samples of all rounds, and the median per timestep."""
    if times := found.pop("times_us", None):
        low, middle, high = statistics.quantiles(times, n=4)
        found |= {"median_us": middle, "quartiles_us": [low, high], "us_per_step": middle / steps, "samples": len(times)}


def number(value):
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def cell(found, ours, key="us_per_step"):
    """The time `key` ± half of the quartiles' distance, in percent, and the ratio to gatefold."""
    if "failed" in found:
        return "not run"
    if "wrong" in found:
        return "**wrong**"
    low, high = found["quartiles_us"]
    spread = (high - low) / 2 / found["median_us"] * 100
    text = f"{number(found[key])} ±{spread:.0f}%"
    if ours is not found and "median_us" in ours:
        text += f" ({number(found['median_us'] / ours['median_us'])}×)"
    return text


def rows(header, lines, words=1):
    """A Markdown table, its first columns to the left."""
    head, *others = ("| " + " | ".join(line) + " |" for line in [header, *lines])
    return [head, "|" + " --- |" * words + " ---: |" * (len(header) - words), *others, ""]


def against_the_best(record, chosen, place):
    """gatefold's rows of weights against the fastest of the others, which store f32."""
    ours = [peer.name for peer in chosen if peer.place == place and peer.name in OURS.values()]
    others = [peer.name for peer in chosen if peer.place == place and peer.name not in ours and peer.precision == "f32"]
    lines = []
    for shape, results in record["results"].items():
        ran = {name: results[name]["median_us"] for name in others if "median_us" in results[name]}
        if not ran:
            continue
        best = min(ran, key=ran.get)
        faster = [f"{ran[best] / results[name]['median_us']:.2f}×" if "median_us" in results[name] else "" for name in ours]
        lines.append([shape, f"{best} {number(results[best]['us_per_step'])}", *faster])
    if not lines:
        return []
    text = "The fastest of the others (f32), and how many times as fast gatefold is:"
    return [text, "", *rows(["shape", "fastest other", *ours], lines)]


def against_the_goals(record, chosen):
    """The project's goals on this adapter, and what was measured."""
    goals = SOFTWARE if "software renderer" in record["adapter"] else GPU
    lines = []
    for text, results in record["results"].items():
        shape = Shape.parse(text)
        for peer in chosen:
            wanted = [goal.times for goal in goals if goal.other == peer.name and goal.is_about(shape)]
            found, ours = results[peer.name], results.get(OURS[peer.place, peer.precision], {})
            if not wanted or "median_us" not in found or "median_us" not in ours:
                continue
            ratio = found["median_us"] / ours["median_us"]
            outcome = "met" if ratio >= wanted[0] else "missed"
            lines.append([text, peer.name, f"{number(wanted[0])}×", f"{number(ratio)}×", outcome])
    if not lines:
        return []
    text = "How many times as fast as the others gatefold (weights stored alike) is wanted to be, and is:"
    return [text, "", *rows(["shape", "other", "wanted", "measured", "outcome"], lines, words=2)]


def table(record, chosen):
    """The record as Markdown."""
    lines = [f"# Peers on {record['adapter']}, {record['date']}", ""]
    lines += [f"`{record['command']}` at {record['commit']}; {record['machine']}.", ""]
    moved = [f"{name} {far:.1e}" for name, far in record["moved_by_rounding"].items()]
    lines += [
        "µs per timestep: median over all samples of whole sequences (input in and output back in the host's memory), ± half",
        "the distance of the quartiles, and in brackets the ratio to gatefold there with weights so stored (above 1: gatefold is",
        "faster). Shapes are H,B,T of one LSTM layer, input as wide as hidden; `gru:` a GRU, `rnn:` a plain RNN, `bi:` both directions,",
        "`2x` two layers.",
        f"{record['rounds']} rounds, the peers in turn in each. Before anything is timed, outputs agree with the f64 reference of the",
        f"weights as they are stored within {TOLERANCE} (others: {record['tolerance'] or 'none'}). Rounding the weights alone",
        f"moves an output by at most: {', '.join(moved) or '0'}. Other processes took at most {record['disturbed']:.0%} of a core.",
        "",
    ]
    for place, title in (("gpu", f"On {record['adapter']}"), ("cpu", "On the CPU")):
        here = {peer.name: OURS[place, peer.precision] for peer in chosen if peer.place == place}
        if not here:
            continue
        cells = [[shape, *(cell(by[name], by[ours]) for name, ours in here.items())] for shape, by in record["results"].items()]
        lines += [f"## {title}", "", *rows(["shape", *here], cells), *against_the_best(record, chosen, place)]
        if place == "gpu":
            lines += against_the_goals(record, chosen)
    return "\n".join(lines + what_ran(record, chosen))


def what_ran(record, chosen):
    """The peers with their versions, and why some did not run."""
    told = []
    for name in (peer.name for peer in chosen):
        runs = [results[name] for results in record["results"].values()]
        ran = [found for found in runs if "version" in found]
        if ran:
            worst = max(found["max_error"] for found in ran)
            told.append([name, ran[0]["version"], ran[0]["device"], f"{worst:.1e}"])
        for shape, found in record["results"].items():
            if why := found[name].get("failed") or found[name].get("wrong"):
                which = "" if not ran else f" at {shape}"
                why = why.replace("|", "/")
                kind = "not run" if "failed" in found[name] else "wrong"
                told.append([f"{name}{which}", "", f"{kind}: {why}", ""])
                if not ran:
                    break
    return ["## What ran", "", *rows(["peer", "version", "device", "largest error"], told, words=3)]


def output_of(*command, where):
    return subprocess.run(command, cwd=where, capture_output=True, text=True).stdout.strip()


def cpu_facts():
    return dict(re.findall(r"^(.+?)\s*: (.*)$", pathlib.Path("/proc/cpuinfo").read_text().split("\n\n")[0], re.M))


def cpu_model():
    """Its name and, where the maker hides the model, what tells it apart."""
    facts = cpu_facts()
    name = facts.get("model name", "CPU")
    if re.search(r"\d", name) or "model" not in facts:
        return name
    return f"{name} family {facts['cpu family']} model {facts['model']}"


def machine(limits):
    facts = [cpu_model(), f"{os.cpu_count()} cores", f"load {os.getloadavg()[0]:.1f} at the start"]
    if "hypervisor" in cpu_facts().get("flags", ""):
        facts.insert(2, "a virtual machine")
    if limits.threads:
        facts.append(f"every CPU peer told to use {limits.threads} of them and held to it")
    return ", ".join(facts)


def keep(record, text, records, label):
    """Prints the record's text and writes both."""
    print(text)
    # The folder that `gatefold bench --record` takes: the adapter's name and its backend.
    adapter = record["adapter"]
    named = re.match(r"(.*) \((vulkan|metal|dx12|gl|webgpu)\b", adapter)
    folder = records / slug(" ".join(named.groups()) if named else adapter)
    folder.mkdir(parents=True, exist_ok=True)
    threads = f"-{record['threads']}-threads" if record["threads"] else ""
    path = folder / f"{record['date']}-peers{f'-{slug(label)}' if label else ''}{threads}"
    path.with_suffix(".md").write_text(text)
    path.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n")
    print(f"written: {path}.md and .json", file=sys.stderr)


def slug(text):
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--on", choices=["cpu", "gpu", "both"], default="both", help="which peers")
    parser.add_argument("--threads", type=int, help="threads of every CPU peer, which is held to as many cores (Linux)")
    parser.add_argument("--quick", action="store_true", help="fewer shapes, two rounds: for software adapters")
    parser.add_argument("--adapter", default="auto", help="gatefold's --device; `software` has the others take one too")
    parser.add_argument("--shapes", nargs="+", type=Shape.parse, help="[gru:|rnn:][bi:][Lx]H,B,T")
    parser.add_argument("--peers", nargs="+", help="only these (gatefold always runs)")
    parser.add_argument("--rounds", type=int, help="how often each peer is called per shape")
    parser.add_argument("--budget", type=int, help="ms per call")
    parser.add_argument("--timeout", type=int, default=120, help="s per call")
    parser.add_argument("--retry-minutes", type=float, default=math.inf, help="minutes in which disturbed calls are repeated")
    parser.add_argument("--no-build", action="store_true", help="take what is built")
    parser.add_argument("--gatefold", type=pathlib.Path, default=ROOT, help="the checkout whose gatefold is built and measured")
    parser.add_argument("--label", default="", help="the record is named DATE-peers-LABEL")
    parser.add_argument("--record", type=pathlib.Path, default=ROOT / "benches" / "record")
    arguments = parser.parse_args()
    rounds = arguments.rounds or (2 if arguments.quick else 5)
    budget = arguments.budget or (250 if arguments.quick else 1000)
    places = ["gpu", "cpu"] if arguments.on == "both" else [arguments.on]
    by_default = QUICK if arguments.quick else CPU if arguments.on == "cpu" else FULL
    shapes = arguments.shapes or [Shape.parse(text) for text in by_default]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0
    if arguments.threads is not None and not 1 <= arguments.threads <= cores:
        parser.error(f"--threads: expected 1 to {cores}, the cores that peers can be held to, got {arguments.threads}")

    # The GPU run kit has no repository and says which commit it was built from.
    commit = os.environ.get("GATEFOLD_COMMIT") or output_of("git", "describe", "--always", "--dirty=+", where=arguments.gatefold)
    everyone = peers(arguments.adapter, shutil.which("node") or "node")
    if unknown := set(arguments.peers or []) - {peer.name for peer in everyone}:
        parser.error(f"no peer {', '.join(sorted(unknown))}; there are {', '.join(peer.name for peer in everyone)}")
    chosen = chosen_peers(everyone, places, arguments.peers)
    if not arguments.no_build:
        build(chosen, arguments.gatefold)
    cases = TARGET / "peers" / "cases"
    written = [prepare.write(cases / str(shape), shape) for shape in shapes]
    prepare.write(cases / "control", prepare.CONTROL, damage=True)

    limits = Limits(budget, arguments.timeout, arguments.threads, time.monotonic() + 60 * arguments.retry_minutes)
    started = machine(limits)
    absent = controls(chosen, cases / "control", limits._replace(budget=0))
    main_peer = OURS[places[0], "f32"]
    if main_peer in absent:
        sys.exit(f"{main_peer} does not run: {absent[main_peer]}")
    results = measure(chosen, absent, cases, shapes, rounds, limits)
    for shape in shapes:
        for found in results[str(shape)].values():
            summarise(found, shape.steps)
    device = next(iter(results.values()))[main_peer].get("device", main_peer)
    adapter = cpu_model() if arguments.on == "cpu" else device
    precisions = {peer.precision for peer in chosen}
    record = {
        "adapter": adapter,
        "date": datetime.date.today().isoformat(),
        "command": "peers/run.sh " + " ".join(sys.argv[1:]),
        "commit": commit,
        "machine": started,
        "driver_files": os.environ.get("VK_DRIVER_FILES"),
        "threads": arguments.threads,
        "rounds": rounds,
        "disturbed": max(found.get("disturbed", 0.0) for by_peer in results.values() for found in by_peer.values()),
        "tolerance": {peer.name: peer.tolerance for peer in chosen if peer.tolerance != TOLERANCE},
        "moved_by_rounding": {
            name: max(case["moved_by_rounding"][name] for case in written) for name in prepare.FORMATS if name in precisions
        },
        "results": results,
    }
    keep(record, table(record, chosen), arguments.record, arguments.label)


if __name__ == "__main__":
    main()
