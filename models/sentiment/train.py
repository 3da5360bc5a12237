"""Train the sentiment model and write `sentiment.safetensors`.

With `--export-test DIR`, write the test sentences and their labels to DIR instead, one a line.
"""

import argparse
from pathlib import Path

import keras
from keras import layers

import model as network
from reviews import DEFAULT_DATA, LABELS, Review, load_splits

SEED = 1
MAX_TOKENS = 10_000
EMBEDDING_DIM = 32
HIDDEN_SIZE = 64
EMBEDDING_DROPOUT = 0.5  # of whole embedding channels
OUTPUT_DROPOUT = 0.5
LEARNING_RATE = 1e-3
BATCH_SIZE = 64
MAX_EPOCHS = 20
PATIENCE = 3


def train(splits: dict[str, list[Review]]) -> None:
    keras.utils.set_random_seed(SEED)

    vectorizer = layers.TextVectorization(max_tokens=MAX_TOKENS)
    vectorizer.adapt(network.texts_of(splits["train"]))
    vocabulary = vectorizer.get_vocabulary()

    model = network.build(len(vocabulary), EMBEDDING_DIM, HIDDEN_SIZE, EMBEDDING_DROPOUT, OUTPUT_DROPOUT)
    model.compile(keras.optimizers.Adam(LEARNING_RATE), "categorical_crossentropy", metrics=["accuracy"])
    model.summary()

    inputs = {name: network.token_ids(vectorizer, network.texts_of(reviews)) for name, reviews in splits.items()}
    targets = {name: network.one_hot(reviews) for name, reviews in splits.items()}
    model.fit(
        inputs["train"],
        targets["train"],
        validation_data=(inputs["validation"], targets["validation"]),
        batch_size=BATCH_SIZE,
        epochs=MAX_EPOCHS,
        callbacks=[keras.callbacks.EarlyStopping("val_loss", patience=PATIENCE, restore_best_weights=True)],
        verbose=2,
    )
    network.save(model, vocabulary)


def export_test(reviews: list[Review], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_lines(folder / "reviews.txt", [review.text for review in reviews])
    write_lines(folder / "labels.txt", [LABELS[review.label] for review in reviews])


def write_lines(path: Path, lines: list[str]) -> None:
    path.write_bytes("".join(f"{line}\n" for line in lines).encode("utf-8"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, default=DEFAULT_DATA)
    parser.add_argument("--export-test", type=Path, metavar="DIR", help="write DIR/reviews.txt and DIR/labels.txt")
    args = parser.parse_args()

    splits = load_splits(args.data)
    if args.export_test:
        export_test(splits["test"], args.export_test)
    else:
        train(splits)


if __name__ == "__main__":
    main()
