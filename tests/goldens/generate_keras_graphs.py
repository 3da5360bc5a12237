"""Models of Keras that are graphs: several inputs and outputs, states between layers, shared layers, slices, shapes and
attention pooling; added to `keras_models.zip`, as `generate_keras_files.py` describes it. Inputs and outputs beside the
first are `input.NAME` and `output.NAME`. Models that read texts have a JSON file with texts, their token ids and outputs.

    python generate_keras_graphs.py [NAME ...]
"""

import json
import os
import sys
import zipfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf
import tf_keras
from safetensors.numpy import save

from generate_keras_files import FILES, in_policy, randomise, saved
from golden import HERE, as_stored, generator, uniform

BUNDLE = HERE / "keras_models.zip"
STEPS, ROWS = 6, 3


def sequence(width, steps=STEPS):
    return lambda rng: uniform(rng, (ROWS, steps, width), 1.0)


def row(width):
    return lambda rng: uniform(rng, (ROWS, width), 1.0)


def tokens(below, steps=STEPS):
    return lambda rng: rng.integers(0, below, (ROWS, steps)).astype(np.int32)


def wanted(name) -> bool:
    return not sys.argv[1:] or name in sys.argv[1:]


def graph(name, build, inputs, outputs=("output",), suffixes=(".keras",), library=keras) -> None:
    """`build(layers, keras)` makes the model; `inputs` are its inputs by their names, in its order."""
    if not wanted(name):
        return
    rng = generator(name)
    given = {key: make(rng) for key, make in inputs.items()}
    model = in_policy(library, "float32", build)
    weights = randomise(model, rng)
    for suffix in suffixes:
        FILES[name + suffix] = saved(model, suffix)
    exact = in_policy(library, "float64", build)
    exact.set_weights([w.astype(np.float64) if w.dtype == np.float32 else w for w in weights])
    wide = [x if x.dtype == np.int32 else x.astype(np.float64) for x in given.values()]
    made = exact(wide[0] if len(wide) == 1 else wide, training=False)
    made = list(made.values()) if isinstance(made, dict) else made
    made = made if isinstance(made, (list, tuple)) else [made]
    assert len(made) == len(outputs), (name, len(made))
    arrays = {"input" if at == 0 else f"input.{key}": x for at, (key, x) in enumerate(given.items())}
    for key, values in zip(outputs, made):
        arrays["output" if key == outputs[0] else f"output.{key}"] = np.asarray(values)
    FILES[name + ".golden.safetensors"] = save(as_stored(arrays))


TEXTS = ["A good film.", "the worst film ever, ever made by a Good man!", "unseen WORDS only", "bad-bad; bad\tfilm"]


def text(name, build, suffixes=(".keras",), library=keras) -> None:
    """A model whose first layer makes token ids of texts; a function of a text gives its model's words."""
    if not wanted(name):
        return
    model = in_policy(library, "float32", build)
    randomise(model, generator(name))
    for suffix in suffixes:
        FILES[name + suffix] = saved(model, suffix)
    layer = next(layer for layer in model.layers if hasattr(layer, "get_vocabulary"))
    whole = isinstance(layer, library.layers.TextVectorization)
    golden = {"texts": TEXTS if whole else [" ".join(text.split()) for text in TEXTS], "ids": [], "output": []}
    for each in golden["texts"]:
        given = tf.constant([[each]] if whole else [each.split(" ")])
        golden["ids"].append(np.asarray(layer(given))[0].tolist())
        golden["output"].append(np.asarray(model(given), np.float64)[0].tolist())
    FILES[name + ".texts.json"] = json.dumps(golden).encode()


def adapted(layer):
    layer.adapt(["a good film", "a very bad film bad", "the good the bad the man"])
    return layer


def reads(layer, l, k, shape, mask_zero=True):
    tail = [l.Embedding(20, 3, mask_zero=mask_zero), l.LSTM(4), l.Dense(1, activation="sigmoid")]
    return k.Sequential([l.Input(shape, dtype="string"), layer, *tail])


def text_adapted(l, k):
    return reads(adapted(l.TextVectorization(max_tokens=20)), l, k, (1,))


def text_cut(l, k):
    return reads(adapted(l.TextVectorization(output_sequence_length=5, standardize="lower")), l, k, (1,), False)


