"""Training: the engine's trainer with NumPy arrays, texts and callbacks."""

import os
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
from support import REPOSITORY, close, device, lstm, numbers

import gatefold_rnn as gf

TEXTS = ["good film", "bad film", "so good", "a bad bad day"] * 6
LABELS = ["pos", "neg"] * 12


def reader() -> gf.Network:
    layers = [
        {"type": "embedding", "name": "words", "embedding_dim": 8},
        lstm(8, 8, output="last", batch_first=True),
        {"type": "dense", "name": "head", "in_features": 8},
        {"type": "softmax"},
    ]
    return gf.network(layers, texts=TEXTS, labels=["neg", "pos"], seed=1)


def regression(**options) -> gf.Network:
    layers = [lstm(2, 6, output="last", **options), {"type": "dense", "name": "head", "in_features": 6, "out_features": 1}]
    return gf.network(layers, seed=1)


def trainer(net=None, **options) -> gf.Trainer:
    return gf.Trainer(net or reader(), learning_rate=0.02, seed=1, device=device(), **options)


def test_texts_are_learned():
    learner = trainer(dropout={"words": 0.1})
    before = learner.evaluate(TEXTS, LABELS)
    history = learner.fit(TEXTS, LABELS, epochs=12, batch_size=4, validation_data=(TEXTS, LABELS))
    after = learner.evaluate(TEXTS, LABELS, top_k=1, confusion=True)
    assert after["loss"] < 0.1 < before["loss"] and after["accuracy"] == after["top_k"] == 1.0
    assert after["confusion"].tolist() == [[12, 0], [0, 12]]
    assert history["epoch"] == list(range(1, 13)) and history["val_loss"][-1] == pytest.approx(after["loss"], rel=1e-3)
    assert learner.steps == 72 and history.best_epoch == 12
    predicted = learner.predict(TEXTS)
    assert predicted.shape == (24, 2) and (predicted.argmax(1) == [1, 0] * 12).all()
    assert gf.Classifier(learner.network()).predict(["good", "bad"]).tolist() == ["pos", "neg"]


def test_a_step_of_sgd_is_that_of_numpy():
    """One step of a dense layer on squared errors, by hand; the control has another rate."""
    net = gf.network([{"type": "input", "input_size": 2}, {"type": "dense", "name": "d", "in_features": 2, "out_features": 1}])
    x, y = numbers(4, 1, 2), numbers(4, 1, 1, seed=1)
    weight = net.tensors()
    error = (x[:, 0] @ weight["d.weight"].T + weight["d.bias"] - y[:, 0]) * 2 / 4
    expected = weight["d.weight"] - 0.1 * error.T @ x[:, 0]
    for rate, same in [(0.1, True), (0.2, False)]:
        learner = gf.Trainer(net, "mse", "sgd", learning_rate=rate, device=device())
        learner.fit(x, y, batch_size=4, progress=False)
        assert close(learner.network().tensors()["d.weight"], expected, 1) == same


@pytest.mark.parametrize("loss", ["mse", "mae", "huber", {"huber": {"delta": 0.5}}, "binary_cross_entropy"])
@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd", "rmsprop", "adagrad"])
def test_every_loss_and_optimizer_makes_the_loss_smaller(loss, optimizer):
    x = numbers(16, 5, 2)
    y = (x.sum((1, 2)) > 0).astype(np.float32)[:, None]
    rate = {"sgd": 0.5, "adagrad": 0.1}.get(optimizer, 0.01)
    learner = gf.Trainer(regression(), loss, optimizer, learning_rate=rate, device=device(), clip_norm=1.0)
    before = learner.evaluate(x, y)["loss"]
    learner.fit(x, y, epochs=30, batch_size=8, progress=False)
    assert learner.evaluate(x, y)["loss"] < 0.9 * before


def test_other_kinds_of_answers():
    tokens = [[1, 2, 3], [2, 2], [3, 1, 1, 2]]
    embedding = {"type": "embedding", "name": "e", "num_embeddings": 4, "embedding_dim": 6}
    dense = {"type": "dense", "name": "d", "in_features": 8, "out_features": 4}
    net = gf.network([embedding, lstm(6, 8), dense], seed=1)
    steps = gf.Trainer(net, learning_rate=0.05, device=device())
    steps.fit(tokens, tokens, epochs=60, batch_size=3, progress=False)
    assert steps.evaluate(tokens, tokens)["accuracy"] == 1.0
    assert [one.argmax(-1).tolist() for one in steps.predict(tokens)] == tokens
    ctc = gf.Trainer(net, "ctc", learning_rate=0.05, device=device())
    history = ctc.fit(tokens, [[1], [2], [3, 1]], epochs=20, batch_size=3, progress=False)
    assert history["loss"][-1] < 0.5 * history["loss"][0]
    ints = gf.Trainer(reader(), device=device()).fit(np.array([[2, 3], [4, 5]]), np.array([0, 1]), progress=False)
    assert len(ints) == 1


