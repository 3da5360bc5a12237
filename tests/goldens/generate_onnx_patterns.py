"""Parts of networks that exporters write as several operators: attention, masks, normalizations, positions, mixing over time.

    python generate_onnx_patterns.py OUT

They are added to `onnx_files.zip` by `generate_onnx_files.py zip OUT`, whose folder must hold the other files too. The numbers
are those of PyTorch or of Keras, each checked against ONNX Runtime.
"""

import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from generate_onnx_files import SEED, save, torch_model


def export_torch(out):
    import torch
    from torch import nn
    from torch.nn import functional as F

    Model = torch_model()
    batch = {"batch_first": True}
    lstm = lambda width=3, hidden=4, **options: nn.LSTM(width, hidden, **batch, **options)
    f, head = torch.randn, nn.Linear
    ids = torch.tensor([[3, 5, 1, 2, 0, 0], [4, 1, 0, 0, 0, 0], [2, 2, 7, 8, 1, 3]])

    def luong(m, source, target):
        keys, state = m.encoder(source)
        y, _ = m.decoder(target, state)
        shares = torch.softmax(torch.bmm(m.general(y), keys.transpose(1, 2)) / 2.0, -1)
        return m.out(torch.tanh(m.joined(torch.cat([torch.bmm(shares, keys), y], 2))))

    def to_itself(m, x):
        y, _ = m.rnn(x)
        scores = torch.matmul(m.q(y), m.k(y).transpose(-2, -1)) * 0.5
        return m.out(torch.matmul(F.softmax(scores, dim=-1), m.v(y)).mean(1))

    def masked_mean(m, x):
        y, _ = m.rnn(m.table(x))
        counts = (x != 0).unsqueeze(-1).float()
        return m.out((y * counts).sum(1) / counts.sum(1).clamp(min=1))

    def masked_attention(m, x):
        y, _ = m.rnn(m.table(x))
        scores = m.score(torch.tanh(y)).squeeze(-1).masked_fill(x == 0, -1e9)
        return m.out(torch.bmm(torch.softmax(scores, 1).unsqueeze(1), y).squeeze(1))

    def given_mask(m, x, mask):
        y, _ = m.rnn(x)
        return m.out((y * mask.unsqueeze(-1)).sum(1) / mask.sum(1, keepdim=True))

    def speaker(m, x):
        h = torch.relu(m.out(m.rnn(x)[1][0][-1]))
        return h / h.norm(dim=1, keepdim=True)

    def cosine(m, a, b):
        return F.cosine_similarity(m.rnn(a)[1][0][-1], m.rnn(b)[1][0][-1])

    def distances(m, a, b):
        a, b = m.rnn(a)[1][0][-1], m.rnn(b)[1][0][-1]
        return torch.exp(-torch.abs(a - b).sum(1, keepdim=True)), F.normalize(a * b, dim=1)

    def rms(m, x):
        y, _ = m.rnn(x)
        return m.out(y * torch.rsqrt(y.pow(2).mean(-1, keepdim=True) + 1e-6) * m.scale)

    def pools(m, x):
        y, _ = m.rnn(x)
        return m.out(torch.cat([y.min(1)[0], y.max(1)[0], y.mean(1), torch.minimum(y[:, 0], y[:, -1])], 1))

    def instance(m, x):
        return m.out(m.rnn(m.norm(x.transpose(1, 2)).transpose(1, 2))[0][:, -1])

    def reversible(m, x):
        mean = x.mean(1, keepdim=True)
        deviation = torch.sqrt(x.var(1, keepdim=True, unbiased=False) + 1e-5)
        y = m.out(m.rnn((x - mean) / deviation)[1][0][-1]).unsqueeze(1)
        return y * deviation + mean

    def in_turn(m, x):
        h = m.rnn(x)[0]
        return m.again(torch.cat([h[:, -1:], x[:, :2, :1].repeat(1, 1, 4), h], 1))[0]

    def mixed(m, x):
        x = x + m.over_time(x.transpose(1, 2)).transpose(1, 2)
        return m.out(m.rnn(x)[1][0][-1])

    def turned(m, x):
        return m.out(torch.cat([m.rnn(x)[1][0][-1], m.other(x.transpose(1, 2))[1][0][-1]], 1))

    one = {
        "to_itself": (Model(to_itself, rnn=lstm(), q=head(4, 4), k=head(4, 4), v=head(4, 5), out=head(5, 2)), [f(2, 6, 3)]),
        "masked_mean": (Model(masked_mean, table=nn.Embedding(9, 3, padding_idx=0), rnn=lstm(bidirectional=True), out=head(8, 2)), [ids]),
        "masked_attention": (Model(masked_attention, table=nn.Embedding(9, 3), rnn=lstm(bidirectional=True), score=head(8, 1), out=head(8, 2)), [ids]),
        "unit_vectors": (Model(speaker, rnn=lstm(), out=head(4, 5)), [f(2, 6, 3)]),
        "rms_norm": (Model(rms, rnn=lstm(), scale=f(4), out=head(4, 2)), [f(2, 6, 3)]),
        "pools": (Model(pools, rnn=lstm(), out=head(16, 2)), [f(2, 6, 3)]),
        "instance_norm": (Model(instance, norm=nn.InstanceNorm1d(3, affine=True), rnn=lstm(), out=head(4, 2)), [f(2, 6, 3)]),
        "reversible_norm": (Model(reversible, rnn=lstm(), out=head(4, 3)), [f(2, 6, 3)]),
        "celu": (Model(lambda m, x: m.out(F.celu(m.rnn(x)[0], 0.7)), rnn=lstm(), out=head(4, 2)), [f(2, 6, 3)]),
    }
    two = {
        "luong": (Model(luong, encoder=lstm(), decoder=lstm(2), general=head(4, 4, bias=False), joined=head(8, 6), out=head(6, 3)), [f(2, 6, 3), f(2, 6, 2)]),
        "given_mask": (Model(given_mask, rnn=lstm(), out=head(4, 2)), [f(2, 6, 3), torch.tensor([[1.0, 1, 1, 0, 0, 0], [1, 1, 1, 1, 1, 0]])]),
        "cosine": (Model(cosine, rnn=lstm()), [f(2, 6, 3), f(2, 6, 3)]),
        "distances": (Model(distances, rnn=lstm()), [f(2, 6, 3), f(2, 6, 3)]),
    }
    fixed = {
        "positions": (Model(lambda m, x: m.out(m.rnn(x + m.places)[0]), places=f(1, 6, 3), rnn=lstm(), out=head(4, 2)), [f(2, 6, 3)]),
        "joined_in_time": (Model(in_turn, rnn=lstm(), again=nn.GRU(4, 3, **batch)), [f(2, 6, 3)]),
        "mixed_over_time": (Model(mixed, over_time=head(6, 6), rnn=lstm(), out=head(4, 2)), [f(2, 6, 3)]),
        "turned": (Model(turned, rnn=lstm(), other=lstm(6), out=head(8, 2)), [f(2, 6, 3)]),
        "deviation": (Model(lambda m, x: m.out(m.rnn(x)[0].std(1)), rnn=lstm(), out=head(4, 2)), [f(2, 6, 3)]),
    }
    cases = [(name, case, names) for group, names in ((one, ["x"]), (two, ["a", "b"]), (fixed, ["x"])) for name, case in group.items()]
    for index, (name, (model, feeds), names) in enumerate(cases):
        torch.manual_seed(SEED + 300 + index)
        model = model.eval()
        with torch.no_grad():
            for tensor in model.parameters():
                tensor.uniform_(-0.7, 0.7)
            expected = model(*feeds)
        expected = [x.numpy() for x in (expected if isinstance(expected, tuple) else (expected,))]
        for exporter in ("script", "dynamo"):
            path = out / f"pattern_{exporter}_{name}.onnx"
            axes = {} if name in fixed else {n: {0: "b", 1: "t"} for n in names}
            if exporter == "script":
                options = {"dynamo": False, "opset_version": 17, "dynamic_axes": axes}
            elif name == "deviation":
                continue
            else:
                options = {"dynamo": True, "external_data": False}
            torch.onnx.export(model, tuple(feeds), path, input_names=names, **options)
            if name == "cosine" and exporter == "script":
                continue
            save(path, [x.numpy() for x in feeds], expected)


