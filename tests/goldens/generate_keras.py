"""Golden cases computed by Keras in f64: a second opinion on gate order, direction and the meaning of "last"."""

import keras
import numpy as np
from keras import layers

from golden import Tensors, dense, generator, lstm, softmax, store, uniform

keras.config.set_floatx("float64")

TIME, BATCH = 11, 3


def lstm_weights(name: str, suffix: str, weights: list[np.ndarray]) -> Tensors:
    """One direction. Gates i, f, c, o are PyTorch's i, f, g, o; Keras has one bias, so the other is zero."""
    kernel, recurrent_kernel, bias = weights
    return {
        f"{name}.weight_ih_l0{suffix}": kernel.T,
        f"{name}.weight_hh_l0{suffix}": recurrent_kernel.T,
        f"{name}.bias_ih_l0{suffix}": bias,
        f"{name}.bias_hh_l0{suffix}": np.zeros_like(bias),
    }


def randomise(layer: layers.Layer, rng: np.random.Generator) -> None:
    """Weights that f32 holds exactly."""
    layer.set_weights([uniform(rng, weight.shape, 0.5) for weight in layer.get_weights()])


def states(name: str, values: list) -> Tensors:
    """Keras returns h, c for each direction in turn."""
    h_n, c_n = (np.stack([np.asarray(state) for state in values[k::2]]) for k in (0, 1))
    return {f"{name}.h_n": h_n, f"{name}.c_n": c_n}


def bidirectional(name: str, output: str) -> None:
    rng = generator(name)
    inputs = uniform(rng, (BATCH, TIME, 5), 2.0)
    layer = layers.Bidirectional(layers.LSTM(7, return_sequences=output == "sequence", return_state=True))
    layer.build(inputs.shape)
    randomise(layer, rng)
    result, *state = layer(inputs)

    weights = layer.get_weights()
    store(
        name,
        [lstm("lstm", 5, 7, bidirectional=True, batch_first=True, output=output)],
        lstm_weights("lstm", "", weights[:3]) | lstm_weights("lstm", "_reverse", weights[3:]),
        {"input": inputs, "output": np.asarray(result), **states("lstm", state)},
    )


def stacked(name: str) -> None:
    """Two LSTM layers of different sizes, then a classifier."""
    rng = generator(name)
    inputs = uniform(rng, (BATCH, TIME, 4), 2.0)
    first = layers.LSTM(6, return_sequences=True, return_state=True)
    second = layers.LSTM(7, return_state=True)
    hidden = layers.Dense(5, activation="tanh")
    classes = layers.Dense(3, activation="softmax")
    built = [(first, inputs.shape), (second, (BATCH, TIME, 6)), (hidden, (BATCH, 7)), (classes, (BATCH, 5))]
    for layer, shape in built:
        layer.build(shape)
        randomise(layer, rng)
    x, *first_state = first(inputs)
    x, *second_state = second(x)
    result = classes(hidden(x))

    weights = lstm_weights("first", "", first.get_weights()) | lstm_weights("second", "", second.get_weights())
    for key, layer in [("hidden", hidden), ("classes", classes)]:
        kernel, bias = layer.get_weights()
        weights |= {f"{key}.weight": kernel.T, f"{key}.bias": bias}
    store(
        name,
        [
            lstm("first", 4, 6, batch_first=True),
            lstm("second", 6, 7, batch_first=True, output="last"),
            dense("hidden", 7, 5, activation="tanh"),
            dense("classes", 5, 3),
            softmax(),
        ],
        weights,
        {
            "input": inputs,
            "output": np.asarray(result),
            **states("first", first_state),
            **states("second", second_state),
        },
    )


if __name__ == "__main__":
    bidirectional("keras_bidirectional", "sequence")
    bidirectional("keras_bidirectional_last", "last")
    stacked("keras_stacked")
