"""Keras' training of Embedding -> LSTM or GRU -> Dense on the CPU. KERAS_BACKEND: jax or tensorflow; threads only by its cores."""

import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
from exchange import THREADS, cpu, measure  # noqa: E402

if os.environ["KERAS_BACKEND"] == "tensorflow":
    import tensorflow

    if THREADS:
        tensorflow.config.threading.set_intra_op_parallelism_threads(THREADS)
        tensorflow.config.threading.set_inter_op_parallelism_threads(1)

import keras  # noqa: E402
import numpy as np  # noqa: E402


def prepare(*_):
    sys.exit("Keras: only training is measured")


def prepare_step(weights, tokens, labels):
    rows, hidden = weights["weight_hh_l0"].shape
    gates = rows // hidden
    kind = {4: keras.layers.LSTM, 3: keras.layers.GRU}[gates]
    layer = kind(hidden)
    layers = [keras.layers.Embedding(*weights["embedding.weight"].shape), layer, keras.layers.Dense(len(weights["dense.bias"]))]
    model = keras.Sequential(layers)
    model.build(tokens.T.shape)

    def gates_of(array):
        """Columns of gates in Keras' order: of an LSTM PyTorch's, of a GRU z, r, h."""
        parts = np.split(array.T, gates, axis=-1)
        return np.concatenate([parts[1], parts[0], parts[2]] if gates == 3 else parts, axis=-1)

    stacked = [gates_of(weights[f"{name}_l0"]) for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
    biases = [np.stack(stacked[2:])] if gates == 3 else [stacked[2]]
    dense = [weights["dense.weight"].T, weights["dense.bias"]]
    for part, arrays in zip(layers, ([weights["embedding.weight"]], [*stacked[:2], *biases], dense)):
        part.set_weights(arrays)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer=keras.optimizers.Adam(1e-3, epsilon=1e-8), loss=loss)
    x = np.ascontiguousarray(tokens.T.astype(np.int32))

    def step():
        # Reset, because the loss that Keras returns is the mean over the steps so far.
        model.reset_metrics()
        return float(model.train_on_batch(x, labels))

    return step


measure(f"{keras.__version__}, {keras.backend.backend()}", cpu(), prepare, prepare_step, "expected_keras")
