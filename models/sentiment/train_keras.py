"""Train the same network with Keras, for comparison, and write it to the file that is named."""

import argparse
from pathlib import Path

import keras
from keras import layers

import model as network
from reviews import DEFAULT_DATA, Review, load_splits

MAX_TOKENS = 10_000
EMBEDDING_DIM = 32
HIDDEN_SIZE = 64
EMBEDDING_DROPOUT = 0.5  # of whole embedding channels
OUTPUT_DROPOUT = 0.5
LEARNING_RATE = 1e-3
BATCH_SIZE = 64
MAX_EPOCHS = 20
PATIENCE = 3


def train(splits: dict[str, list[Review]], seed: int, out: Path) -> None:
    keras.utils.set_random_seed(seed)

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
    network.save(model, vocabulary, out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=DEFAULT_DATA)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()

    train(load_splits(args.data), args.seed, args.out)


if __name__ == "__main__":
    main()
