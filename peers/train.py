"""Times a step of training on gatefold and its peers; called by `run.sh train`.

The cases are those of prepare_training.py. A sample is four steps, each with its loss read back; a peer whose first four
losses are not those of the f64 reference is shown as wrong, without a time. The rest is as in run.py.
"""

import argparse
import datetime
import json
import math
import os
import pathlib
import sys
import time

import prepare_training
import run
from prepare import Shape
from run import Peer

SHAPES = ["128,32,100", "256,32,100", "512,16,50", "gru:128,32,100"]
ON_GPU = ["128,16,50", "128,32,100", "gru:128,16,50"]
OURS = {"gpu": "gatefold", "cpu": "gatefold-cpu"}


def peers(gpu):
    keras = lambda backend: ["env", f"KERAS_BACKEND={backend}", *run.python("keras_steps")]  # noqa: E731
    return [
        Peer("gatefold", "gpu", run.rust("gatefold"), gpu),
        Peer("burn-wgpu", "gpu", run.rust("burn", "peers-burn"), gpu),
        Peer("pytorch-cudnn", "gpu", run.python("pytorch"), "cuda"),
        Peer("gatefold-cpu", "cpu", run.rust("gatefold"), "cpu"),
        Peer("pytorch-cpu", "cpu", run.python("pytorch"), "cpu"),
        Peer("keras-jax", "cpu", keras("jax"), "cpu"),
        Peer("keras-tensorflow", "cpu", keras("tensorflow"), "cpu"),
    ]


def table(record, chosen):
    """The record as Markdown."""
    lines = [f"# Training: peers on {record['adapter']}, {record['date']}", ""]
    lines += [f"`{record['command']}` at {record['commit']}; {record['machine']}.", ""]
    lines += [
        "Milliseconds of a step of training, from tokens in the host's memory to the loss there: Embedding(10,000, 64), one layer",
        "whose last h is read, Dense(2), cross-entropy, Adam. Median over all samples of four steps, ± half the distance of the",
        "quartiles, and in brackets the ratio to gatefold there (above 1: gatefold is faster). Shapes are H,B,T of an LSTM; `gru:`",
        f"a GRU. {record['rounds']} rounds, the peers in turn in each. Before anything is timed, the losses of four steps agree with the",
        f"f64 reference within {run.TOLERANCE} (others: {record['tolerance'] or 'none'}). Other processes took at most",
        f"{record['disturbed']:.0%} of a core.",
        "",
    ]
    for place, title in (("gpu", f"On {record['adapter']}"), ("cpu", "On the CPU")):
        here = [peer.name for peer in chosen if peer.place == place]
        if here:
            ours = OURS[place]
            cells = [[shape, *(run.cell(by[name], by[ours], "ms_per_step") for name in here)] for shape, by in record["results"].items()]
            lines += [f"## {title}", "", *run.rows(["shape", *here], cells)]
    return "\n".join(lines + run.what_ran(record, chosen))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--on", choices=["cpu", "gpu"], default="cpu", help="which peers")
    parser.add_argument("--threads", type=int, help="threads of every CPU peer, which is held to as many cores (Linux)")
    parser.add_argument("--adapter", default="auto", help="gatefold's --device; `software` has Burn take one too")
    parser.add_argument("--shapes", nargs="+", type=Shape.parse, help="[gru:]H,B,T")
    parser.add_argument("--peers", nargs="+", help="only these (gatefold always runs)")
    parser.add_argument("--rounds", type=int, default=3, help="how often each peer is called per shape")
    parser.add_argument("--budget", type=int, default=2000, help="ms per call")
    parser.add_argument("--timeout", type=int, default=300, help="s per call")
    parser.add_argument("--retry-minutes", type=float, default=math.inf, help="minutes in which disturbed calls are repeated")
    parser.add_argument("--no-build", action="store_true", help="take what is built")
    parser.add_argument("--gatefold", type=pathlib.Path, default=run.ROOT, help="the checkout whose gatefold is built and measured")
    parser.add_argument("--record", type=pathlib.Path, default=run.ROOT / "benches" / "record")
    arguments = parser.parse_args()
    shapes = arguments.shapes or [Shape.parse(text) for text in (ON_GPU if arguments.on == "gpu" else SHAPES)]
    ours = OURS[arguments.on]
    everyone = peers(arguments.adapter)
    if unknown := set(arguments.peers or []) - {peer.name for peer in everyone}:
        parser.error(f"no peer {', '.join(sorted(unknown))}; there are {', '.join(peer.name for peer in everyone)}")
    here = [peer for peer in everyone if peer.place == arguments.on]
    chosen = [peer for peer in here if peer.name in {ours, *(arguments.peers or [peer.name for peer in here])}]
    if not arguments.no_build:
        run.build(chosen, arguments.gatefold)
    cases = run.TARGET / "peers" / "cases-train"
    for shape in shapes:
        prepare_training.write(cases / str(shape), shape)
    prepare_training.write(cases / "control", prepare_training.CONTROL, damage=True)

    limits = run.Limits(arguments.budget, arguments.timeout, arguments.threads, time.monotonic() + 60 * arguments.retry_minutes)
    started = run.machine(limits)
    absent = run.controls(chosen, cases / "control", limits._replace(budget=0))
    if ours in absent:
        sys.exit(f"{ours} does not run: {absent[ours]}")
    results = run.measure(chosen, absent, cases, shapes, arguments.rounds, limits)
    for by_peer in results.values():
        for found in by_peer.values():
            run.summarise(found, prepare_training.STEPS)
            if "us_per_step" in found:
                found["ms_per_step"] = found["us_per_step"] / 1e3
    device = next(iter(results.values()))[ours].get("device", ours)
    record = {
        "adapter": run.cpu_model() if arguments.on == "cpu" else device,
        "date": datetime.date.today().isoformat(),
        "command": "peers/run.sh train " + " ".join(sys.argv[1:]),
        "commit": os.environ.get("GATEFOLD_COMMIT") or run.output_of("git", "describe", "--always", "--dirty=+", where=arguments.gatefold),
        "machine": started,
        "threads": arguments.threads,
        "rounds": arguments.rounds,
        "disturbed": max(found.get("disturbed", 0.0) for by_peer in results.values() for found in by_peer.values()),
        "tolerance": {peer.name: peer.tolerance for peer in chosen if peer.tolerance != run.TOLERANCE},
        "results": results,
    }
    run.keep(record, table(record, chosen), arguments.record, "train")


if __name__ == "__main__":
    main()
