"""Builds the peers, runs them and gatefold on the same networks, prints one table; called by run.sh.

Every peer is a process of its own, called in turn in every round. It compares its output with the case's before it
times itself; one that is off is shown as wrong, without a time. One that cannot run is shown with the reason.
"""

import argparse
import datetime
import json
import os
import pathlib
import re
import shutil
import statistics
import subprocess
import sys

import prepare

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent
# Outputs of an LSTM lie within ±1. f16 keeps 11 bits, and its error carries over from step to step.
TOLERANCE = {"f32": 1e-5, "f16": 5e-3}
QUICK = ["64,1,25", "128,1,25", "256,1,25", "512,1,25", "1024,1,25", "128,4,25", "128,16,25"]
FULL = [f"{hidden},{batch},{50}" for batch in (1, 4, 16, 32) for hidden in (64, 128, 256, 512, 1024)]
# What a peer is measured against: gatefold where it runs, with weights of its precision.
OURS = {("gpu", "f32"): "gatefold", ("gpu", "f16"): "gatefold-f16", ("cpu", "f32"): "gatefold-cpu"}


def rust(name, target="peers-build"):
    return [str(ROOT / "target" / target / "release" / f"peer-{name}")]


def python(name):
    return [sys.executable, str(HERE / "python" / f"{name}.py")]


def peers(gpu, node):
    """Name, where it runs (gpu or cpu), command, PEER_DEVICE, PEER_PRECISION."""
    return [
        ("gatefold", "gpu", rust("gatefold"), gpu, "f32"),
        ("gatefold-f16", "gpu", rust("gatefold"), gpu, "f16"),
        ("burn-wgpu", "gpu", rust("burn", "peers-burn"), gpu, "f32"),
        ("onnxruntime-webgpu", "gpu", [node, str(HERE / "onnxruntime-webgpu" / "peer.js")], "webgpu", "f32"),
        ("pytorch-cudnn", "gpu", python("pytorch"), "cuda", "f32"),
        ("pytorch-cudnn-f16", "gpu", python("pytorch"), "cuda", "f16"),
        ("gatefold-cpu", "cpu", rust("gatefold"), "cpu", "f32"),
        ("onnxruntime-cpu", "cpu", python("onnxruntime_cpu"), "cpu", "f32"),
        ("pytorch-cpu", "cpu", python("pytorch"), "cpu", "f32"),
        ("rten", "cpu", rust("rten"), "cpu", "f32"),
        ("candle", "cpu", rust("candle"), "cpu", "f32"),
        ("tract", "cpu", rust("tract"), "cpu", "f32"),
    ]


def build(names):
    """What is missing or older than its source; a peer that does not build is reported where it would have run."""
    for name in names:
        target = "peers-burn" if name == "burn" else "peers-build"
        command = ["cargo", "build", "--release", "--locked", "-p", f"peer-{name}", "--target-dir", str(ROOT / "target" / target)]
        print(f"building peer-{name}", file=sys.stderr, flush=True)
        if subprocess.run(command, cwd=HERE).returncode != 0:
            print(f"peer-{name} does not build", file=sys.stderr)
    if not (HERE / "onnxruntime-webgpu" / "node_modules").exists() and shutil.which("npm"):
        # --ignore-scripts: the package's own would fetch CUDA, which WebGPU does not need.
        subprocess.run(["npm", "ci", "--ignore-scripts"], cwd=HERE / "onnxruntime-webgpu")


def call(peer, case, budget, timeout):
    """The peer's answer, or {"failed": reason}."""
    _, _, command, device, precision = peer
    environment = dict(os.environ, PEER_DEVICE=device, PEER_PRECISION=precision)
    command = [*command, str(case), str(budget), str(TOLERANCE[precision])]
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=timeout)
    except FileNotFoundError as error:
        return {"failed": f"{error.filename} is not there"}
    except subprocess.TimeoutExpired:
        return {"failed": f"no answer within {timeout} s"}
    if done.returncode == 0:
        return json.loads(done.stdout.strip().splitlines()[-1])
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    # A Rust panic's message stands under its headline.
    told = [line for line in lines if re.search(r"error|not |no |panicked|expected", line, re.I)] or lines
    return {"failed": (told[0] if told else f"exit code {done.returncode}").strip()[:300]}