def text_given(l, k):
    words = ["good", "bad", "film", "WORDS"]
    return reads(l.TextVectorization(vocabulary=words, standardize="strip_punctuation"), l, k, (1,))


def text_characters(l, k):
    characters = list("abdefglmotu ")
    return reads(l.TextVectorization(vocabulary=characters, split="character", output_sequence_length=9), l, k, (1,))


def text_words(l, k):
    return reads(adapted(l.StringLookup(mask_token="")), l, k, (None,))


def cells(l, k):
    """Layers of cells: one, several, backwards, in both directions."""
    return k.Sequential(
        [
            l.Input((None, 3)),
            l.RNN(l.LSTMCell(4), return_sequences=True),
            l.RNN(l.StackedRNNCells([l.LSTMCell(5), l.GRUCell(2), l.GRUCell(3)]), return_sequences=True, go_backwards=True),
            l.Bidirectional(l.RNN(l.SimpleRNNCell(2, activation="relu"), return_sequences=True)),
            l.RNN([l.GRUCell(4, reset_after=False), l.SimpleRNNCell(3, use_bias=False)]),
        ]
    )


def cells_with_states(l, k):
    x = l.Input((None, 3))
    steps = l.Masking()(x)
    first, h, c = l.RNN(l.LSTMCell(4), return_sequences=True, return_state=True)(steps)
    y = l.RNN(l.LSTMCell(4))(first, initial_state=[h, c])
    levels = l.RNN(l.StackedRNNCells([l.GRUCell(2), l.GRUCell(2)]))(steps)
    return k.Model(x, l.Concatenate()([y, levels]))


def normalized(l, k):
    layer = l.Normalization(name="adapted")
    layer.adapt(np.array([[[0.5, -1.0, 2.0]], [[1.5, 3.0, 2.0]]], np.float32))
    given = l.Normalization(mean=[0.1, 0.2, 0.3, 0.4], variance=[1.0, 0.25, 4.0, 0.0], name="given")
    return k.Sequential([l.Input((None, 3)), layer, l.LSTM(4, return_sequences=True), given, l.GRU(2)])


def masks_dropped(l, k):
    """Layers and operations after which all steps count."""
    x = l.Input((STEPS,))
    y = l.Embedding(9, 4, mask_zero=True)(x)
    plain = l.Embedding(9, 4)(x)
    parts = [
        l.GRU(2)(y[:, 1:, :]),
        l.GRU(2)(y[:, :, 2:]),
        l.GRU(2)(l.Reshape((STEPS * 2, 2))(y)),
        l.GRU(2)(2.0 * y),
        l.GRU(2)(l.Concatenate()([y, plain])),
        l.GRU(2)(l.Add()([plain, y])),
        l.GRU(2)(y + y),
        l.GRU(2)(k.ops.concatenate([y, plain], axis=-1)),
        k.ops.mean(y, axis=1),
        l.GRU(2)(y),
        l.GlobalAveragePooling1D()(y),
    ]
    return k.Model(x, l.Concatenate()(parts))


def autoencoder(l, k):
    return k.Sequential(
        [
            l.Input((None, 3)),
            l.LSTM(5),
            l.RepeatVector(4),
            l.GRU(4, return_sequences=True),
            l.TimeDistributed(l.Dense(3)),
        ]
    )


def flattened(l, k):
    return k.Sequential(
        [
            l.Input((STEPS, 3)),
            l.Conv1D(4, 2, activation="relu"),
            l.ZeroPadding1D((1, 2)),
            l.LSTM(5, return_sequences=True),
            l.Cropping1D((2, 0)),
            l.Flatten(),
            l.Dense(8),
            l.Reshape((2, 4)),
            l.SimpleRNN(3, return_sequences=True),
            l.Permute((2, 1)),
            l.Rescaling(0.5, offset=-0.1),
        ]
    )


def from_a_row(l, k):
    x = l.Input((12,), name="vector")
    return k.Model(x, l.Dense(2)(l.LSTM(4)(l.Reshape((4, 3))(l.Dense(12, "tanh")(x)))))


