"""Times `gatefold score` on rows of 22 tokens on average: CPU seconds, rows per second and core, largest memory.

    python benches/score.py target/release/gatefold [ROWS]

Needs NumPy and pyarrow. The sentiment model is the built-in one. Prints a table for a record.
"""

from __future__ import annotations

import csv
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq


def write_rows(folder: Path, rows: int) -> None:
    """Texts and token lists with an id each, as Parquet, and the texts as CSV and JSON lines."""
    random = np.random.default_rng(1)
    words = np.array(["a", "warm", "funny", "film", "that", "never", "bored", "the", "cast", "plot", "is", "moving"])
    lengths = np.maximum(random.poisson(22, rows), 1)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    drawn = words[random.integers(0, len(words), offsets[-1])]
    texts = [" ".join(drawn[start:end]) for start, end in zip(offsets, offsets[1:])]
    tokens = pa.ListArray.from_arrays(pa.array(offsets), pa.array(random.integers(1, 10_000, offsets[-1]).astype(np.int32)))
    ids = pa.array(np.arange(rows))
    pq.write_table(pa.table({"id": ids, "text": texts}), folder / "text.parquet", row_group_size=100_000)
    pq.write_table(pa.table({"id": ids, "tokens": tokens}), folder / "tokens.parquet", row_group_size=100_000)
    with (folder / "text.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["id", "text"], *enumerate(texts)])
    with (folder / "text.jsonl").open("w") as file:
        file.writelines(json.dumps({"id": number, "text": text}) + "\n" for number, text in enumerate(texts))


def measured(command: list[str]) -> tuple[float, float, float]:
    """Seconds, CPU seconds and MB of one run."""
    start = time.monotonic()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    memory = 0.0
    while child.poll() is None:
        try:
            # The largest resident size since the command began.
            lines = Path(f"/proc/{child.pid}/status").read_text().splitlines()
            memory = max(memory, *(int(line.split()[1]) / 1000 for line in lines if line.startswith("VmHWM:")))
        except (OSError, TypeError):
            pass
        time.sleep(0.02)
    assert child.returncode == 0, command
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.monotonic() - start, cpu, memory


def main() -> None:
    binary = sys.argv[1]
    rows = int(sys.argv[2]) if len(sys.argv) > 2 else 400_000
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_rows(folder, rows)
        print("| input | output | threads | s | CPU s | rows/s a core | MB |\n| --- | --- | ---: | ---: | ---: | ---: | ---: |")
        cases = [
            ("tokens.parquet", "parquet", 1),
            ("tokens.parquet", "parquet", 2),
            ("text.parquet", "parquet", 1),
            ("text.parquet", "parquet", 2),
            ("text.csv", "csv", 1),
            ("text.jsonl", "jsonl", 1),
        ]
        for source, ending, threads in cases:
            column = ["--tokens", "tokens"] if source.startswith("tokens") else []
            command = [binary, "score", str(folder / source), str(folder / f"out.{ending}"), "--force", "--device", "cpu"]
            runs = [measured([*command, "--threads", str(threads), *column]) for _ in range(3)]
            seconds, cpu, memory = min(run[0] for run in runs), min(run[1] for run in runs), max(run[2] for run in runs)
            print(f"| {source} | {ending} | {threads} | {seconds:.1f} | {cpu:.2f} | {rows / cpu:,.0f} | {memory:.0f} |", flush=True)


if __name__ == "__main__":
    main()
