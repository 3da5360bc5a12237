"""Files as Keras itself saves them, with what it computes in f64: `keras_models.zip`.

NAME.keras, NAME.h5 and NAME.weights.h5 hold the same model with f32 weights; NAME.golden.safetensors an input and the
output, rounded to f32 once. Names that begin with `keras2_` come from Keras 2 (tf_keras), `grid_` is a random grid of
recurrent options, `odd_` are files whose storage Keras does not choose by itself.

    python generate_keras_files.py
"""

import io
import os
import sys
import tempfile
import zipfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import h5py
import keras
import numpy as np
import tf_keras
from safetensors.numpy import save

from golden import HERE, as_stored, generator, uniform

FILES: dict[str, bytes] = {}
TIME, BATCH = 7, 3


def randomise(model, rng: np.random.Generator) -> list[np.ndarray]:
    """Weights that f32 holds exactly, none of them 0 or 1; variances positive."""
    weights = []
    for variable in model.weights:
        path = getattr(variable, "path", variable.name)
        values = uniform(rng, tuple(variable.shape), 0.5)
        if "seed" in path:
            values = np.asarray(variable.numpy())
        elif "variance" in path:
            values = np.abs(values) + np.float32(0.3)
        weights.append(values)
    model.set_weights(weights)
    return weights


def in_policy(library, floatx: str, build):
    library.backend.clear_session()
    library.backend.set_floatx(floatx)
    model = build(library.layers, library)
    return model