def is_right(answer, precision):
    error = answer["max_error"]
    return not isinstance(error, str) and error <= TOLERANCE[precision]


def controls(all_peers, cases, timeout):
    """Every peer that runs must call the damaged case wrong; gives the reasons of those that do not run."""
    absent = {}
    for peer in all_peers:
        answer = call(peer, cases / "control", 0, timeout)
        if "failed" in answer:
            absent[peer[0]] = answer["failed"]
            print(f"{peer[0]}: not run: {answer['failed']}", file=sys.stderr, flush=True)
        elif is_right(answer, peer[4]) or answer["times_us"]:
            sys.exit(f"{peer[0]} calls the damaged case right: its check is no check")
    return absent


def measure(all_peers, absent, cases, shapes, rounds, budget, timeout):
    """Results by shape and peer."""
    results = {shape: {} for shape in shapes}
    for shape in shapes:
        for number in range(rounds):
            for peer in all_peers:
                name, _, _, _, precision = peer
                found = results[shape].setdefault(name, {"times_us": [], "round_medians_us": []})
                if name in absent:
                    found["failed"] = absent[name]
                if "failed" in found or "wrong" in found:
                    continue
                answer = call(peer, cases / shape, budget, timeout)
                if "failed" in answer:
                    found.clear()
                    found["failed"] = answer["failed"]
                elif not is_right(answer, precision):
                    found.clear()
                    found["wrong"] = f"off by {answer['max_error']}, tolerance {TOLERANCE[precision]}"
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


def cell(found, ours):
    """`us per step ± half of the quartiles' distance, in percent (ratio to gatefold)`."""
    if "failed" in found:
        return "not run"
    if "wrong" in found:
        return "**wrong**"
    low, high = found["quartiles_us"]
    spread = (high - low) / 2 / found["median_us"] * 100
    text = f"{number(found['us_per_step'])} ±{spread:.0f}%"
    if ours is not found and "median_us" in ours:
        text += f" ({number(found['median_us'] / ours['median_us'])}×)"
    return text


def table(record, all_peers):
    """The record as Markdown."""
    lines = [f"# Peers on {record['adapter']}, {record['date']}", ""]
    lines += [f"`{record['command']}` at {record['commit']}; {record['machine']}.", ""]
    lines += [
        "µs per timestep: median over all samples of whole sequences (input in and output back in the host's memory), ± half",
        "the distance of the quartiles, and in brackets the ratio to gatefold there with weights so stored (above 1: gatefold is",
        f"faster). LSTM, input as wide as hidden; shapes are H,B,T. {record['rounds']} rounds, the peers in turn in each.",
        f"Outputs agree with the f64 reference within {TOLERANCE['f32']} (f16: {TOLERANCE['f16']}) before anything is timed.",
        "",
    ]
    for place, title in (("gpu", f"On {record['adapter']}"), ("cpu", "On the CPU")):
        here = {peer[0]: OURS[place, peer[4]] for peer in all_peers if peer[1] == place}
        lines += [f"## {title}", "", "| shape | " + " | ".join(here) + " |", "| --- |" + " ---: |" * len(here)]
        for shape, results in record["results"].items():
            cells = [cell(results[name], results[ours]) for name, ours in here.items()]
            lines.append(f"| {shape} | " + " | ".join(cells) + " |")
        lines.append("")
    lines += ["## What ran", "", "| peer | version | device | largest error |", "| --- | --- | --- | ---: |"]
    for name, *_ in all_peers:
        runs = [results[name] for results in record["results"].values()]
        ran = [found for found in runs if "version" in found]
        if ran:
            worst = max(found["max_error"] for found in ran)
            lines.append(f"| {name} | {ran[0]['version']} | {ran[0]['device']} | {worst:.1e} |")
        for shape, found in record["results"].items():
            if why := found[name].get("failed") or found[name].get("wrong"):
                which = "" if not ran else f" at {shape}"
                why = why.replace("|", "/")
                kind = "not run" if "failed" in found[name] else "wrong"
                lines.append(f"| {name}{which} | | {kind}: {why} | |")
                if not ran:
                    break
    return "\n".join(lines) + "\n"


