"""The movie-review sentences and their split into train, validation and test.

Run as a script to write `split.csv` anew.
"""

import argparse
import collections
import csv
import random
import re
import string
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPO = HERE.parents[1]
DEFAULT_DATA = REPO.parent / "shared" / "data" / "movie-reviews"

LABELS = ["negative", "positive"]
FILES = ["rt-polarity.neg", "rt-polarity.pos"]  # in the order of LABELS
SPLITS = ["train", "validation", "test"]

SPLIT_FILE = HERE / "split.csv"
SPLIT_SEED = 20050625
HELD_OUT_PER_LABEL = 533  # of 5,331, for validation and for test each

PUNCTUATION = re.compile(f"[{re.escape(string.punctuation)}]")


@dataclass(frozen=True)
class Review:
    file: str
    line: int  # 1-based
    text: str
    label: int


def read_reviews(data: Path) -> dict[tuple[str, int], Review]:
    """Every sentence, keyed by file and line.

    Lines end at b"\\n" only: `str.splitlines` would also break at U+0085 and others.
    """
    reviews = {}
    for label, file in enumerate(FILES):
        lines = (data / file).read_bytes().removesuffix(b"\n").split(b"\n")
        for line, text in enumerate(lines, start=1):
            reviews[file, line] = Review(file, line, text.decode("utf-8"), label)
    return reviews


def load_splits(data: Path) -> dict[str, list[Review]]:
    """The reviews of each split, in the order of `split.csv`."""
    reviews = read_reviews(data)
    splits = {name: [] for name in SPLITS}
    with SPLIT_FILE.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            splits[row["split"]].append(reviews[row["file"], int(row["line"])])
    return splits


def make_split(reviews: list[Review]) -> dict[tuple[str, int], str]:
    """A shuffle with a fixed seed, stratified by label.

    Sentences that differ in punctuation or spacing only all go to train, so no split holds a copy of another's.
    """
    copies = collections.Counter(same_text_key(review) for review in reviews)
    split = {(review.file, review.line): "train" for review in reviews}
    rng = random.Random(SPLIT_SEED)
    for label in range(len(LABELS)):
        pool = [r for r in reviews if r.label == label and copies[same_text_key(r)] == 1]
        rng.shuffle(pool)
        for index, review in enumerate(pool[: 2 * HELD_OUT_PER_LABEL]):
            split[review.file, review.line] = "test" if index < HELD_OUT_PER_LABEL else "validation"
    return split


def same_text_key(review: Review) -> str:
    return " ".join(PUNCTUATION.sub("", review.text.lower()).split())


def main() -> None:
    parser = argparse.ArgumentParser(description="Write split.csv.")
    parser.add_argument("--data", type=Path, default=DEFAULT_DATA)
    args = parser.parse_args()

    split = make_split(list(read_reviews(args.data).values()))
    with SPLIT_FILE.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["file", "line", "split"])
        writer.writerows((name, line, part) for (name, line), part in split.items())
    print(collections.Counter(split.values()))


if __name__ == "__main__":
    main()
