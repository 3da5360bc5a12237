"""Writes keras_large.zip: models whose files are about a megabyte, nearly all of them zeros, so that the archive is small.

Run with Keras 3: python tests/goldens/generate_keras_large.py
"""

import os
import tempfile
import zipfile
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras  # noqa: E402

BUNDLE = Path(__file__).with_name("keras_large.zip")


def models():
    layers = keras.layers
    zeros = {"kernel_initializer": "zeros"}
    lstm = layers.LSTM(192, recurrent_initializer="zeros", return_sequences=True, **zeros)
    gru = layers.GRU(192, recurrent_initializer="zeros", return_sequences=True, **zeros)
    yield "lstm", [layers.Input((None, 192)), lstm]
    yield "gru", [layers.Input((None, 192)), gru]
    yield "dense", [layers.Input((None, 600)), layers.Dense(700, **zeros)]


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(BUNDLE, "w") as bundle:
        for name, layers in models():
            for suffix in (".keras", ".h5"):
                path = Path(folder) / (name + suffix)
                keras.Sequential(layers).save(path)
                # One date, so that the same files make the same archive.
                bundle.writestr(zipfile.ZipInfo(path.name), path.read_bytes(), zipfile.ZIP_DEFLATED, 9)


if __name__ == "__main__":
    main()