def output_of(*command):
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout.strip()


def machine():
    model = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
    return f"{model[1] if model else 'CPU'}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the start"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer shapes, two rounds: for software adapters")
    parser.add_argument("--adapter", default="auto", help="gatefold's --device; `software` has the others take one too")
    parser.add_argument("--shapes", nargs="+", help="H,B,T")
    parser.add_argument("--peers", nargs="+", help="only these (gatefold always runs)")
    parser.add_argument("--rounds", type=int, help="how often each peer is called per shape")
    parser.add_argument("--budget", type=int, help="ms per call")
    parser.add_argument("--timeout", type=int, default=120, help="s per call")
    parser.add_argument("--no-build", action="store_true", help="take what is built")
    parser.add_argument("--record", type=pathlib.Path, default=ROOT / "benches" / "record")
    arguments = parser.parse_args()
    rounds = arguments.rounds or (2 if arguments.quick else 5)
    budget = arguments.budget or (250 if arguments.quick else 1000)
    shapes = arguments.shapes or (QUICK if arguments.quick else FULL)

    # The GPU run kit has no repository and says which commit it was built from.
    commit = os.environ.get("GATEFOLD_COMMIT") or output_of("git", "describe", "--always", "--dirty=+")
    if not arguments.no_build:
        build(["gatefold", "burn", "candle", "rten", "tract"])
    chosen = peers(arguments.adapter, shutil.which("node") or "node")
    if arguments.peers:
        unknown = set(arguments.peers) - {peer[0] for peer in chosen}
        if unknown:
            parser.error(f"no peer {', '.join(sorted(unknown))}; there are {', '.join(peer[0] for peer in chosen)}")
        chosen = [peer for peer in chosen if peer[0] in arguments.peers or peer[0] in OURS.values()]
    cases = ROOT / "target" / "peers" / "cases"
    for shape in shapes:
        prepare.write(cases / shape, *map(int, shape.split(",")), damage=False)
    prepare.write(cases / "control", 16, 1, 4, damage=True)

    started = machine()
    absent = controls(chosen, cases, arguments.timeout)
    if "gatefold" in absent:
        sys.exit(f"gatefold does not run: {absent['gatefold']}")
    results = measure(chosen, absent, cases, shapes, rounds, budget, arguments.timeout)
    for shape, by_peer in results.items():
        for found in by_peer.values():
            summarise(found, int(shape.split(",")[2]))
    adapter = next(iter(results.values()))["gatefold"]["device"]
    record = {
        "adapter": adapter,
        "date": datetime.date.today().isoformat(),
        "command": "peers/run.sh " + " ".join(sys.argv[1:]),
        "commit": commit,
        "machine": started,
        "driver_files": os.environ.get("VK_DRIVER_FILES"),
        "rounds": rounds,
        "tolerance": TOLERANCE,
        "results": results,
    }
    text = table(record, chosen)
    print(text)
    # The folder that `gatefold bench --record` takes: the adapter's name and its backend.
    named = re.match(r"(.*) \((vulkan|metal|dx12|gl|webgpu)\b", adapter)
    slug = re.sub(r"[^a-z0-9]+", "-", (" ".join(named.groups()) if named else adapter).lower()).strip("-")
    folder = arguments.record / slug
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{record['date']}-peers.md").write_text(text)
    (folder / f"{record['date']}-peers.json").write_text(json.dumps(record, indent=1) + "\n")
    print(f"written: {folder}/{record['date']}-peers.md and .json", file=sys.stderr)


if __name__ == "__main__":
    main()
