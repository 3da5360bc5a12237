"""Files of every format, their bytes, and damaged ones."""

import io
import os
import pickle

import numpy as np
import pytest
from support import GOLDENS, SENTIMENT, bundle, close, device, numbers, safetensors, small

import gatefold_rnn as gf


def test_path_bytes_and_buffers_are_the_same():
    data = SENTIMENT.read_bytes()
    ids = [[12, 7, 104]]
    expected = gf.load(SENTIMENT, device=device())(ids)
    for source in (str(SENTIMENT), os.fsencode(SENTIMENT).decode(), data, bytearray(data), memoryview(data)):
        assert np.array_equal(gf.load(source, device=device())(ids), expected)
    net = gf.load(SENTIMENT)
    assert net.labels == ["negative", "positive"] and net.vocabulary[1] == "[UNK]" and net.batch_first
    assert net.output_size == 2 and not net.output_is_sequence and net.parameters == 345_218


def pytorch_cases():
    return sorted(path.name.removesuffix(".golden.safetensors") for path in GOLDENS.glob("lstm*.golden.safetensors"))


def test_safetensors_agree_with_pytorch():
    """Networks whose outputs PyTorch computed in f64 (`tests/goldens/generate.py`)."""
    seen = 0
    for case in pytorch_cases():
        net = gf.load(GOLDENS / f"{case}.safetensors", device=device())
        golden = safetensors((GOLDENS / f"{case}.golden.safetensors").read_bytes())
        kept = net.initial_state().numpy()
        state = None
        if "h_0" in golden and len(kept) == 1:
            state = {name: {part: golden[f"{part}_0"] for part in parts} for name, parts in kept.items()}
        y, end = net.run(golden["input"], state)
        assert close(y, golden["output"], golden["input"].shape[1]), case
        for name, parts in end.numpy().items():
            for part, values in parts.items():
                if f"{name}.{part}_n" in golden:
                    assert close(values, golden[f"{name}.{part}_n"], golden["input"].shape[1]), (case, name, part)
                    seen += 1
    assert seen > 30, seen


def test_keras_files_agree_with_keras():
    """Models whose outputs Keras computed in f64 (`tests/goldens/generate_keras_files.py`); every second, for time."""
    files = bundle("keras_models.zip")
    whole = (name for name in files if name.endswith((".keras", ".h5")) and ".weights." not in name)
    models = sorted(name for name in whole if f"{name.split('.')[0]}.golden.safetensors" in files)
    missed = []
    for model in models[::2]:
        golden = safetensors(files[f"{model.split('.')[0]}.golden.safetensors"])
        net = gf.load(files[model], name=model, device=device())
        others = {name.removeprefix("input."): x for name, x in golden.items() if name.startswith("input.")}
        given = golden["input"] if not others else {net.inputs[0]["name"]: golden["input"], **others}
        y = net(given)
        y = y[net.outputs[0]] if isinstance(y, dict) else y
        if not close(y, golden["output"], golden["input"].shape[1]):
            missed.append(model)
    assert missed == [] and len(models) > 200, (missed, len(models))
    assert not close(y + 1e-3, golden["output"], golden["input"].shape[1]), "the comparison can fail"


def test_weights_and_names(tmp_path):
    net = small()
    path = tmp_path / "net.safetensors"
    net.save(path)
    x = numbers(5, 2, 3)
    assert np.array_equal(gf.load(path, device=device())(x), net(x))
    half = gf.load(path, device=device(), weights="f16")
    assert 0 < np.abs(half(x) - net(x)).max() < 1e-3
    with pytest.raises(ValueError, match="^mine: "):
        gf.load(b"nothing", name="mine")


def test_pickles():
    net = small()
    x = numbers(5, 2, 3)
    y, state = net.run(x)
    copy, same = pickle.loads(pickle.dumps((net, state)))
    assert np.array_equal(copy(x), y) and same == state
    assert np.array_equal(copy.run(x, same)[0], net.run(x, state)[0])
    other = gf.network(net.layers, seed=2)
    with pytest.raises(ValueError, match="state: expected one of network"):
        other.run(x, same)


def test_errors_of_files(tmp_path):
    with pytest.raises(FileNotFoundError, match="nope.onnx"):
        gf.load("nope.onnx")
    with pytest.raises(ValueError, match="got a folder"):
        gf.load(tmp_path)
    with pytest.raises(TypeError, match="source: expected a path or bytes, got int"):
        gf.load(3)
    with pytest.raises(TypeError):
        gf.load(io.BytesIO())
    with pytest.raises(FileNotFoundError):
        small().save(tmp_path / "none" / "net.safetensors")
    if os.path.exists("/dev/full"):
        with pytest.raises(OSError):
            small().save("/dev/full/x")
    with pytest.raises(OSError, match="NUL"):
        gf.load("a\0b")


def test_damaged_files_are_value_errors():
    """Bytes cut, set and swapped: each is refused by a `ValueError`, or still a network. A panic would be a `RuntimeError`."""
    keras = bundle("keras_models.zip")
    onnx = bundle("onnx_models.zip")
    files = [
        small().to_bytes(),
        keras["bidirectional_concat.keras"],
        keras["bidirectional_concat.h5"],
        next(data for name, data in sorted(onnx.items()) if name.endswith(".onnx")),
    ]
    rng = np.random.default_rng(7)
    refused = 0
    for data in files:
        for _ in range(150):
            damaged = bytearray(data)
            kind = rng.integers(3)
            at = int(rng.integers(len(damaged)))
            if kind == 0:
                del damaged[at:]
            elif kind == 1:
                damaged[at] = int(rng.integers(256))
            else:
                damaged[at : at + 8] = bytes(8)
            try:
                gf.load(bytes(damaged))
            except ValueError as error:
                assert str(error)
                refused += 1
    assert refused > 200, refused
    for name, words in [("", "expected"), ("PK\x03\x04", None), ("\x89HDF\r\n\x1a\n", None), ("\x08\x0a", None), ("{", None)]:
        with pytest.raises(ValueError, match=words):
            gf.load(name.encode("latin1"))
