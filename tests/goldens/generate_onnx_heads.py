"""Attention of several heads, channels in parts, vectors of token ids, rows by their lengths, as exporters write them.

    python generate_onnx_heads.py OUT

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
    from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

    torch.manual_seed(SEED)
    # Otherwise a layer is one operator of PyTorch, which has no counterpart in ONNX.
    torch.backends.mha.set_fastpath_enabled(False)
    Model = torch_model()
    batch = {"batch_first": True}
    lstm = lambda width=3, hidden=8, **options: nn.LSTM(width, hidden, **batch, **options)
    f, head = torch.randn, nn.Linear
    attention = lambda **options: nn.MultiheadAttention(8, 2, **{**batch, **options})
    lengths = torch.tensor([3, 6, 1])

    def to_itself(m, x):
        y, _ = m.rnn(x)
        return m.out((y + m.heads(y, y, y)[0]).mean(1))

    def without_shares(m, x):
        y, _ = m.rnn(x)
        return m.out(m.heads(y, y, y, need_weights=False)[0])

    def time_first(m, x):
        y = m.rnn(x)[0].transpose(0, 1)
        return m.out(m.heads(y, y, y)[0].transpose(0, 1))

    def cross(m, source, target):
        keys, state = m.encoder(source)
        y, _ = m.decoder(target, state)
        return m.out(m.heads(y, keys, keys, need_weights=False)[0])

    def last_query(m, x):
        y, _ = m.rnn(x)
        return m.out(m.heads(y[:, -1:], y, y)[0].squeeze(1))

    def shuffled(m, x):
        y, _ = m.rnn(x)
        return m.out(y.reshape(y.shape[0], y.shape[1], 4, 2).transpose(2, 3).reshape(y.shape[0], y.shape[1], 8))

    def mixture(m, x):
        y = m.out(m.rnn(x)[0])
        return y.view(y.shape[0], y.shape[1], 3, 2)

    def last_by_length(m, x, lengths):
        y, _ = m.rnn(x)
        return m.out(y[torch.arange(y.shape[0]), lengths - 1])

    def packed(m, x, lengths):
        ordered = pack_padded_sequence(m.table(x), lengths, batch_first=True, enforce_sorted=False)
        _, (h, _) = m.rnn(ordered)
        return m.out(torch.cat([h[-2], h[-1]], 1))

    ids = torch.tensor([[3, 5, 1, 2, 0, 0], [4, 1, 8, 0, 3, 3], [2, 2, 7, 8, 1, 3]])
    layer = nn.TransformerEncoderLayer(8, 2, 12, dropout=0.0, batch_first=True)
    one = {
        "heads": (Model(to_itself, rnn=lstm(), heads=attention(), out=head(8, 2)), [f(2, 6, 3)]),
        "heads_alone": (Model(without_shares, rnn=lstm(), heads=attention(bias=False), out=head(8, 2)), [f(2, 6, 3)]),
        "heads_time_first": (Model(time_first, rnn=lstm(), heads=attention(batch_first=False), out=head(8, 2)), [f(2, 6, 3)]),
        "transformer_layer": (Model(lambda m, x: m.out(m.layer(m.rnn(x)[0])), rnn=lstm(), layer=layer, out=head(8, 2)), [f(2, 6, 3)]),
        "last_query": (Model(last_query, rnn=lstm(), heads=attention(), out=head(8, 2)), [f(2, 6, 3)]),
        "shuffled": (Model(shuffled, rnn=lstm(), out=head(8, 2)), [f(2, 6, 3)]),
        "mixture": (Model(mixture, rnn=lstm(), out=head(8, 6)), [f(2, 6, 3)]),
        "one_hot": (Model(lambda m, x: m.out(m.rnn(F.one_hot(x, 9).float())[0]), rnn=lstm(9), out=head(8, 2)), [ids]),
    }
    two = {
        "cross_heads": (Model(cross, encoder=lstm(), decoder=lstm(2), heads=attention(), out=head(8, 3)), [f(2, 6, 3), f(2, 5, 2)]),
        "last_by_length": (Model(last_by_length, rnn=lstm(), out=head(8, 2)), [f(3, 6, 3), lengths]),
        "packed": (Model(packed, table=nn.Embedding(9, 3), rnn=lstm(bidirectional=True, num_layers=2), out=head(16, 2)), [ids, lengths]),
    }
    # A mistake that is often made: without `batch_first` this is the last row, not the last timestep.
    one_row = lambda m, x: m.out(m.rnn(x)[0][:, -1])
    fixed = {"one_row": (Model(one_row, rnn=nn.LSTM(3, 8), out=head(8, 2)), [f(3, 6, 3)])}
    # What an exporter does not write, or writes in a form that is refused.
    left_out = {("script", "last_query"), ("dynamo", "one_hot"), ("dynamo", "packed")}
    cases = [(name, case) for group in (one, two, fixed) for name, case in group.items()]
    for index, (name, (model, feeds)) in enumerate(cases):
        torch.manual_seed(SEED + 700 + index)
        model = model.eval()
        with torch.no_grad():
            for tensor in model.parameters():
                tensor.uniform_(-0.7, 0.7)
            expected = model(*feeds).numpy()
        names = ["a", "b"] if name == "cross_heads" else ["x", "lengths"][: len(feeds)]
        for exporter in ("script", "dynamo"):
            if (exporter, name) in left_out:
                continue
            path = out / f"pattern_{exporter}_{name}.onnx"
            if exporter == "script":
                axes = {n: {0: "b", 1: "t"} if x.dim() > 1 else {0: "b"} for n, x in zip(names, feeds)}
                axes = {} if name in fixed else axes
                options = {"dynamo": False, "opset_version": 17, "dynamic_axes": axes}
            else:
                options = {"dynamo": True, "external_data": False}
            torch.onnx.export(model, tuple(feeds), path, input_names=names, **options)
            save(path, [x.numpy() for x in feeds], expected)


def export_keras(out):
    import keras
    import tensorflow as tf
    import tf2onnx
    from keras import layers as l

    random = np.random.default_rng(SEED + 7)
    x = keras.Input((6, 3))
    y = l.LSTM(8, return_sequences=True)(x)
    attended = l.MultiHeadAttention(2, 4)(y, y)
    model = keras.Model(x, l.Dense(2)(l.GlobalMaxPooling1D()(l.LayerNormalization()(l.Add()([y, attended])))))
    model.set_weights([random.uniform(-0.7, 0.7, w.shape).astype(np.float32) for w in model.get_weights()])
    feed = random.standard_normal((2, 6, 3)).astype(np.float32)
    path = out / "pattern_keras_heads.onnx"
    signature = [tf.TensorSpec([None, 6, 3], tf.float32, name="x")]
    tf2onnx.convert.from_function(tf.function(model, input_signature=signature), input_signature=signature, opset=15, output_path=str(path))
    save(path, [feed], model(feed).numpy())


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(exist_ok=True)
    export_torch(folder)
    export_keras(folder)