def pooled_by_attention(l, k):
    x = l.Input((None, 3))
    h = l.Bidirectional(l.LSTM(4, return_sequences=True))(x)
    shares = l.Softmax(axis=1)(l.Dense(1)(h))
    summed = l.Flatten()(l.Dot(axes=1)([shares, h]))
    mean = l.GlobalAveragePooling1D()(l.Multiply()([h, shares]))
    return k.Model(x, l.Dense(2)(l.Subtract()([summed, mean])))


def series_and_row(l, k):
    series, fixed = l.Input((None, 3), name="series"), l.Input((2,), name="fixed")
    h = l.GRU(4, return_sequences=True)(series)
    return k.Model([series, fixed], l.Dense(2)(l.Concatenate()([l.LSTM(3)(h), fixed])))


def encoder_decoder(l, k):
    source, target = l.Input((None,), name="source"), l.Input((None,), name="target")
    encoder = l.LSTM(4, return_state=True)
    _, h, c = encoder(l.Embedding(9, 3)(source))
    decoder = l.LSTM(4, return_sequences=True, return_state=True)
    y, last_h, last_c = decoder(l.Embedding(7, 2)(target), initial_state=[h, c])
    return k.Model([source, target], [l.Dense(7, "softmax", name="words")(y), last_h, last_c])


def bidirectional_states(l, k):
    x = l.Input((None, 3), name="x")
    _, *states = l.Bidirectional(l.LSTM(3, return_sequences=True, return_state=True))(x)
    y = l.Bidirectional(l.LSTM(3, return_sequences=True))(l.Dense(4)(x), initial_state=states)
    return k.Model(x, l.Dense(2)(y))


def two_heads(l, k):
    x = l.Input((None, 3), name="x")
    h = l.GRU(4, return_sequences=True)(x)
    return k.Model(x, [l.Dense(2, name="each")(h), l.Dense(1, name="last")(h[:, -1, :])])


def apart(l, k):
    x = l.Input((None, 3), name="x")
    forward, backward = l.Bidirectional(l.GRU(3, return_sequences=True), merge_mode=None)(x)
    return k.Model(x, l.Dense(2)(l.Maximum()([forward, backward])))


def shared(l, k):
    x, other = l.Input((None, 3), name="x"), l.Input((None, 3), name="other")
    encode, head = l.LSTM(4), l.Dense(3, "tanh")
    return k.Model([x, other], l.Dense(1)(l.Multiply()([head(encode(x)), head(encode(other))])))


def slices(l, k):
    x = l.Input((STEPS, 4), name="x")
    h = l.SimpleRNN(4, return_sequences=True)(x[:, 1:, :3])
    ends = l.Add()([h[:, 0, :], h[:, -1, :], h[:, 2, :], h[:, -2, :]])
    return k.Model(x, l.Dense(2)(l.Concatenate()([ends, l.GRU(3)(h[:, ::2, :]), h[:, -1, 1:3]])))


def operations(l, k):
    x = l.Input((None, 3), name="x")
    h = l.LSTM(3, return_sequences=True)(x) + x
    return k.Model(x, l.Dense(2)(k.ops.mean(h * 2.0, axis=1)))


def without_recurrence(l, k):
    return k.Sequential([l.Input((None,)), l.Embedding(9, 4, mask_zero=True), l.GlobalAveragePooling1D(), l.Dense(2)])


def prelu(l, k):
    """Slopes for each feature of each timestep, and shared by some of them; of masked steps, and of a row."""
    x = l.Input((STEPS, 3))
    y = l.PReLU()(l.Masking()(x))
    y = l.LSTM(4, return_sequences=True)(l.PReLU(shared_axes=[1])(y))
    y = l.PReLU(shared_axes=[2])(y)
    y = l.GRU(3)(l.PReLU(shared_axes=[1, 2])(y))
    return k.Model(x, l.Dense(2)(l.PReLU(shared_axes=[1])(l.Dense(5)(l.PReLU()(y)))))


