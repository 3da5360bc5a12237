"""Train the sentiment model with gatefold, once for each seed, and write the best as `sentiment.safetensors`.

The best is the one with the smallest validation loss. With `--export-test DIR`, write the test sentences and their
labels to DIR instead, one a line.
"""

import argparse
import csv
import json
import re
import struct
import subprocess
import tempfile
from pathlib import Path

from reviews import DEFAULT_DATA, HERE, LABELS, REPO, Review, load_splits

MODEL_FILE = HERE / "sentiment.safetensors"
SEEDS = range(1, 6)
COMMAND = (
    "train embedding:32,lstm:64,dense --split part --preset keras"
    " --dropout embedding=0.5:channels --dropout lstm=0.5 --epochs 20 --patience 3"
).split()


def write_table(splits: dict[str, list[Review]], path: Path) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["text", "label", "part"])
        for part, reviews in splits.items():
            writer.writerows((review.text, LABELS[review.label], part) for review in reviews)


def train(splits: dict[str, list[Review]], gatefold: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "reviews.csv"
        write_table(splits, table)
        runs = []
        for seed in SEEDS:
            out = Path(folder) / f"{seed}.safetensors"
            command = [*gatefold, *COMMAND, "--data", table, "--seed", str(seed), "--out", out]
            text = subprocess.run(command, check=True, capture_output=True, text=True, cwd=REPO).stdout
            # The smallest validation losses so far have a star.
            loss = min(float(found) for found in re.findall(r"([0-9.]+) \*", text))
            (test,) = re.findall(r"^test: .*", text, re.MULTILINE)
            print(f"seed {seed}: validation loss {loss:.4f}; {test}", flush=True)
            runs.append((loss, out))
        _, best = min(runs)
        MODEL_FILE.write_bytes(with_shipped_axes(best.read_bytes()))


def with_shipped_axes(file: bytes) -> bytes:
    """`file` with a description that reads `[batch, time]`, without padding, as the model always did.

    The weights stay as they are. Texts have no padding, so that a mask changes nothing.
    """
    (size,) = struct.unpack("<Q", file[:8])
    header = json.loads(file[8 : 8 + size])
    network = json.loads(header["__metadata__"]["gatefold"])
    for layer in network["layers"]:
        layer.pop("mask_zero", None)
        if "batch_first" in layer:
            layer["batch_first"] = True
    header["__metadata__"]["gatefold"] = compact(network)
    text = compact(header).encode("utf-8")
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + file[8 + size :]


def compact(value: dict) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def export_test(reviews: list[Review], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_lines(folder / "reviews.txt", [review.text for review in reviews])
    write_lines(folder / "labels.txt", [LABELS[review.label] for review in reviews])


def write_lines(path: Path, lines: list[str]) -> None:
    path.write_bytes("".join(f"{line}\n" for line in lines).encode("utf-8"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, default=DEFAULT_DATA)
    parser.add_argument("--gatefold", type=Path, help="the command; without it cargo builds it")
    parser.add_argument("--export-test", type=Path, metavar="DIR", help="write DIR/reviews.txt and DIR/labels.txt")
    args = parser.parse_args()

    splits = load_splits(args.data)
    if args.export_test:
        export_test(splits["test"], args.export_test)
    else:
        train(splits, [args.gatefold.resolve()] if args.gatefold else ["cargo", "run", "--release", "--quiet", "--"])


if __name__ == "__main__":
    main()