def saved(model, suffix: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"model{suffix}"
        if "weights" in suffix:
            model.save_weights(path)
        else:
            model.save(path)
        return path.read_bytes()


def case(name: str, build, inputs, suffixes=(".keras",), library=keras) -> None:
    """`build(layers, keras)` makes the model; it is built twice, to be saved in f32 and to be run in f64."""
    rng = generator(name)
    inputs = inputs(rng)
    model = in_policy(library, "float32", build)
    weights = randomise(model, rng)
    for suffix in suffixes:
        FILES[name + suffix] = saved(model, suffix)
    exact = in_policy(library, "float64", build)
    exact.set_weights([w.astype(np.float64) if w.dtype == np.float32 else w for w in weights])
    output = np.asarray(exact(inputs if inputs.dtype == np.int32 else inputs.astype(np.float64), training=False))
    assert output.dtype == np.float64, (name, output.dtype)
    FILES[name + ".golden.safetensors"] = save(as_stored({"input": inputs, "output": output}))
    library.backend.set_floatx("float32")


def features(width: int, time: int = TIME, batch: int = BATCH):
    return lambda rng: uniform(rng, (batch, time, width), 1.5)


def masked(width: int, value: float = 0.0, all_masked: bool = True):
    """Rows without mask, masked at the right, at the left, inside, and (if wished) throughout."""

    def make(rng: np.random.Generator) -> np.ndarray:
        inputs = uniform(rng, (5 if all_masked else 4, 8, width), 1.5)
        for row, steps in [(1, [5, 6, 7]), (2, [0, 1]), (3, [0, 3, 4, 7])]:
            inputs[row, steps] = value
        if all_masked:
            inputs[4] = value
        return inputs

    return make


def tokens(count: int, all_masked: bool = True):
    def make(rng: np.random.Generator) -> np.ndarray:
        ids = rng.integers(1, count, (5 if all_masked else 4, 8), dtype=np.int32)
        for row, steps in [(1, [5, 6, 7]), (2, [0, 1]), (3, [0, 3, 4, 7])]:
            ids[row, steps] = 0
        if all_masked:
            ids[4] = 0
        return ids

    return make


def sequential(shape, *make):
    """A Sequential model of what each function makes of `layers`."""
    return lambda layers, library: library.Sequential([layers.Input(shape), *(one(layers) for one in make)])


EVERY = (".keras", ".h5", ".weights.h5")


def plain() -> None:
    case("lstm", sequential((None, 5), lambda l: l.LSTM(4, return_sequences=True)), features(5), EVERY)
    case("lstm_last", sequential((None, 3), lambda l: l.LSTM(6)), features(3))
    case("lstm_one_unit", sequential((TIME, 1), lambda l: l.LSTM(1, stateful=False, unroll=True)), features(1))
    case("gru", sequential((None, 5), lambda l: l.GRU(4, return_sequences=True)), features(5), EVERY)
    case("gru_reset_before", sequential((None, 3), lambda l: l.GRU(5, reset_after=False)), features(3), EVERY)
    case("gru_no_bias", sequential((None, 3), lambda l: l.GRU(5, use_bias=False, recurrent_dropout=0.2)), features(3))
    case("simple_rnn", sequential((None, 5), lambda l: l.SimpleRNN(3, return_sequences=True)), features(5), EVERY)
    case(
        "stacked",
        sequential(
            (None, 4),
            lambda l: l.LSTM(6, return_sequences=True, dropout=0.1),
            lambda l: l.Dropout(0.25),
            lambda l: l.LSTM(5, return_sequences=True),
            lambda l: l.Dense(7, activation="sigmoid"),
            lambda l: l.GRU(3),
            lambda l: l.Dense(4, activation="softmax"),
        ),
        features(4),
        EVERY,
    )


def directions() -> None:
    for mode in ["concat", "sum", "ave", "mul"]:
        case(
            f"bidirectional_{mode}",
            sequential((None, 3), lambda l: l.Bidirectional(l.LSTM(4, return_sequences=True), merge_mode=mode)),
            features(3),
            EVERY if mode == "concat" else (".keras",),
        )
    case("bidirectional_last", sequential((None, 3), lambda l: l.Bidirectional(l.GRU(4, dropout=0.1))), features(3), EVERY)
    case(
        "bidirectional_two_functions",
        sequential(
            (None, 3),
            lambda l: l.Bidirectional(
                l.LSTM(4, return_sequences=True),
                backward_layer=l.LSTM(4, return_sequences=True, go_backwards=True, activation="softsign", name="other"),
            ),
        ),
        features(3),
        EVERY,
    )
    for sequence in [True, False]:
        case(
            "backwards_sequence" if sequence else "backwards_last",
            sequential(
                (None, 3),
                lambda l: l.LSTM(4, return_sequences=sequence, go_backwards=True),
                lambda l: l.Dense(2),
            ),
            features(3),
        )


def masks() -> None:
    def recurrent(sequence: bool, backwards: bool = False):
        return lambda l: l.LSTM(4, return_sequences=sequence, go_backwards=backwards)

    def both(sequence: bool):
        return lambda l: l.Bidirectional(l.GRU(3, return_sequences=sequence))

    for name, layer in [
        ("sequence", recurrent(True)),
        ("last", recurrent(False)),
        ("backwards", recurrent(True, True)),
        ("backwards_last", recurrent(False, True)),
        ("bidirectional", both(True)),
        ("bidirectional_last", both(False)),
    ]:
        case(f"masking_{name}", sequential((None, 3), lambda l: l.Masking(), layer), masked(3))
    case(
        "masking_value_stacked",
        sequential(
            (None, 3),
            lambda l: l.Masking(mask_value=-1.25),
            lambda l: l.Bidirectional(l.LSTM(4, return_sequences=True)),
            lambda l: l.LayerNormalization(),
            lambda l: l.GRU(3, return_sequences=True),
            lambda l: l.TimeDistributed(l.Dense(4, activation="tanh")),
            lambda l: l.SimpleRNN(3),
        ),
        masked(3, -1.25),
        (".keras", ".h5"),
    )
    case(
        "masking_backwards_then_lstm",
        sequential(
            (None, 3),
            lambda l: l.Masking(),
            lambda l: l.GRU(4, return_sequences=True, go_backwards=True),
            lambda l: l.LSTM(3, return_sequences=True),
        ),
        masked(3),
    )
    case(
        "masking_lost_in_conv",
        sequential(
            (None, 3),
            lambda l: l.Masking(),
            lambda l: l.Conv1D(4, 3, padding="same"),
            lambda l: l.LSTM(3, return_sequences=True),
        ),
        masked(3),
    )

    def residual(layers, library):
        inputs = layers.Input((None, 4))
        masked_inputs = layers.Masking()(inputs)
        hidden = layers.LSTM(4, return_sequences=True)(masked_inputs)
        total = layers.Add()([masked_inputs, hidden])
        wide = layers.Concatenate()([total, hidden, masked_inputs])
        return library.Model(inputs, layers.GRU(3)(wide))

    def embedded(layers, library):
        inputs = layers.Input((None,), dtype="int32")
        vectors = layers.Embedding(9, 4, mask_zero=True)(inputs)
        hidden = layers.LSTM(4, return_sequences=True)(vectors)
        both = layers.Dropout(0.1)(layers.Concatenate()([hidden, vectors]))
        return library.Model(inputs, layers.GlobalAveragePooling1D()(layers.TimeDistributed(layers.Dense(3))(both)))

    case("embedding_mask_zero_residual", embedded, tokens(9, all_masked=False), EVERY)
    case("masking_residual", residual, masked(4), (".keras", ".h5"))
    case(
        "embedding_mask_zero",
        sequential(
            (None,),
            lambda l: l.Embedding(11, 4, mask_zero=True),
            lambda l: l.SpatialDropout1D(0.2),
            lambda l: l.Bidirectional(l.LSTM(3, return_sequences=True)),
            lambda l: l.GlobalAveragePooling1D(),
            lambda l: l.Dense(2, activation="softmax"),
        ),
        tokens(11, all_masked=False),
        EVERY,
    )
    case(
        "embedding_mask_zero_last",
        sequential((None,), lambda l: l.Embedding(9, 3, mask_zero=True), lambda l: l.LSTM(4)),
        tokens(9),
    )
    case(
        "embedding",
        sequential((8,), lambda l: l.Embedding(9, 3), lambda l: l.GRU(4), lambda l: l.Dense(1, activation="sigmoid")),
        tokens(9),
    )


def around() -> None:
    case(
        "time_distributed",
        sequential(
            (None, 4),
            lambda l: l.TimeDistributed(l.Dense(5, activation="relu")),
            lambda l: l.LSTM(4, return_sequences=True),
            lambda l: l.TimeDistributed(l.LayerNormalization()),
            lambda l: l.TimeDistributed(l.Activation("sigmoid")),
            lambda l: l.TimeDistributed(l.BatchNormalization()),
            lambda l: l.TimeDistributed(l.Dense(3, activation="softmax", use_bias=False)),
        ),
        features(4),
        EVERY,
    )
    case(
        "norms",
        sequential(
            (None, 4),
            lambda l: l.BatchNormalization(),
            lambda l: l.SimpleRNN(5, return_sequences=True),
            lambda l: l.LayerNormalization(epsilon=0.01, center=False),
            lambda l: l.BatchNormalization(scale=False),
            lambda l: l.GRU(4),
            lambda l: l.LayerNormalization(scale=False),
            lambda l: l.BatchNormalization(center=False, epsilon=0.05),
        ),
        features(4),
        EVERY,
    )
    case(
        "convolutions",
        sequential(
            (None, 4),
            lambda l: l.Conv1D(6, 3, padding="causal", dilation_rate=2, activation="relu"),
            lambda l: l.Conv1D(4, 3, padding="same", groups=2, strides=2),
            lambda l: l.Conv1D(5, 2, padding="same", use_bias=False),
            lambda l: l.Conv1D(3, 4, activation="softmax"),
            lambda l: l.LSTM(3, return_sequences=True),
        ),
        features(4, time=19),
        EVERY,
    )
    case(
        "pooling",
        sequential(
            (None, 4),
            lambda l: l.MaxPooling1D(3, strides=2, padding="same"),
            lambda l: l.GRU(5, return_sequences=True),
            lambda l: l.AveragePooling1D(2),
            lambda l: l.AveragePooling1D(3, strides=1, padding="same"),
            lambda l: l.MaxPooling1D(2, strides=1),
            lambda l: l.GlobalMaxPooling1D(),
        ),
        features(4, time=18),
    )
    case(
        "nothing_to_do",
        sequential(
            (None, 4),
            lambda l: l.GaussianNoise(0.1),
            lambda l: l.GaussianDropout(0.1),
            lambda l: l.LSTM(3, return_sequences=True),
            lambda l: l.AlphaDropout(0.1),
            lambda l: l.ActivityRegularization(l2=0.1),
            lambda l: l.Activation("linear"),
            lambda l: l.Dropout(0.5),
        ),
        features(4),
    )
    names = "relu6 tanh hard_sigmoid hard_tanh elu selu softplus softsign exponential gelu silu mish leaky_relu".split()
    case(
        "functions",
        sequential(
            (None, 4),
            *((lambda l, name=name: l.Dense(4, activation=name)) for name in names),
            lambda l: l.SimpleRNN(5, return_sequences=True, activation="softsign"),
            lambda l: l.ReLU(max_value=0.25),
            lambda l: l.Dense(5),
            lambda l: l.ReLU(negative_slope=0.125),
            lambda l: l.LeakyReLU(negative_slope=0.5),
            lambda l: l.Dense(4, activation=l.LeakyReLU(negative_slope=0.25)),
            lambda l: l.ELU(alpha=0.75),
            lambda l: l.Activation("swish"),
            lambda l: l.Softmax(),
        ),
        features(4),
        (".keras", ".h5"),
    )


def graphs() -> None:
    def branches(layers, library):
        inputs = layers.Input((None, 4))
        left = layers.LSTM(3, return_sequences=True)(inputs)
        right = layers.GRU(3, return_sequences=True, go_backwards=True)(inputs)
        both = layers.Concatenate()([left, right, inputs])
        narrow = layers.Dropout(0.5)(layers.Dense(3, activation="tanh")(both))
        total = layers.Add()([narrow, left, right])
        product = layers.Multiply()([total, left])
        mean = layers.Average()([product, right, narrow])
        return library.Model(inputs, layers.Dropout(0.1)(layers.Maximum()([mean, left])))

    def attention(layers, library):
        inputs = layers.Input((None, 4))
        hidden = layers.Bidirectional(layers.LSTM(3, return_sequences=True))(inputs)
        weights = layers.Dense(6, activation="softmax")(hidden)
        mixed = layers.Multiply()([weights, hidden])
        pooled = layers.GlobalAveragePooling1D()(mixed)
        highest = layers.GlobalMaxPooling1D()(weights)
        return library.Model(inputs, layers.Dense(3)(layers.Concatenate()([pooled, highest])))

    def state_unused(layers, library):
        inputs = layers.Input((None, 4))
        hidden, _, _ = layers.LSTM(3, return_sequences=True, return_state=True)(inputs)
        return library.Model(inputs, layers.Dense(2)(hidden))

    case("graph_branches", branches, features(4), EVERY)
    case("graph_attention", attention, features(4), (".keras", ".h5"))
    case("graph_state_unused", state_unused, features(4), (".keras", ".h5"))


def keras_2() -> None:
    """The same by Keras 2, whose configurations, names and hard_sigmoid differ."""

    def graph(layers, library):
        inputs = layers.Input((None, 4))
        masked_inputs = layers.Masking()(inputs)
        left = layers.LSTM(3, return_sequences=True)(masked_inputs)
        right = layers.Bidirectional(layers.GRU(3, return_sequences=True), merge_mode="sum")(masked_inputs)
        return library.Model(inputs, layers.GRU(2, reset_after=False, name="gru")(layers.Concatenate()([left, right])))

    suffixes = (".keras", ".h5", ".weights.h5")
    case(
        "keras2_sequential",
        sequential(
            (None, 4),
            lambda l: l.Bidirectional(l.LSTM(3, return_sequences=True, recurrent_activation="hard_sigmoid")),
            lambda l: l.BatchNormalization(),
            lambda l: l.LayerNormalization(),
            lambda l: l.Conv1D(4, 3, padding="causal"),
            lambda l: l.TimeDistributed(l.Dense(5)),
            lambda l: l.LeakyReLU(alpha=0.25),
            lambda l: l.GRU(3, return_sequences=True, recurrent_activation="hard_sigmoid"),
            lambda l: l.SimpleRNN(3),
            lambda l: l.Dense(4, activation="softmax", name="dense"),
        ),
        features(4),
        suffixes,
        tf_keras,
    )
    case("keras2_graph", graph, masked(4), suffixes, tf_keras)
    case(
        "keras2_embedding",
        sequential(
            (None,),
            lambda l: l.Embedding(9, 3, mask_zero=True),
            lambda l: l.GRU(4, return_sequences=True),
            lambda l: l.GlobalAveragePooling1D(),
        ),
        tokens(9, all_masked=False),
        suffixes,
        tf_keras,
    )


def rewritten(file: bytes, change, libver: str) -> bytes:
    """The HDF5 file with every dataset written anew by `change(group, name, array)`."""
    target = io.BytesIO()
    with h5py.File(io.BytesIO(file)) as old, h5py.File(target, "w", libver=libver) as new:
        new.attrs.update(old.attrs)

        def visit(path, item):
            if isinstance(item, h5py.Group):
                new.require_group(path).attrs.update(item.attrs)
            else:
                change(new, path, item[()])

        old.visititems(visit)
    return target.getvalue()


def odd() -> None:
    """Storage that other programs choose."""

    def packed(group, path, array):
        options = {"compression": "gzip", "shuffle": True, "chunks": tuple(max(1, n // 2) for n in array.shape)}
        group.create_dataset(path, data=array, **(options if array.ndim else {}))

    def half(group, path, array):
        group.create_dataset(path, data=(array * 0 + 0.25).astype(">f2") if array.dtype == np.float32 else array)

    def double(group, path, array):
        group.create_dataset(path, data=array.astype(np.float64))

    whole = FILES["stacked.h5"]
    FILES["odd_stacked_packed.h5"] = rewritten(whole, packed, "latest")
    FILES["odd_stacked_packed_earliest.h5"] = rewritten(whole, packed, "earliest")
    FILES["odd_stacked_double.h5"] = rewritten(whole, double, "v110")
    FILES["odd_quarter_half.h5"] = rewritten(FILES["gru_reset_before.h5"], half, "earliest")

    deflated = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(FILES["stacked.keras"])) as old:
        with zipfile.ZipFile(deflated, "w", zipfile.ZIP_DEFLATED) as new:
            for entry in old.namelist():
                new.writestr(entry, old.read(entry))
    FILES["odd_stacked_deflated.keras"] = deflated.getvalue()

    for policy in ["mixed_float16", "bfloat16", "float16"]:
        keras.backend.clear_session()
        rng = generator(f"odd_{policy}")
        model = keras.Sequential(
            [keras.layers.Input((None, 3)), keras.layers.LSTM(4, dtype=policy, recurrent_initializer="zeros"), keras.layers.Dense(2, dtype=policy)]
        )
        model.set_weights([np.round(uniform(rng, w.shape, 0.5) * 64) / 64 for w in model.get_weights()])
        FILES[f"odd_{policy}.keras"] = saved(model, ".keras")


def grid(count: int) -> None:
    rng = generator("grid")
    functions = "tanh sigmoid relu linear softsign elu softplus hard_sigmoid gelu silu leaky_relu hard_tanh mish".split()

    def some(*options):
        return options[rng.integers(len(options))]

    for number in range(count):
        cell = ["LSTM", "GRU", "SimpleRNN"][number % 3]
        width, units = int(rng.integers(1, 7)), int(rng.integers(1, 8))
        options = {
            "units": units,
            "activation": some("tanh", some(*functions)),
            "use_bias": bool(rng.random() < 0.8),
            "return_sequences": bool(rng.random() < 0.6),
        }
        if cell != "SimpleRNN":
            options["recurrent_activation"] = some("sigmoid", "hard_sigmoid", some(*functions))
        if cell == "GRU":
            options["reset_after"] = some(True, False)
        mode = some(None, None, None, "concat", "sum", "ave", "mul")
        if mode is None:
            options["go_backwards"] = bool(rng.random() < 0.3)
            options["zero_output_for_mask"] = bool(options["return_sequences"] and rng.random() < 0.3)
        mask = rng.random() < 0.5
        second = options["return_sequences"] and rng.random() < 0.3

        def layer(l, cell=cell, options=options, mode=mode):
            one = getattr(l, cell)(**options)
            return one if mode is None else l.Bidirectional(one, merge_mode=mode)

        make = [layer]
        if mask:
            make.insert(0, lambda l: l.Masking())
        if second:
            make.append(lambda l: l.GRU(3, return_sequences=True))
        shape = (int(rng.integers(1, 12)), int(rng.integers(1, 5)))
        case(
            f"grid_{number:03}",
            sequential((None, width), *make),
            masked(width) if mask else features(width, *shape),
        )


if __name__ == "__main__":
    for part in [plain, directions, masks, around, graphs, keras_2, odd]:
        part()
        print(part.__name__, len(FILES), "files", file=sys.stderr)
    grid(120)
    with zipfile.ZipFile(HERE / "keras_models.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name in sorted(FILES):
            # One date, so that the same files make the same archive.
            archive.writestr(zipfile.ZipInfo(name), FILES[name], zipfile.ZIP_DEFLATED, 9)
    print((HERE / "keras_models.zip").stat().st_size, "bytes")