def attention_one_query(l, k):
    """One query of a sequence, by each of the ways in which a query is made of a row, and each kind of score."""
    x = l.Input((None, 3))
    h, state = l.GRU(4, return_sequences=True, return_state=True)(x)
    other = l.Dense(5)(x)
    parts = [
        l.Attention()([l.RepeatVector(1)(state), h]),
        l.Attention(use_scale=True)([l.Reshape((1, 4))(state), h]),
        l.Attention(score_mode="concat")([h[:, -1:, :], h]),
        l.Attention(score_mode="concat", use_scale=True)([h[:, :1, :], h]),
        l.AdditiveAttention()([l.RepeatVector(1)(l.LSTM(4)(x)), h]),
        l.AdditiveAttention(use_scale=False)([l.Reshape((1, 4))(state), other, h]),
    ]
    return k.Model(x, l.Dense(2)(l.Flatten()(l.Concatenate()(parts))))


def attention_masked(l, k):
    """Masked steps of the value have no share; where only the key is masked all have one."""
    x = l.Input((None,))
    y = l.Embedding(9, 4, mask_zero=True)(x)
    h = l.LSTM(4, return_sequences=True)(y)
    query = l.RepeatVector(1)(l.LSTM(4)(y))
    parts = [
        l.Attention()([query, h]),
        l.AdditiveAttention()([query, h]),
        l.Attention()([query, l.Embedding(9, 3)(x), h]),
        l.MultiHeadAttention(2, 3)(query, h),
    ]
    return k.Model(x, l.Dense(2)(l.Flatten()(l.Concatenate()(parts))))


def attention_scores(l, k):
    x = l.Input((STEPS, 3), name="x")
    h = l.GRU(4, return_sequences=True)(x)
    y, shares = l.Attention(use_scale=True)([h[:, -1:, :], h], return_attention_scores=True)
    z, _ = l.AdditiveAttention()([h[:, -1:, :], h], return_attention_scores=True)
    return k.Model(x, [l.Dense(2, name="answer")(l.Add()([y, z])), shares])


def attention_heads(l, k):
    """One query with several heads; of a key and a value of other widths, without a bias, shared by two queries."""
    x = l.Input((None, 3))
    h = l.GRU(4, return_sequences=True)(x)
    query = l.RepeatVector(1)(l.LSTM(5)(x))
    both = l.MultiHeadAttention(num_heads=3, key_dim=2)
    y = l.Concatenate()([both(query, h), both(l.RepeatVector(1)(l.Dense(5)(l.LSTM(3)(x))), h)])
    z = l.MultiHeadAttention(num_heads=2, key_dim=3, value_dim=4, output_shape=6, use_bias=False)(query, h, key=x)
    return k.Model(x, l.Dense(2)(l.Flatten()(l.Concatenate()([y, z]))))


def attending_decoder(l, k):
    """A decoder whose every step attends to the outputs of an encoder, by each kind of score, and to its own."""
    source, target = l.Input((None, 3), name="source"), l.Input((None, 2), name="target")
    h = l.Bidirectional(l.GRU(2, return_sequences=True))(source)
    d = l.LSTM(4, return_sequences=True)(target)
    parts = [
        l.Attention()([d, h]),
        l.Attention(use_scale=True)([d, h]),
        l.Attention(score_mode="concat")([d, h]),
        l.Attention(score_mode="concat", use_scale=True)([d, h]),
        l.AdditiveAttention()([d, h]),
        l.AdditiveAttention(use_scale=False)([d, l.Dense(5)(source), h]),
        l.Attention()([d, d]),
    ]
    return k.Model([source, target], l.Dense(3, activation="softmax")(l.Concatenate()([d, *parts])))


def attending_masked(l, k):
    """Masked steps of the encoder have no share; where only the key is masked all have one."""
    source, target = l.Input((None,), name="source"), l.Input((None,), name="target")
    y = l.Embedding(9, 4, mask_zero=True)(source)
    h = l.LSTM(4, return_sequences=True)(y)
    d = l.GRU(4, return_sequences=True)(l.Embedding(7, 3)(target))
    parts = [
        l.Attention(use_scale=True)([d, h]),
        l.AdditiveAttention()([d, h]),
        l.Attention()([d, l.Embedding(9, 3)(source), h]),
        l.MultiHeadAttention(2, 3)(d, h),
    ]
    return k.Model([source, target], l.Dense(2)(l.Concatenate()([d, *parts])))


