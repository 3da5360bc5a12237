"""Keras models with one thing changed at a time, and what Keras makes of each.

    KERAS_BACKEND=numpy python generate_keras_mutations.py          # writes keras_mutations.zip
    python generate_keras_mutations.py MODEL ...                    # of these models, on TensorFlow; the others stay

A change is to one option of one layer (another value, null, or gone), to a class or a name, or to the shape or a number
of one array of weights. An entry of the bundle is `MODEL.safetensors`: for every change a tensor
`NUMBER CHANGE|config.json` or `NUMBER CHANGE|model.weights.h5` with the changed entry of the archive and, if Keras reads
and runs it, `NUMBER CHANGE|output`. Left out are options that only matter in training, changes that Keras reads as more
than one input or output, and `stateful`: Keras asks for a fixed number of rows then, gatefold's state is the caller's.
"""

import io
import json
import os
import random
import sys
import tempfile
import zipfile

# The other script has arguments of its own.
CHOSEN, sys.argv[1:] = sys.argv[1:], []
os.environ.setdefault("KERAS_BACKEND", "tensorflow" if CHOSEN else "numpy")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import h5py
import keras
import numpy as np

from generate_onnx_mutations import EPOCH, HERE, pack, tensors_of

MODELS = [
    "backwards_sequence", "bidirectional_concat", "bidirectional_last", "bidirectional_sum", "convolutions", "embedding",
    "embedding_mask_zero", "functions", "graph_branches", "gru", "gru_no_bias", "gru_reset_before", "lstm", "lstm_last",
    "masking_sequence", "norms", "pooling", "simple_rnn", "stacked", "time_distributed", "flow_heads", "flow_one_query",
    "flow_prelu", "flow_separable",
]
MOST = 60
TRAINING = (
    "_initializer", "_regularizer", "_constraint", "dropout", "seed", "trainable", "unit_forget_bias", "momentum",
    "rate", "synchronized", "noise_shape", "stateful",
)
OTHER = {
    "tanh": ["relu", "sigmoid", "nothing"], "sigmoid": ["tanh", "hard_sigmoid"], "relu": ["elu", "linear"],
    "linear": ["tanh"], "softmax": ["sigmoid"], "valid": ["same", "causal"], "same": ["valid"], "causal": ["valid"],
    "concat": ["sum", "ave", "mul"], "sum": ["mul", "concat"], "ave": ["sum"], "mul": ["ave"],
    "channels_last": ["channels_first"],
    "LSTM": ["GRU", "SimpleRNN"], "GRU": ["LSTM"], "SimpleRNN": ["GRU"], "Dense": ["Embedding"], "Conv1D": ["Dense"],
    "MaxPooling1D": ["AveragePooling1D"], "AveragePooling1D": ["MaxPooling1D"], "LayerNormalization": ["BatchNormalization"],
}


def others(value):
    """Other values than `value`, of its own kind and of others."""
    if isinstance(value, bool):
        return [not value, None, int(not value)]
    if isinstance(value, int):
        return [value + 1, max(value - 1, 0), -value, float(value) + 0.5, None]
    if isinstance(value, float):
        return [value * 2 + 0.125, None, str(value)]
    if isinstance(value, str):
        return OTHER.get(value, ["x"]) + [None]
    if isinstance(value, list) and value and all(isinstance(v, int) for v in value):
        return [[value[0] + 1] + value[1:], value + [1], value[0], None]
    return []


def paths(node, path=()):
    """Every option of every layer, as a path into the configuration."""
    if isinstance(node, dict):
        for key, value in node.items():
            if not any(key.endswith(t) for t in TRAINING) and key not in ("build_config", "compile_config", "inbound_nodes", "module", "dtype", "registered_name"):
                yield path + (key,)
                yield from paths(value, path + (key,))
    elif isinstance(node, list):
        for index, value in enumerate(node):
            if isinstance(value, (dict, list)):
                yield from paths(value, path + (index,))


def at(config, path):
    for key in path:
        config = config[key]
    return config