def export_keras(out):
    import keras
    import tensorflow as tf
    import tf2onnx
    from keras import layers as l

    random = np.random.default_rng(SEED)
    f = lambda *shape: random.standard_normal(shape).astype(np.float32)

    def ids(kind, shape=(3, 6)):
        x = random.integers(1, 9, shape)
        x[0, 3:], x[2, 1] = 0, 0
        return x.astype(kind)

    def sequence_to_sequence():
        source, target = keras.Input((6,), dtype="int32"), keras.Input((5,), dtype="int32")
        _, h, c = l.LSTM(4, return_state=True)(l.Embedding(9, 3, mask_zero=True)(source))
        y = l.LSTM(4, return_sequences=True)(l.Embedding(9, 3, mask_zero=True)(target), initial_state=[h, c])
        return keras.Model([source, target], l.Dense(3)(y))

    def float_texts():
        left, right = keras.Input((6,)), keras.Input((5,))
        table, rnn = l.Embedding(9, 3), l.LSTM(4)
        return keras.Model([left, right], l.Dense(2)(l.Subtract()([rnn(table(left)), rnn(table(right))])))

    def convolutional():
        x = keras.Input((6, 3))
        recurrent = l.LSTM(4)(l.Permute((2, 1))(x))
        seen = l.GlobalAveragePooling1D()(l.Conv1D(5, 3, padding="same", activation="relu")(x))
        return keras.Model(x, l.Dense(2)(l.Concatenate()([recurrent, seen])))

    def series_and_place():
        x, place = keras.Input((6, 2)), keras.Input((1,), dtype="int32")
        repeated = l.RepeatVector(6)(l.Flatten()(l.Embedding(9, 3)(place)))
        return keras.Model([x, place], l.Dense(2)(l.LSTM(4)(l.Concatenate()([x, repeated]))))

    def attending():
        source, target = keras.Input((6, 3)), keras.Input((5, 2))
        keys, h, c = l.LSTM(4, return_sequences=True, return_state=True)(source)
        y = l.LSTM(4, return_sequences=True)(target, initial_state=[h, c])
        shares = l.Activation("softmax")(l.Dot(axes=[2, 2])([y, keys]))
        return keras.Model([source, target], l.Dense(3)(l.Concatenate()([l.Dot(axes=[2, 1])([shares, keys]), y])))

    def pooled():
        x = keras.Input((6,), dtype="int32")
        y = l.LSTM(4, return_sequences=True)(l.Embedding(9, 3, mask_zero=True)(x))
        return keras.Model(x, l.Dense(2)(l.GlobalMaxPooling1D()(y)))

    normalized = lambda: keras.Sequential([keras.Input((6, 3)), l.GRU(4, return_sequences=True), l.LayerNormalization(), l.LSTM(3)])
    cases = {
        "sequence_to_sequence": (sequence_to_sequence, [ids(np.int32), ids(np.int32, (3, 5))], 15),
        "float_texts": (float_texts, [ids(np.float32), ids(np.float32, (3, 5))], 15),
        "permuted": (convolutional, [f(2, 6, 3)], 15),
        "series_and_place": (series_and_place, [f(3, 6, 2), np.array([[1], [7], [0]], np.int32)], 15),
        "attending": (attending, [f(2, 6, 3), f(2, 5, 2)], 15),
        "pooled_without_its_mask": (pooled, [ids(np.int32)], 15),
        "layer_norm_opset_13": (normalized, [f(2, 6, 3)], 13),
        "repeated_latent": (lambda: keras.Sequential([keras.Input((4,)), l.Dense(3), l.RepeatVector(5), l.LSTM(4, return_sequences=True)]), [f(2, 4)], 15),
    }
    for index, (name, (build, feeds, opset)) in enumerate(cases.items()):
        keras.utils.set_random_seed(SEED % 1000 + index)
        model = build()
        model.set_weights([random.uniform(-0.7, 0.7, w.shape).astype(np.float32) for w in model.get_weights()])
        path = out / f"pattern_keras_{name}.onnx"
        signature = [tf.TensorSpec([None, *x.shape[1:]], x.dtype, name=f"input_{at}") for at, x in enumerate(feeds)]
        function = tf.function(lambda *x: model(list(x) if len(x) > 1 else x[0]), input_signature=signature)
        tf2onnx.convert.from_function(function, input_signature=signature, opset=opset, output_path=str(path))
        save(path, feeds, model(feeds if len(feeds) > 1 else feeds[0]).numpy())


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(exist_ok=True)
    export_torch(folder)
    export_keras(folder)
