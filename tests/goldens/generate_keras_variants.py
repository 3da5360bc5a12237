"""What other systems and older versions of Keras wrote, made of files in `keras_models.zip` and added to it.

`odd_windows.keras` is `stacked.keras` as Keras on Windows wrote it, with backslashes between the parts of a group's name;
`odd_early_gru.h5` is a GRU of Keras 2.1, which had no option `reset_after`; `gru_reset_before.to_json` is what
`model.to_json()` gives for the model of that name; `nested*` have models as layers.

    python generate_keras_variants.py
"""

import io
import json
import os
import tempfile
import zipfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import h5py
import keras

from generate_keras_files import FILES, case, features
from golden import HERE

BUNDLE = HERE / "keras_models.zip"
NEW = ("odd_windows.keras", "odd_windows.golden.safetensors", "odd_early_gru.h5", "odd_early_gru.golden.safetensors")
NEW += ("gru_reset_before.to_json",)


def windows(archive: bytes) -> bytes:
    old, target, weights = zipfile.ZipFile(io.BytesIO(archive)), io.BytesIO(), io.BytesIO()
    with h5py.File(io.BytesIO(old.read("model.weights.h5"))) as source, h5py.File(weights, "w") as changed:

        def visit(path, item):
            if isinstance(item, h5py.Dataset):
                group, _, array = path.partition("/vars/")
                changed.create_dataset(group.replace("/", "\\") + "/vars/" + array, data=item[()])

        source.visititems(visit)
    with zipfile.ZipFile(target, "w") as new:
        for entry in ("metadata.json", "config.json"):
            new.writestr(entry, old.read(entry))
        new.writestr("model.weights.h5", weights.getvalue())
    return target.getvalue()


def early_gru(file: bytes) -> bytes:
    target = io.BytesIO(file)
    with h5py.File(target, "r+") as model:
        configuration = json.loads(model.attrs["model_config"])
        for layer in configuration["config"]["layers"]:
            layer["config"].pop("reset_after", None)
        model.attrs["model_config"] = json.dumps(configuration)
        model.attrs["keras_version"] = "2.1.3"
    return target.getvalue()


def to_json(archive: bytes) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        path.write_bytes(archive)
        return keras.models.load_model(path).to_json().encode()


def nested(layers, library):
    """A functional model in a functional model, beside a layer of the same class."""
    inner = layers.Input((None, 3))
    base = library.Model(inner, layers.GRU(4, return_sequences=True)(layers.Dense(5, "relu")(inner)), name="base")
    outer = layers.Input((None, 3))
    return library.Model(outer, layers.Dense(2)(layers.LSTM(3)(base(layers.Dense(3)(outer)))))


def nested_sequential(layers, library):
    """Sequential models in a Sequential model, the second within another."""
    first = library.Sequential([layers.Input((None, 3)), layers.LSTM(4, return_sequences=True)])
    second = library.Sequential([library.Sequential([layers.Dense(5, "tanh")]), layers.GRU(3)])
    return library.Sequential([layers.Input((None, 3)), first, second, layers.Dense(2)])


def main() -> None:
    case("nested", nested, features(3))
    case("nested_sequential", nested_sequential, features(3))
    with zipfile.ZipFile(BUNDLE) as bundle:
        files = {entry: bundle.read(entry) for entry in bundle.namelist()}
    made = (
        windows(files["stacked.keras"]),
        files["stacked.golden.safetensors"],
        early_gru(files["gru_reset_before.h5"]),
        files["gru_reset_before.golden.safetensors"],
        to_json(files["gru_reset_before.keras"]),
    )
    files |= dict(zip(NEW, made)) | FILES
    with zipfile.ZipFile(BUNDLE, "w", zipfile.ZIP_DEFLATED) as bundle:
        for name in sorted(files):
            # One date, so that the same files make the same archive.
            bundle.writestr(zipfile.ZipInfo(name), files[name], zipfile.ZIP_DEFLATED, 9)


main()