def attending_heads(l, k):
    """Several heads; of a key and a value of other widths, without a bias, and of a sequence to itself."""
    source, target = l.Input((None, 3), name="source"), l.Input((None, 2), name="target")
    h = l.GRU(4, return_sequences=True)(source)
    d = l.LSTM(5, return_sequences=True)(target)
    y = l.MultiHeadAttention(num_heads=3, key_dim=2)(d, h)
    z = l.MultiHeadAttention(num_heads=2, key_dim=3, value_dim=4, output_shape=6, use_bias=False)(d, h, key=source)
    return k.Model([source, target], l.GRU(3)(l.Concatenate()([y, z, l.MultiHeadAttention(2, 2)(d, d)])))


def separable(l, k):
    """Convolutions of each channel by itself, and each timestep several times."""
    x = l.Input((STEPS, 3))
    y = l.DepthwiseConv1D(3, depth_multiplier=2, padding="same", activation="tanh")(x)
    y = l.UpSampling1D(2)(l.DepthwiseConv1D(2, strides=2, use_bias=False)(y))
    y = l.SeparableConv1D(4, 3, depth_multiplier=2, dilation_rate=2, activation="relu")(y)
    y = l.SeparableConv1D(5, 2, padding="same", use_bias=False)(l.UpSampling1D(3)(y))
    return k.Model(x, l.GRU(3)(y))


def causal(l, k):
    return k.Sequential([l.Input((None, 3)), l.SeparableConv1D(4, 3, padding="causal", dilation_rate=2), l.LSTM(3)])


def axes_of_one(l, k):
    """A row as one timestep and back."""
    x = l.Input((None, 3))
    h = l.LSTM(4, return_sequences=True)(x)
    query = k.ops.expand_dims(l.GRU(4)(x), axis=1)
    y = k.ops.squeeze(l.AdditiveAttention()([query, h]), axis=1)
    pooled = l.GlobalAveragePooling1D(keepdims=True)(h)
    return k.Model(x, l.Dense(2)(l.Add()([y, k.ops.squeeze(l.Attention()([pooled, h]), axis=-2)])))


def nested_sequential(l, k):
    x = l.Input((None, 3))
    inner = k.Sequential([l.Input((None, 3)), l.LSTM(4, return_sequences=True), l.Dense(3)], name="inner")
    return k.Model(x, l.Dense(2)(l.GRU(3)(inner(x))))


def models_of_each_step(l, k):
    """Models that are applied to each timestep: one after the other, and a graph with a residual connection."""
    x = l.Input((None, 3))
    layers = [l.Input((3,)), l.Dense(5, activation="relu"), l.BatchNormalization(), l.Dropout(0.2), l.Dense(4)]
    y = l.TimeDistributed(k.Sequential(layers, name="features"))(x)
    inner = l.Input((4,))
    graph = k.Model(inner, l.LayerNormalization()(l.Add()([inner, l.Dense(4, activation="tanh")(inner)])), name="residual")
    return k.Model(x, l.Dense(2)(l.LSTM(3)(l.TimeDistributed(graph)(y))))


def keras2_masks(l, k):
    """In Keras 2 the masks that there are count."""
    x = l.Input((None,))
    masked, other = l.Embedding(9, 3, mask_zero=True)(x), l.Embedding(9, 3)(x)
    return k.Model(x, l.Dense(2)(l.LSTM(4)(l.Add()([masked, other]))))


def functions(l, k):
    """Functions of keras.ops between layers, with attention pooling written by hand."""
    o = k.ops
    x = k.Input((STEPS, 3))
    h = l.LSTM(4, return_sequences=True)(o.clip(x, -0.5, 0.7))
    shares = o.softmax(l.Dense(1)(o.tanh(h)), axis=1)
    pooled = o.sum(h * shares, axis=1)
    parts = [1 - pooled, pooled - 0.5, -pooled, pooled**2, o.abs(pooled), o.maximum(pooled, 0.0), o.relu(pooled)]
    parts += [o.sigmoid(pooled), o.exp(pooled), o.log(o.softplus(pooled)), o.sqrt(o.square(pooled)), o.silu(pooled)]
    parts += [o.leaky_relu(pooled, 0.1), o.softsign(pooled), o.hard_sigmoid(pooled), o.hard_tanh(pooled), 2.0 - 3 * pooled]
    parts += [o.softmax(pooled), o.log_softmax(pooled), o.hard_silu(pooled), o.selu(pooled), o.relu6(pooled)]
    return k.Model(x, l.Dense(3)(l.Concatenate()(parts)))


