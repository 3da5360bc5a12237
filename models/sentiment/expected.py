"""What Keras computes with the shipped file, for gatefold's tests to compare with.

Writes `expected_test.csv` (the test split) and `expected_texts.json` (the texts of `texts.py`).
"""

import argparse
import csv
import json
from pathlib import Path

import keras
import numpy as np

import model as network
from reviews import DEFAULT_DATA, HERE, LABELS, Review, load_splits
from texts import TEXTS, expand

TEST_FILE = HERE / "expected_test.csv"
TEXTS_FILE = HERE / "expected_texts.json"


def unpadded(model: keras.Model, ids: np.ndarray) -> np.ndarray:
    """Each row at its exact length, batched only with rows as long."""
    lengths = (ids != 0).sum(axis=1)
    probabilities = np.empty((len(ids), len(LABELS)), np.float32)
    for length in np.unique(lengths):
        rows = lengths == length
        probabilities[rows] = model.predict_on_batch(ids[rows, :length])
    return probabilities


def write_test(reviews: list[Review], probabilities: np.ndarray) -> None:
    with TEST_FILE.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["file", "line", "label", *LABELS])
        for review, row in zip(reviews, probabilities, strict=True):
            writer.writerow([review.file, review.line, LABELS[review.label], *(f"{p:.9g}" for p in row)])


def write_texts(model: keras.Model, vectorizer: keras.layers.TextVectorization) -> None:
    cases = []
    for text in TEXTS:
        (ids,) = network.token_ids(vectorizer, [expand(text)])
        case = {"text": text, "ids": ids.tolist()}
        if ids.size:
            case["probabilities"] = [float(f"{p:.9g}") for p in unpadded(model, ids[None])[0]]
        cases.append(case)
    lines = ",\n".join(json.dumps(case) for case in cases)
    TEXTS_FILE.write_text(f"[\n{lines}\n]\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, default=DEFAULT_DATA)
    args = parser.parse_args()

    model, vectorizer = network.load()
    for name, reviews in load_splits(args.data).items():
        ids = network.token_ids(vectorizer, network.texts_of(reviews))
        probabilities = model.predict(ids, batch_size=128, verbose=0)
        labels = np.array([review.label for review in reviews])
        right = int((probabilities.argmax(axis=1) == labels).sum())
        print(f"{name:10}  accuracy {right / len(labels):.4f}  ({right} of {len(labels)})")

    # load_splits ends with the test split.
    exact = unpadded(model, ids)
    difference = np.abs(exact - probabilities).max()
    print(f"padded and masked against exact lengths: largest difference {difference:.1e}")
    assert difference < 1e-6
    write_test(reviews, exact)
    write_texts(model, vectorizer)


if __name__ == "__main__":
    main()
