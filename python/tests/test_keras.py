"""Keras' models, against Keras."""

import numpy as np
import pytest
from support import close, device, framework, numbers

import gatefold_rnn as gf

keras = framework("keras")
layers = keras.layers

MODELS = {
    "lstm": lambda: [layers.Input((None, 4)), layers.LSTM(7)],
    "lstm sequence": lambda: [layers.Input((None, 4)), layers.LSTM(7, return_sequences=True), layers.Dense(3)],
    "gru": lambda: [layers.Input((None, 4)), layers.GRU(7), layers.Dense(3, "softmax")],
    "gru reset before": lambda: [layers.Input((None, 4)), layers.GRU(7, reset_after=False)],
    "rnn stacked": lambda: [
        layers.Input((None, 4)),
        layers.SimpleRNN(7, return_sequences=True),
        layers.SimpleRNN(5, activation="relu"),
    ],
    "bidirectional": lambda: [layers.Input((None, 4)), layers.Bidirectional(layers.LSTM(7)), layers.Dense(1, "sigmoid")],
}


@pytest.mark.parametrize("name", MODELS)
def test_models_agree_with_keras(name):
    keras.utils.set_random_seed(3)
    model = keras.Sequential(MODELS[name]())
    x = numbers(5, 9, 4)
    expected = np.asarray(model.predict(x, verbose=0))
    net = gf.from_keras(model, device=device())
    assert close(net(x), expected, 9)
    assert not close(net(x[:, ::-1]), expected, 9), "the control"


def test_token_ids_with_a_mask():
    keras.utils.set_random_seed(3)
    model = keras.Sequential([layers.Input((None,), dtype="int32"), layers.Embedding(20, 6, mask_zero=True), layers.LSTM(7)])
    ids = np.array([[3, 4, 0, 0], [1, 2, 3, 4], [5, 0, 0, 0]])
    expected = np.asarray(model.predict(ids, verbose=0))
    assert close(gf.from_keras(model, device=device())(ids), expected, 4)


def test_files_that_keras_writes(tmp_path):
    model = keras.Sequential(MODELS["gru"]())
    x = numbers(2, 6, 4)
    expected = np.asarray(model.predict(x, verbose=0))
    model.save(tmp_path / "model.keras")
    for source in (tmp_path / "model.keras", (tmp_path / "model.keras").read_bytes()):
        assert close(gf.load(source, device=device())(x), expected, 6)
    half = gf.from_keras(model, weights="f16", device=device())(x)
    assert not close(half, expected, 6) and np.abs(half - expected).max() < 1e-3


def test_the_dropout_of_a_model_is_trained_on_request():
    model = keras.Sequential([layers.Input((None, 4)), layers.LSTM(7, dropout=0.2), layers.Dropout(0.5), layers.Dense(2)])
    net = gf.from_keras(model)
    none, own = gf.Trainer(net), gf.Trainer(net, file_dropout=True)
    assert none.options["dropout"] == none.options["recurrent_dropout"] == []
    assert own.options["dropout"][0]["rate"] == 0.5 and own.options["recurrent_dropout"][0]["input"] == pytest.approx(0.2)


def test_errors():
    with pytest.raises(TypeError, match="model: expected a Keras model, got int"):
        gf.from_keras(3)
    model = keras.Sequential([layers.Input((8, 8, 3)), layers.Conv2D(2, 3)])
    with pytest.raises(ValueError, match=r"an input of shape \[null,8,8,3\] is not supported"):
        gf.from_keras(model)