def functions_masked(l, k):
    """Keras drops the mask at an operation."""
    x = k.Input((STEPS,), dtype="int32")
    h = l.LSTM(4, return_sequences=True)(l.Embedding(5, 3, mask_zero=True)(x))
    shares = k.ops.softmax(l.Dense(1)(k.ops.tanh(h)), axis=1)
    return k.Model(x, l.Dense(2)(l.Concatenate()([k.ops.sum(h * shares, axis=1), l.GRU(3)(1 - h)])))


def one_step_for_all(l, k):
    """One timestep that counts at every other: squeeze and excitation, and a forecast beside the last value."""
    x = k.Input((STEPS, 3))
    squeezed = l.Reshape((1, 3))(l.GlobalAveragePooling1D()(x))
    excited = l.Multiply()([x, l.Dense(3, activation="sigmoid")(l.Dense(2, activation="relu")(squeezed))])
    last = x[:, -1:, :]
    h = l.LSTM(4)(l.Subtract()([l.Add()([excited, x]), last]))
    return k.Model(x, l.Add()([l.Reshape((1, 3))(l.Dense(3)(h)), last]))


def products(l, k):
    """Attention of every timestep to every other by `Dot`, of one row to a sequence, and products of rows."""
    source, target = k.Input((STEPS, 3), name="source"), k.Input((4, 2), name="target")
    keys, h, c = l.LSTM(4, return_sequences=True, return_state=True)(source)
    y = l.LSTM(4, return_sequences=True)(target, initial_state=[h, c])
    shares = l.Activation("softmax")(l.Dot(axes=[2, 2])([y, keys]))
    attended = l.LSTM(3)(l.Concatenate()([l.Dot(axes=[2, 1])([shares, keys]), y]))
    one = l.Softmax()(l.Dot(axes=[1, 2])([l.Dense(4)(h), keys]))
    pooled = l.Dot(axes=[1, 1])([one, keys])
    rows = [l.Dot(axes=1)([h, c]), l.Dot(axes=1, normalize=True)([h, pooled])]
    return k.Model([source, target], l.Dense(2)(l.Concatenate()([attended, pooled, *rows])))


def products_of_operations(l, k):
    """The same by `matmul` of a sequence of which time may be open."""
    o = k.ops
    x = k.Input((None, 3))
    y = l.LSTM(4, return_sequences=True)(x)
    scores = o.matmul(l.Dense(4)(y), o.transpose(y, (0, 2, 1))) / 2.0
    attended = o.matmul(o.softmax(scores, axis=-1), l.Dense(3)(y))
    shares = o.softmax(o.squeeze(l.Dense(1)(o.tanh(y)), axis=-1), axis=-1)
    pooled = o.sum(y * o.expand_dims(shares, -1), axis=1)
    weighted = o.matmul(o.transpose(l.Dense(1, activation="sigmoid")(y), (0, 2, 1)), y)
    return k.Model(x, l.Dense(2)(l.Concatenate()([o.mean(attended, axis=1), pooled, o.squeeze(weighted, 1)])))


def reductions(l, k):
    """Sums, means, deviations and norms over time and over features, and what is divided by them."""
    o = k.ops
    x = k.Input((STEPS, 3))
    mean, deviation = o.mean(x, axis=1, keepdims=True), o.sqrt(o.var(x, axis=1, keepdims=True) + 1e-3)
    y = l.LSTM(4, return_sequences=True)((x - mean) / deviation)
    y = l.RMSNormalization()(y - o.mean(y, axis=-1, keepdims=True))
    rows = [o.min(y, axis=1), o.std(y, axis=1), o.norm(y, axis=1)]
    rows += [l.UnitNormalization()(rows[0]), o.normalize(rows[1]), o.rsqrt(rows[2] + 1.0), 1.0 / (rows[2] + 2.0)]
    rows += [l.Minimum()([rows[0], rows[1]]), o.minimum(rows[0], 0.1), o.sum(rows[0], axis=-1, keepdims=True)]
    return k.Model(x, l.Dense(2)(l.Concatenate()(rows)))