def config_changes(config):
    for path in paths(config):
        if len(path) < 3:
            continue
        value, name = at(config, path), ".".join(map(str, path))
        def edit(change, path=path):
            copy = json.loads(json.dumps(config))
            change(at(copy, path[:-1]), path[-1])
            return "config.json", json.dumps(copy).encode()
        for new in others(value):
            yield f"{name} = {new}", edit(lambda parent, key, new=new: parent.__setitem__(key, new))
        yield f"{name} gone", edit(lambda parent, key: parent.pop(key))


def weight_changes(data):
    names = []
    with h5py.File(io.BytesIO(data)) as file:
        file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
    for name in names:
        for what, change in [
            ("transposed", lambda a: a.T if a.ndim > 1 and a.shape[0] != a.shape[1] else None),
            ("flat", lambda a: a.reshape(-1) if a.ndim > 1 else None),
            ("longer", lambda a: np.concatenate([a, a[:1]]) if a.ndim else None),
            ("an axis more", lambda a: a[None]),
            ("nudged", lambda a: a + np.eye(1, a.size, dtype=a.dtype).reshape(a.shape) * 0.25 if a.dtype.kind == "f" else None),
            ("zeros", lambda a: np.zeros_like(a)),
            ("gone", lambda a: ...),
        ]:
            buffer = io.BytesIO(data)
            with h5py.File(buffer, "r+") as file:
                new = change(file[name][()])
                if new is None:
                    continue
                del file[name]
                if new is not ...:
                    file[name] = new
            yield f"{name} {what}", ("model.weights.h5", buffer.getvalue())


def answer(entries, x):
    """Keras' output, or None if it refuses."""
    with tempfile.NamedTemporaryFile(suffix=".keras") as file:
        with zipfile.ZipFile(file, "w") as archive:
            for name, data in entries.items():
                archive.writestr(name, data)
        file.flush()
        try:
            output = keras.models.load_model(file.name, compile=False)(x)
            return False if isinstance(output, (list, tuple)) else np.asarray(output, np.float32)
        except Exception:
            return None


if __name__ == "__main__":
    target, total, kept = HERE / "keras_mutations.zip", 0, {}
    if CHOSEN:
        with zipfile.ZipFile(target) as old:
            kept = {name: old.read(name) for name in old.namelist() if name.split(".")[0] not in CHOSEN}
    with zipfile.ZipFile(HERE / "keras_models.zip") as bundle, zipfile.ZipFile(target, "w") as out:
        for name, data in kept.items():
            out.writestr(zipfile.ZipInfo(name, EPOCH), data, zipfile.ZIP_DEFLATED, 9)
        for model in CHOSEN or MODELS:
            golden = tensors_of(bundle.read(f"{model}.golden.safetensors"))
            with zipfile.ZipFile(io.BytesIO(bundle.read(f"{model}.keras"))) as archive:
                entries = {name: archive.read(name) for name in archive.namelist()}
            x = golden["input"]
            right = answer(entries, x)
            assert np.abs(right - golden["output"]).max() < 1e-4, model
            all_changes = list(config_changes(json.loads(entries["config.json"]))) + list(weight_changes(entries["model.weights.h5"]))
            if len(all_changes) > MOST:
                all_changes = random.Random(model).sample(all_changes, MOST)
            tensors, answered = {}, 0
            for number, (what, (entry, data)) in enumerate(all_changes):
                got = answer({**entries, entry: data}, x)
                if got is False:
                    continue
                tensors[f"{number:04} {what}|{entry}"] = np.frombuffer(data, np.uint8)
                if got is not None:
                    tensors[f"{number:04} {what}|output"], answered = got, answered + 1
                total += 1
            print(model, len(all_changes), "changes,", answered, "answered", flush=True)
            out.writestr(zipfile.ZipInfo(f"{model}.safetensors", EPOCH), pack(tensors), zipfile.ZIP_DEFLATED, 9)
    print(total, "changes,", target.stat().st_size, "bytes")