def test_callbacks_see_and_stop():
    events = []
    history = trainer().fit(TEXTS, LABELS, epochs=3, batch_size=8, callbacks=events.append, progress=False)
    assert [event["kind"] for event in events] == (["step"] * 3 + ["epoch"]) * 3 and len(history) == 3
    assert events[0]["batches"] == 3 and events[3]["best"]
    seen = []

    def stop(event):
        seen.append(event)
        return event["kind"] == "epoch" and event["epoch"] == 2 and False or None

    learner = trainer()
    history = learner.fit(TEXTS, LABELS, epochs=9, batch_size=8, callbacks=[lambda e: e["epoch"] < 2, stop], progress=False)
    assert learner.steps == 4 and len(history) == 1 and len(seen) == 5, "the fit ends behind the first step of epoch 2"


def test_an_error_in_a_callback_is_raised_once():
    learner = trainer()
    calls = []

    def fails(event):
        calls.append(event)
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        learner.fit(TEXTS, LABELS, batch_size=8, callbacks=fails, progress=False)
    assert len(calls) == 1 and learner.steps >= 1
    with pytest.raises(RuntimeError, match="the trainer is in another call, such as `fit`"):
        learner.fit(TEXTS, LABELS, callbacks=lambda event: learner.predict(TEXTS), progress=False)
    assert len(learner.fit(TEXTS, LABELS, progress=False)) == 1, "it goes on"


def test_a_resumed_fit_has_the_same_bits(tmp_path):
    def options(folder):
        return {"epochs": 4, "batch_size": 5, "validation_data": (TEXTS, LABELS), "checkpoint": folder, "progress": False}

    whole = trainer(dropout={"lstm": 0.2})
    whole.fit(TEXTS, LABELS, **options(tmp_path / "whole"))
    cut = trainer(dropout={"lstm": 0.2})
    cut.fit(TEXTS, LABELS, **options(tmp_path / "cut"), callbacks=lambda e: not (e["epoch"] == 3 and e.get("batch") == 2))
    assert cut.steps < whole.steps
    resumed = gf.Trainer.resume(tmp_path / "cut", device=device())
    assert resumed.options == cut.options
    resumed.fit(TEXTS, LABELS, **options(tmp_path / "cut"))
    assert resumed.network().to_bytes() == whole.network().to_bytes()
    assert cut.network().to_bytes() != whole.network().to_bytes(), "the control"
    best = gf.load(tmp_path / "whole" / "best.safetensors")
    assert np.array_equal(best(np.array([[2, 3]])), whole.network().on("cpu")(np.array([[2, 3]])))
    learner = gf.Trainer.resume(tmp_path / "cut" / "last.safetensors", device=device())
    with pytest.raises(ValueError, match="batch_size: expected 5, as in the checkpoint, got 6"):
        learner.fit(TEXTS, LABELS, **{**options(tmp_path / "cut"), "batch_size": 6, "epochs": 6})
    path = tmp_path / "own.safetensors"
    learner.save_checkpoint(path)
    assert gf.Trainer.resume(path).steps == learner.steps
    learner.save(tmp_path / "net.safetensors")
    assert gf.load(tmp_path / "net.safetensors").labels == ["neg", "pos"]


def test_threads_change_no_bit():
    nets = []
    for threads in (1, 2):
        learner = gf.Trainer(reader(), device="cpu", threads=threads, seed=1)
        learner.fit(TEXTS, LABELS, epochs=2, batch_size=8, progress=False)
        nets.append(learner.network().to_bytes())
    assert nets[0] == nets[1]


@pytest.mark.skipif(os.name != "posix", reason="SIGINT is sent")
def test_ctrl_c_ends_a_fit_behind_a_step(tmp_path):
    # Where the tests run in the background the shell has set SIGINT to be ignored, which children inherit.
    code = f"""
        import signal, sys
        signal.signal(signal.SIGINT, signal.default_int_handler)
        sys.path.insert(0, {str(REPOSITORY / 'python' / 'tests')!r})
        from test_train import *
        learner = trainer()
        def told(event):
            if event["kind"] == "epoch" and event["epoch"] == 2: print("running", flush=True)
        try:
            learner.fit(TEXTS, LABELS, epochs=10**6, checkpoint={str(tmp_path)!r}, callbacks=told, progress=False)
        except KeyboardInterrupt:
            print("interrupted", learner.steps, len(learner.predict(TEXTS)), flush=True)
    """
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True, env={**os.environ}
    )
    try:
        assert child.stdout.readline().strip() == "running"
        child.send_signal(signal.SIGINT)
        started = time.monotonic()
        words = child.communicate(timeout=30)[0].split()
    finally:
        child.kill()
    assert words[0] == "interrupted" and words[2] == "24" and time.monotonic() - started < 20
    assert gf.Trainer.resume(tmp_path).steps == int(words[1]), "the checkpoint is of the last step"