def rearranged(l, k):
    """Parts of tensors, and tensors put together, by operations."""
    o = k.ops
    x = k.Input((STEPS, 4))
    left, right = o.split(x, 2, axis=-1)
    first, second = o.split(x, [2], axis=1)
    whole = l.Concatenate(axis=1)([second, o.flip(first, axis=1), o.pad(second, [[0, 0], [1, 0], [0, 0]])])
    y = l.GRU(4, return_sequences=True)(o.concatenate([whole, o.stack([x[:, 0], x[:, -1]], axis=1)], axis=1))
    column = o.expand_dims(x[:, :, 1], -1) * x[..., 2:3]
    rows = [l.GRU(3)(l.Concatenate()([left, right, column])), l.GRU(2)(x[:, -1][:, None, :]), y[:, 2]]
    return k.Model(x, l.Dense(2)(l.Concatenate()([*rows, l.Flatten()(o.reshape(x, (-1, 3, 8)))])))


def tensorflow_functions(l, k):
    """Functions of TensorFlow that tf.keras records as layers."""
    x = k.Input((STEPS, 3))
    y = l.LSTM(4, return_sequences=True)(tf.nn.relu(x) + x * 0.5)
    shares = tf.nn.softmax(l.Dense(1)(tf.math.tanh(y)), axis=1)
    pooled = tf.reduce_sum(y * shares, axis=1)
    rows = [pooled, tf.reduce_mean(y, axis=1), tf.math.reduce_max(y, 1), 1.0 - pooled, pooled / 2.0, tf.math.l2_normalize(pooled, axis=-1)]
    rows += [tf.squeeze(tf.expand_dims(pooled, 1), axis=1) - tf.abs(pooled), tf.clip_by_value(pooled, -0.1, 0.2), pooled**2.0]
    rows += [tf.concat([pooled, rows[1]], axis=-1), tf.maximum(pooled, rows[1]), tf.sqrt(tf.square(pooled) + 1.0)]
    return k.Model(x, l.Dense(2)(l.Concatenate()(rows)))


def named_outputs(l, k):
    """Outputs by keys, one of which is an input of the model."""
    x = k.Input((STEPS, 3))
    return k.Model(x, {"classes": l.Dense(2, activation="log_softmax")(l.GRU(4)(x)), "series": x})


def main() -> None:
    whole = (".keras", ".h5")
    graph("flow_autoencoder", autoencoder, {"x": sequence(3)}, suffixes=whole)
    graph("flow_flattened", flattened, {"x": sequence(3)}, suffixes=whole)
    graph("flow_from_a_row", from_a_row, {"vector": row(12)})
    graph("flow_attention", pooled_by_attention, {"x": sequence(3)})
    graph("flow_series_and_row", series_and_row, {"series": sequence(3), "fixed": row(2)}, suffixes=whole)
    states = ("words", "lstm_1", "lstm_1_1")
    graph("flow_encoder_decoder", encoder_decoder, {"source": tokens(9), "target": tokens(7, 4)}, states, whole)
    graph("flow_bidirectional_states", bidirectional_states, {"x": sequence(3)})
    graph("flow_two_heads", two_heads, {"x": sequence(3)}, ("each", "last"))
    graph("flow_apart", apart, {"x": sequence(3)})
    graph("flow_shared", shared, {"x": sequence(3), "other": sequence(3, 4)}, suffixes=whole)
    graph("flow_slices", slices, {"x": sequence(4)})
    graph("flow_operations", operations, {"x": sequence(3)})
    graph("flow_without_recurrence", without_recurrence, {"x": tokens(9)})
    graph("flow_keras2_states", encoder_decoder, {"source": tokens(9), "target": tokens(7, 4)}, states, whole, tf_keras)
    graph("flow_keras2_nested", nested_sequential, {"x": sequence(3)}, suffixes=whole, library=tf_keras)
    graph("flow_keras2_slices", slices, {"x": sequence(4)}, suffixes=whole, library=tf_keras)
    graph("flow_keras2_masks", keras2_masks, {"x": tokens(9)}, suffixes=whole, library=tf_keras)
    graph("flow_cells", cells, {"x": sequence(3)}, suffixes=whole)
    graph("flow_keras2_cells", cells, {"x": sequence(3)}, suffixes=whole, library=tf_keras)
    graph("flow_cells_with_states", cells_with_states, {"x": sequence(3)})
    graph("flow_normalized", normalized, {"x": sequence(3)}, suffixes=whole)
    graph("flow_keras2_normalized", normalized, {"x": sequence(3)}, suffixes=whole, library=tf_keras)
    graph("flow_masks_dropped", masks_dropped, {"x": tokens(5)})
    keras2 = {"suffixes": whole, "library": tf_keras}
    graph("flow_prelu", prelu, {"x": sequence(3)}, suffixes=whole)
    graph("flow_keras2_prelu", prelu, {"x": sequence(3)}, **keras2)
    graph("flow_one_query", attention_one_query, {"x": sequence(3)}, suffixes=whole)
    graph("flow_keras2_one_query", attention_one_query, {"x": sequence(3)}, **keras2)
    graph("flow_query_masked", attention_masked, {"x": tokens(5)})
    graph("flow_keras2_query_masked", attention_masked, {"x": tokens(5)}, **keras2)
    graph("flow_scores", attention_scores, {"x": sequence(3)}, ("answer", "attention"), whole)
    graph("flow_heads", attention_heads, {"x": sequence(3)}, suffixes=whole)
    graph("flow_keras2_heads", attention_heads, {"x": sequence(3)}, **keras2)
    both = {"source": sequence(3), "target": sequence(2, 4)}
    graph("flow_attending", attending_decoder, both, suffixes=whole)
    graph("flow_keras2_attending", attending_decoder, both, **keras2)
    graph("flow_attending_masked", attending_masked, {"source": tokens(5), "target": tokens(7, 4)})
    graph("flow_attending_heads", attending_heads, both, suffixes=whole)
    graph("flow_keras2_attending_heads", attending_heads, both, **keras2)
    graph("flow_separable", separable, {"x": sequence(3)}, suffixes=whole)
    graph("flow_keras2_separable", separable, {"x": sequence(3)}, **keras2)
    graph("flow_keras2_causal", causal, {"x": sequence(3)}, **keras2)
    graph("flow_axes_of_one", axes_of_one, {"x": sequence(3)})
    graph("flow_functions", functions, {"x": sequence(3)})
    graph("flow_functions_masked", functions_masked, {"x": tokens(5)})
    graph("flow_nested_sequential", nested_sequential, {"x": sequence(3)}, suffixes=whole)
    graph("flow_models_of_each_step", models_of_each_step, {"x": sequence(3)}, suffixes=whole)
    graph("flow_keras2_models_of_each_step", models_of_each_step, {"x": sequence(3)}, **keras2)
    graph("flow_one_step_for_all", one_step_for_all, {"x": sequence(3)})
    graph("flow_keras2_one_step_for_all", one_step_for_all, {"x": sequence(3)}, **keras2)
    graph("flow_products", products, both, suffixes=whole)
    graph("flow_keras2_products", products, both, **keras2)
    graph("flow_products_of_operations", products_of_operations, {"x": sequence(3)}, suffixes=whole)
    graph("flow_reductions", reductions, {"x": sequence(3)}, suffixes=whole)
    graph("flow_rearranged", rearranged, {"x": sequence(4)}, suffixes=whole)
    graph("flow_named_outputs", named_outputs, {"x": sequence(3)}, ("classes", "series"))
    graph("flow_keras2_functions", tensorflow_functions, {"x": sequence(3)}, **keras2)
    text("text_adapted", text_adapted)
    text("text_cut", text_cut)
    text("text_given", text_given)
    text("text_keras2_given", text_given, library=tf_keras)
    text("text_characters", text_characters)
    text("text_words", text_words)
    with zipfile.ZipFile(BUNDLE) as bundle:
        files = {entry: bundle.read(entry) for entry in bundle.namelist()} | FILES
    with zipfile.ZipFile(BUNDLE, "w", zipfile.ZIP_DEFLATED) as bundle:
        for name in sorted(files):
            # One date, so that the same files make the same archive.
            bundle.writestr(zipfile.ZipInfo(name), files[name], zipfile.ZIP_DEFLATED, 9)


if __name__ == "__main__":
    main()