def test_progress_and_history(capsys):
    history = trainer().fit(TEXTS, LABELS, epochs=2, validation_data=(TEXTS, LABELS), progress=True)
    lines = [line.split("\r")[-1] for line in capsys.readouterr().err.strip().split("\n")]
    assert len(lines) == 2 and lines[1].startswith("epoch 2/2  ") and "val_accuracy" in lines[1]
    trainer().fit(TEXTS, LABELS)
    assert capsys.readouterr().err == "", "quiet where no person watches"
    assert history._repr_html_().count("<tr>") == 3 and "2 epochs" in repr(history)
    try:
        import matplotlib
    except ImportError:
        with pytest.raises(ImportError):
            history.plot()
    else:
        matplotlib.use("Agg")
        assert len(history.plot().axes) == 2


WRONG = [
    (lambda: gf.Trainer(reader(), "none"), ValueError, "options: unknown variant `none`"),
    (lambda: gf.Trainer(reader(), optimizer="none"), ValueError, "optimizer: expected sgd, adam, adamw"),
    (lambda: gf.Trainer(reader(), numbers="none"), ValueError, "numbers: expected pytorch, keras, got none"),
    (lambda: gf.Trainer(reader(), optimizer_options={"beta3": 1}), ValueError, "optimizer_options: expected learning_rate"),
    (lambda: gf.Trainer(reader(), clip=1), ValueError, "options: expected loss, .*, got clip"),
    (lambda: gf.Trainer(reader(), dropout={"none": 0.5}), ValueError, "none"),
    (lambda: gf.Trainer(reader(), dropout={"lstm": 2}), ValueError, None),
    (lambda: gf.Trainer(reader(), frozen=["none"]), ValueError, "frozen"),
    (lambda: gf.Trainer(reader(), device="none"), ValueError, "no adapter"),
    (lambda: gf.Trainer(reader().on(weights="f16")), ValueError, "training weights stored as f16"),
    (lambda: trainer().fit(TEXTS, LABELS[:3]), ValueError, "data set: expected 3 answers|expected 24 answers"),
    (lambda: trainer().fit([], []), ValueError, None),
    (lambda: trainer().fit("text", LABELS), TypeError, "x: expected many examples, got one str"),
    (lambda: trainer().fit(TEXTS, ["other"] * 24), ValueError, r"y: expected labels of the network \(neg, pos\), got 'other'"),
    (lambda: trainer().fit(TEXTS, [7] * 24), ValueError, "label 7"),
    (lambda: trainer().fit(TEXTS, [-1] * 24), ValueError, "y: expected integers from 0, got -1"),
    (lambda: trainer().fit(TEXTS, LABELS, epochs=0), ValueError, "epochs: expected at least 1, got 0"),
    (lambda: trainer().fit(TEXTS, LABELS, batch_size=0), ValueError, "batch_size"),
    (lambda: trainer().fit(TEXTS, LABELS, patience=2), ValueError, "patience: expected a validation set"),
    (lambda: trainer().fit(TEXTS, LABELS, checkpoint="/dev/null/x"), OSError, None),
    (lambda: trainer().evaluate(TEXTS, LABELS, batch_size=0), ValueError, "batch_size"),
    (lambda: trainer().evaluate(TEXTS, LABELS, top_k=0), ValueError, "top_k: expected at least 1"),
    (lambda: trainer(regression(), loss="mse").fit(numbers(3, 4), numbers(3)), ValueError, r"x: expected sequences \[T, I\], got \[4\]"),
    (lambda: trainer(regression(), loss="mse").fit(numbers(3, 4, 5), numbers(3, 1)), ValueError, None),
    (lambda: trainer(regression(), loss="mse").fit([[[np.nan, 1]]], [[1.0]]), ValueError, "finite"),
    (lambda: trainer(regression(), loss="mse").fit(numbers(3, 4, 2), numbers(3, 7)), ValueError, None),
    (lambda: gf.Trainer.resume("nowhere"), FileNotFoundError, "nowhere"),
    (lambda: gf.Trainer.resume(REPOSITORY / "models/sentiment/sentiment.safetensors"), ValueError, "expected a checkpoint"),
]


@pytest.mark.parametrize("number", range(len(WRONG)))
def test_wrong_arguments_are_named(number):
    call, kind, words = WRONG[number]
    with pytest.raises(kind, match=words):
        call()


def test_diverging_training_is_a_runtime_error():
    x = numbers(16, 5, 2) * 1e30
    learner = gf.Trainer(regression(activations=["sigmoid", "linear", "linear"]), "mse", "sgd", learning_rate=1e30)
    with pytest.raises(RuntimeError, match="not finite"):
        learner.fit(x, numbers(16, 1), epochs=30, batch_size=4, progress=False)
