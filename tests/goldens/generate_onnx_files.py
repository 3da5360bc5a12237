"""Models as people bring them: what exporters write around recurrent layers, loops, masks, branches, hand-made graphs.

    /opt/torch/bin/python generate_onnx_files.py torch OUT
    /opt/train/bin/python generate_onnx_files.py keras OUT
    /opt/torch/bin/python generate_onnx_files.py hand OUT
    /opt/torch/bin/python generate_onnx_files.py zip OUT   # OUT/*.onnx and OUT/*.golden.safetensors to onnx_files.zip

Goldens hold `input` (f32 or i32), `output` in the file's own shape and, where the file has them, `lengths`; the numbers are
the framework's, for hand-made graphs ONNX Runtime's. Each is checked against ONNX Runtime here.
"""

import sys
from pathlib import Path

import numpy as np

from onnx_bundle import bundle, write_golden

SEED = 20261129


def save(path, feeds, expected, tolerance=2e-5):
    """`feeds` and `expected` in the order of the file; no `expected`: ONNX Runtime's."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    inputs, outputs = [i.name for i in session.get_inputs()], [o.name for o in session.get_outputs()]
    got = session.run(None, dict(zip(inputs, feeds, strict=True)))
    expected = got if expected is None else [np.asarray(x) for x in (expected if isinstance(expected, (list, tuple)) else [expected])]
    for name, x, y in zip(outputs, got, expected, strict=True):
        assert x.shape == y.shape and np.allclose(x, y, atol=tolerance), (path.name, name, np.abs(x - y).max())
    small = lambda x: np.asarray(x, np.int32 if np.issubdtype(np.asarray(x).dtype, np.integer) else np.float32)
    tensors = {"input": small(feeds[0]), "output": small(expected[0])}
    tensors |= {f"input {name}": small(x) for name, x in list(zip(inputs, feeds))[1:]}
    tensors |= {f"output {name}": small(x) for name, x in list(zip(outputs, expected))[1:]}
    write_golden(path.with_suffix(".golden.safetensors"), tensors)
    print(path.name, path.stat().st_size)


def torch_model():
    """A module of named parts and a function of them."""
    import torch
    from torch import nn

    class Model(nn.Module):
        """Named parts and a function of them."""

        def __init__(self, forward, **parts):
            super().__init__()
            for name, part in parts.items():
                setattr(self, name, nn.Parameter(part) if isinstance(part, torch.Tensor) else part)
            self.run = forward

        def forward(self, *x):
            return self.run(self, *x)

    return Model


def export_torch(out):
    import torch
    from torch import nn
    from torch.nn import functional as F

    Model = torch_model()
    two = lambda **options: nn.LSTM(3, 4, batch_first=True, bidirectional=True, **options)
    head = lambda width, out=2: nn.Linear(width, out)

    def last_of_both(m, x):
        y, _ = m.rnn(x)
        return m.out(torch.cat([y[:, -1, :4], y[:, 0, 4:]], 1))

    def layers_of_states(m, x):
        _, (h, _) = m.rnn(x)
        h = h.view(2, 2, x.shape[0], 4)[-1]
        return m.out(torch.cat([h[0], h[1]], 1))

    def attention(m, x):
        y, _ = m.rnn(x)
        return m.out((y * torch.softmax(m.score(torch.tanh(y)), 1)).sum(1))

    def dot_attention(m, x):
        y, (h, _) = m.rnn(x)
        query = torch.cat([h[-2], h[-1]], 1).unsqueeze(2)
        weights = torch.softmax(torch.bmm(y, query).squeeze(2), 1)
        return m.out(torch.bmm(y.transpose(1, 2), weights.unsqueeze(2)).squeeze(2))

    def autoencoder(m, x):
        _, (h, _) = m.encoder(x)
        y, _ = m.decoder(h[-1].unsqueeze(1).repeat(1, x.shape[1], 1))
        return m.out(y)

    def learned_state(m, x):
        h, c = m.h.expand(-1, x.shape[0], -1), m.c.expand(-1, x.shape[0], -1)
        return m.rnn(x, (h.contiguous(), c.contiguous()))[0]

    def first_functions(m, x):
        return m.rnn(torch.cat([torch.tanh(x), torch.log(x * x + 1.0)], 2))[0]

    def time_first(m, x):
        y, _ = m.rnn(x)
        return F.log_softmax(m.out(y.reshape(-1, 4)), 1)

    f = torch.randn
    models = {
        "log_softmax": (Model(lambda m, x: F.log_softmax(m.out(m.rnn(x)[0]), 2), rnn=two(), out=head(8, 5)), f(2, 6, 3)),
        "log_softmax_rows": (Model(time_first, rnn=nn.GRU(3, 4), out=head(4, 5)), f(6, 2, 3)),
        "squeeze_one": (Model(lambda m, x: m.out(m.rnn(x)[1][0][-1]).squeeze(1), rnn=nn.LSTM(3, 4, 2, batch_first=True), out=head(4, 1)), f(3, 6, 3)),
        "view_rows": (Model(lambda m, x: m.out(m.rnn(x)[1][-1]).view(-1), rnn=nn.GRU(3, 4, batch_first=True), out=head(4, 1)), f(3, 6, 3)),
        "one_feature": (Model(lambda m, x: m.out(m.rnn(x.unsqueeze(-1))[0][:, -1]), rnn=nn.LSTM(1, 4, batch_first=True), out=head(4, 1)), f(2, 7)),
        "sum_of_directions": (Model(lambda m, x: (lambda y: m.out(y[:, :, :4] + y[:, :, 4:]))(m.rnn(x)[0]), rnn=two(), out=head(4)), f(2, 6, 3)),
        "mean_of_states": (Model(lambda m, x: m.out(m.rnn(x)[1][0].mean(0)), rnn=two(), out=head(4)), f(2, 6, 3)),
        "sum_of_states": (Model(lambda m, x: m.out(m.rnn(x)[1].sum(0)), rnn=nn.GRU(3, 4, batch_first=True, bidirectional=True), out=head(4)), f(2, 6, 3)),
        "ends_of_directions": (Model(last_of_both, rnn=two(), out=head(8)), f(2, 6, 3)),
        "layers_of_states": (Model(layers_of_states, rnn=two(num_layers=2), out=head(8)), f(2, 6, 3)),
        "flatten": (Model(lambda m, x: m.out(torch.flatten(m.rnn(x)[0], 1)), rnn=nn.LSTM(3, 4, batch_first=True), out=head(24)), f(2, 6, 3)),
        "attention": (Model(attention, rnn=two(), score=head(8, 1), out=head(8)), f(2, 6, 3)),
        "dot_attention": (Model(dot_attention, rnn=two(), out=head(8)), f(2, 6, 3)),
        "autoencoder": (Model(autoencoder, encoder=nn.LSTM(3, 4, batch_first=True), decoder=nn.LSTM(4, 5, batch_first=True), out=head(5, 3)), f(2, 6, 3)),
        "learned_state": (Model(learned_state, rnn=nn.LSTM(3, 4, 2, batch_first=True), h=f(2, 1, 4), c=f(2, 1, 4)), f(3, 6, 3)),
        "first_functions": (Model(first_functions, rnn=nn.GRU(6, 4, batch_first=True)), f(2, 5, 3)),
        "scaled_input": (Model(lambda m, x: m.rnn((x - 0.3) / 1.7)[0], rnn=nn.GRU(3, 4)), f(5, 2, 3)),
        "padded": (Model(lambda m, x: m.rnn(F.pad(x, (0, 0, 2, 1)))[0], rnn=nn.LSTM(3, 4, batch_first=True)), f(2, 5, 3)),
        "last_three": (Model(lambda m, x: m.out(m.rnn(x)[0][:, -3:]), rnn=nn.LSTM(3, 4, batch_first=True), out=head(4)), f(2, 6, 3)),
        "every_second": (Model(lambda m, x: m.rnn(x[:, ::2])[0], rnn=nn.GRU(3, 4, batch_first=True)), f(2, 7, 3)),
        "row_added": (Model(lambda m, x: m.out(m.rnn(x)[0] + x.mean(1, keepdim=True)), rnn=nn.GRU(4, 4, batch_first=True), out=head(4)), f(2, 6, 4)),
        "hard_swish": (Model(lambda m, x: F.hardswish(m.out(m.rnn(x)[0])), rnn=nn.GRU(3, 4, batch_first=True), out=head(4)), f(2, 6, 3)),
        "mean_of_features": (Model(lambda m, x: m.rnn(x)[0].mean(2), rnn=nn.GRU(3, 4, batch_first=True)), f(2, 6, 3)),
    }
    fixed = ["flatten"]
    for index, (name, (model, x)) in enumerate(models.items()):
        torch.manual_seed(SEED + index)
        model = model.eval()
        with torch.no_grad():
            for tensor in model.parameters():
                tensor.uniform_(-0.7, 0.7)
        expected = model(x).detach().numpy()
        for exporter in ("script", "dynamo"):
            path = out / f"torch_{exporter}_{name}.onnx"
            open_axes = {0: "a"} if name in fixed or x.dim() == 2 else {0: "a", 1: "b"}
            if exporter == "script":
                torch.onnx.export(model, (x,), path, dynamo=False, opset_version=17, input_names=["input"], output_names=["output"],
                                  dynamic_axes={"input": open_axes})
            else:
                torch.onnx.export(model, (x,), path, dynamo=True, external_data=False, input_names=["input"], output_names=["output"])
            save(path, [x.numpy()], expected)
    # Each row's last timestep by its length.
    model = Model(lambda m, x, n: m.rnn(x)[0].gather(1, (n - 1).view(-1, 1, 1).expand(-1, 1, 4)).squeeze(1), rnn=nn.GRU(3, 4, batch_first=True))
    x, lengths = f(3, 6, 3), torch.tensor([6, 2, 4])
    path = out / "torch_script_last_by_length.onnx"
    torch.onnx.export(model, (x, lengths), path, dynamo=False, opset_version=17, input_names=["input", "lengths"], output_names=["output"],
                      dynamic_axes={"input": {0: "a", 1: "b"}, "lengths": {0: "a"}})
    save(path, [x.numpy(), lengths.numpy()], model(x, lengths).detach().numpy())

    # Several inputs and outputs.
    def decode(m, source, target):
        _, state = m.encoder(m.source(source))
        return m.out(m.decoder(m.target(target), state)[0])

    def with_states(m, x):
        y, (h, c) = m.rnn(x)
        return m.out(y), torch.cat([h[-1], c[-1]], 1)

    def with_scores(m, x):
        y, _ = m.rnn(x)
        shares = torch.softmax(m.score(y), 1)
        return m.out((y * shares).sum(1)), shares

    ids = lambda n, *shape: torch.randint(0, n, shape)
    table, batch = nn.Embedding, {"batch_first": True}
    several = {
        "series_and_row": (Model(lambda m, x, fixed: m.out(torch.cat([m.rnn(x)[1][-1], torch.relu(m.row(fixed))], 1)), rnn=nn.GRU(3, 4, **batch), row=head(2, 3), out=head(7)), [f(2, 6, 3), f(2, 2)], ["x", "fixed"], ["y"]),
        "row_before_series": (Model(lambda m, fixed, x: m.rnn(torch.cat([x, fixed.unsqueeze(1).expand(-1, x.shape[1], -1)], 2))[0], rnn=nn.LSTM(5, 4, **batch)), [f(2, 2), f(2, 6, 3)], ["fixed", "x"], ["y"]),
        "two_series": (Model(lambda m, a, b: m.out(torch.cat([m.left(a)[0][:, -1], m.right(b)[0][:, -1]], 1)), left=nn.GRU(3, 4, **batch), right=nn.GRU(2, 3, **batch), out=head(7)), [f(2, 6, 3), f(2, 6, 2)], ["a", "b"], ["y"]),
        "two_texts": (Model(lambda m, a, b: m.out(m.left(m.e(a))[1][-1] - m.right(m.g(b))[1][-1]), e=table(9, 3), g=table(7, 3), left=nn.GRU(3, 4, **batch), right=nn.GRU(3, 4, **batch), out=head(4)), [ids(9, 2, 5), ids(7, 2, 5)], ["a", "b"], ["y"]),
        "encoder_decoder": (Model(decode, source=table(9, 3), target=table(7, 2), encoder=nn.LSTM(3, 4, **batch), decoder=nn.LSTM(2, 4, **batch), out=head(4, 7)), [ids(9, 2, 6), ids(7, 2, 6)], ["source", "target"], ["y"]),
        "encoder_decoder_gru": (Model(decode, source=table(9, 3), target=table(7, 2), encoder=nn.GRU(3, 4), decoder=nn.GRU(2, 4), out=head(4, 7)), [ids(9, 6, 2), ids(7, 6, 2)], ["source", "target"], ["y"]),
        "state_outputs": (Model(with_states, rnn=nn.LSTM(3, 4, **batch), out=head(4)), [f(2, 6, 3)], ["x"], ["y", "state"]),
        "score_outputs": (Model(with_scores, rnn=nn.LSTM(3, 4, **batch), score=head(4, 1), out=head(4)), [f(2, 6, 3)], ["x"], ["y", "shares"]),
        "cell_state": (Model(lambda m, x: m.out(m.rnn(x)[1][1][-1]), rnn=nn.LSTM(3, 4, **batch), out=head(4)), [f(2, 6, 3)], ["x"], ["y"]),
    }
    for index, (name, (model, feeds, inputs, outputs)) in enumerate(several.items()):
        torch.manual_seed(SEED + 100 + index)
        model = model.eval()
        with torch.no_grad():
            for tensor in model.parameters():
                tensor.uniform_(-0.7, 0.7)
        expected = model(*feeds)
        expected = [x.detach().numpy() for x in (expected if isinstance(expected, tuple) else [expected])]
        for exporter in ("script", "dynamo"):
            path = out / f"torch_{exporter}_{name}.onnx"
            options = {"dynamo": True, "external_data": False} if exporter == "dynamo" else {
                "dynamo": False, "opset_version": 17, "dynamic_axes": {n: {0: "a", **({1: "b"} if n != "fixed" else {})} for n in inputs}}
            torch.onnx.export(model, tuple(feeds), path, input_names=inputs, output_names=outputs, **options)
            save(path, [x.numpy() for x in feeds], expected)


def export_keras(out):
    import keras
    import tensorflow as tf
    import tf2onnx
    from keras import layers as l

    random = np.random.default_rng(SEED)
    f = lambda *shape: random.standard_normal(shape).astype(np.float32)

    def masked(*shape):
        x = f(*shape)
        x[0, 2:] = 0
        x[1, 4:] = 0
        x[1, 1] = 0
        return x

    def ids(kind):
        x = random.integers(1, 12, (3, 6))
        x[0, 3:] = 0
        x[2, 1] = 0
        return x.astype(kind)

    seq = lambda *parts: keras.Sequential(list(parts))
    text = lambda kind, *parts, mask=True: seq(keras.Input((6,), dtype=kind), l.Embedding(12, 3, mask_zero=mask), *parts)
    vectors = lambda *parts, batch=None: seq(keras.Input((6, 3), batch_size=batch), *parts)
    models = {
        "masked_lstm": (vectors(l.Masking(), l.LSTM(4), l.Dense(2, activation="softmax")), masked(2, 6, 3)),
        "masked_gru_sequence": (vectors(l.Masking(), l.GRU(4, return_sequences=True)), masked(2, 6, 3)),
        "masked_rnn_twice": (vectors(l.Masking(), l.SimpleRNN(4, return_sequences=True), l.GRU(5)), masked(2, 6, 3)),
        "masked_value": (vectors(l.Masking(-1.5), l.LSTM(4)), np.where(masked(2, 6, 3) == 0, np.float32(-1.5), f(2, 6, 3))),
        "text_lstm": (text("int32", l.LSTM(4), l.Dense(1, activation="sigmoid")), ids(np.int32)),
        "text_gru": (text("int32", l.GRU(4, return_sequences=True), l.GRU(3)), ids(np.int32)),
        "text_float": (text("float32", l.LSTM(4), l.Dense(1), mask=False), ids(np.float32)),
        "fixed_batch_lstm": (vectors(l.LSTM(4, return_sequences=True), l.LSTM(3), batch=1), f(1, 6, 3)),
        "fixed_batch_gru": (vectors(l.GRU(4), batch=1), f(1, 6, 3)),
        "open_gru": (seq(keras.Input((None, 3)), l.GRU(4, return_sequences=True), l.SimpleRNN(3)), f(2, 5, 3)),
        "relu_gru": (vectors(l.GRU(4, activation="relu", recurrent_activation="hard_sigmoid")), f(2, 6, 3)),
        "backwards_gru": (vectors(l.GRU(4, go_backwards=True, return_sequences=True)), f(2, 6, 3)),
        "bidirectional_last": (vectors(l.Bidirectional(l.LSTM(4)), l.Dense(2)), f(2, 6, 3)),
        "bidirectional_sum": (vectors(l.Bidirectional(l.GRU(4, return_sequences=True), merge_mode="sum")), f(2, 6, 3)),
        "repeat_vector": (vectors(l.LSTM(4), l.RepeatVector(5), l.LSTM(3, return_sequences=True)), f(2, 6, 3)),
        "flatten": (vectors(l.LSTM(4, return_sequences=True), l.Flatten(), l.Dense(2)), f(2, 6, 3)),
        "reshape": (vectors(l.GRU(6), l.Reshape((3, 2)), l.GRU(4, return_sequences=True)), f(2, 6, 3)),
        "padding": (vectors(l.ZeroPadding1D((2, 1)), l.Conv1D(4, 3), l.GRU(3)), f(2, 6, 3)),
        "cropping": (vectors(l.GRU(4, return_sequences=True), l.Cropping1D((1, 2))), f(2, 6, 3)),
        "time_distributed": (vectors(l.LSTM(4, return_sequences=True), l.TimeDistributed(l.Dense(2))), f(2, 6, 3)),
        "text_bidirectional": (text("int32", l.Bidirectional(l.LSTM(4)), l.Dense(1)), ids(np.int32)),
        "masked_bidirectional": (vectors(l.Masking(), l.Bidirectional(l.GRU(4, return_sequences=True)), l.Bidirectional(l.LSTM(3))), masked(2, 6, 3)),
        "text_mean": (text("int32", l.LSTM(4, return_sequences=True), l.GlobalAveragePooling1D(), l.Dense(1)), ids(np.int32)),
        "masked_time_distributed": (vectors(l.Masking(), l.LSTM(4, return_sequences=True), l.TimeDistributed(l.Dense(3, activation="tanh")), l.GRU(2)), masked(2, 6, 3)),
    }
    for name, (model, x) in models.items():
        model.set_weights([random.uniform(-0.7, 0.7, w.shape) for w in model.weights])
        expected = np.asarray(model(x))
        for exporter in ("tf2onnx", "keras"):
            path = out / f"{exporter}_{name}.onnx"
            if exporter == "tf2onnx":
                batch = model.inputs[0].shape[0]
                spec = (tf.TensorSpec((batch, *model.inputs[0].shape[1:]), x.dtype, name="input"),)
                tf2onnx.convert.from_function(tf.function(lambda input: model(input)), input_signature=spec, opset=17, output_path=str(path))
            else:
                model.export(path, format="onnx", verbose=False)
            save(path, [x], expected)


def hand_made(out):
    """Graphs that ONNX Runtime runs."""
    import onnx
    from onnx import TensorProto as T
    from onnx import helper as h
    from onnx import numpy_helper

    random = np.random.default_rng(SEED)
    f = lambda *shape: (0.6 * random.standard_normal(shape)).astype(np.float32)
    ints = lambda *values: np.array(values, np.int64)

    def info(name, shape, kind=T.FLOAT):
        return h.make_tensor_value_info(name, kind, shape)

    def graph(nodes, inputs, outputs, constants):
        return h.make_graph([h.make_node(op, i, o, **a) for op, i, o, a in nodes], "g", inputs, outputs,
                            [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()])

    def model(name, nodes, inputs, outputs, constants, x, opset=17, domains=(), older=None, expected=None, tolerance=2e-5):
        imports = [h.make_opsetid("", opset), *[h.make_opsetid(d, 1) for d in domains]]
        path = out / f"hand_{name}.onnx"
        onnx.save(h.make_model(graph(nodes, inputs, outputs, constants), opset_imports=imports, ir_version=8), path)
        save(path, [x], expected, tolerance)
        if older:  # the same nodes in an opset that ONNX Runtime no longer has
            imports[0].version = older
            onnx.save(h.make_model(graph(nodes, inputs, outputs, constants), opset_imports=imports, ir_version=3), path)

    def loop(name, body, carried, constants, x, scans=1):
        """A loop over `input` [T, B, 3] whose body reads `t`, `x` and its states."""
        states = [s for s, _ in carried]
        inputs = [info("i", [], T.INT64), info("on", [], T.BOOL), *[info(s, None) for s in states]]
        outputs = [info("go", [], T.BOOL), *[info(s + "_next", None) for s in states], info("y", None)]
        nodes = [("Gather", ["input", "i"], ["x"], {"axis": 0}), *body, ("Identity", ["on"], ["go"], {}), ("Identity", [states[0] + "_next"], ["y"], {})]
        inner = graph(nodes, inputs, outputs, constants)
        zeros = {s: np.zeros((2, w), np.float32) for s, w in carried}
        outer = [("Loop", ["trips", "", *["start_" + s for s in states]], [*["end_" + s for s in states], "output"], {"body": inner})]
        start = {"start_" + s: v for s, v in zeros.items()}
        model(name, outer, [info("input", [5, 2, 3])], [info("output", None)], {"trips": ints(5).reshape(()), **start}, x)

    w = {"w": f(7, 16), "b": f(16), "two": ints(4, 4, 4, 4)}
    # TensorFlow 1's cell: the input beside the state, gates in the order i, g, f, o, the forget gate's bias raised.
    cell = [("Concat", ["x", "h"], ["xh"], {"axis": 1}), ("Gemm", ["xh", "w", "b"], ["z"], {}), ("Split", ["z", "two"], ["zi", "zg", "zf", "zo"], {"axis": 1}),
            ("Add", ["zf", "one"], ["zf1"], {}), ("Sigmoid", ["zf1"], ["f"], {}), ("Sigmoid", ["zi"], ["i_"], {}), ("Tanh", ["zg"], ["g"], {}), ("Sigmoid", ["zo"], ["o"], {}),
            ("Mul", ["g", "i_"], ["n"], {}), ("Mul", ["c", "f"], ["k"], {}), ("Add", ["n", "k"], ["c_next"], {}), ("Tanh", ["c_next"], ["ct"], {}), ("Mul", ["ct", "o"], ["h_next"], {})]
    loop("loop_basic_lstm", cell, [("h", 4), ("c", 4)], {**w, "one": np.float32(1.0)}, f(5, 2, 3))
    # One function over all gates before they are split.
    joined = [("MatMul", ["x", "wx"], ["zx"], {}), ("MatMul", ["h", "wh"], ["zh"], {}), ("Add", ["zx", "zh"], ["z0"], {}), ("Add", ["z0", "b"], ["z"], {}),
              ("Slice", ["z", "s0", "s12", "ax"], ["za"], {}), ("Slice", ["z", "s12", "s16", "ax"], ["zb"], {}), ("Sigmoid", ["za"], ["a"], {}), ("Tanh", ["zb"], ["g"], {}),
              ("Slice", ["a", "s0", "s4", "ax"], ["i_"], {}), ("Slice", ["a", "s4", "s8", "ax"], ["f"], {}), ("Slice", ["a", "s8", "s12", "ax"], ["o"], {}),
              ("Mul", ["f", "c"], ["k"], {}), ("Mul", ["i_", "g"], ["n"], {}), ("Add", ["k", "n"], ["c_next"], {}), ("Tanh", ["c_next"], ["ct"], {}), ("Mul", ["o", "ct"], ["h_next"], {})]
    slices = {f"s{n}": ints(n) for n in (0, 4, 8, 12, 16)}
    loop("loop_joined_lstm", joined, [("h", 4), ("c", 4)], {"wx": f(3, 16), "wh": f(4, 16), "b": f(16), "ax": ints(1), **slices}, f(5, 2, 3))
    # A forget gate that is what the input gate leaves.
    coupled = [("MatMul", ["x", "wi"], ["zi0"], {}), ("MatMul", ["h", "ui"], ["zi1"], {}), ("Add", ["zi0", "zi1"], ["zi"], {}), ("Sigmoid", ["zi"], ["i_"], {}), ("Sub", ["one", "i_"], ["f"], {}),
               ("MatMul", ["x", "wg"], ["zg"], {}), ("Tanh", ["zg"], ["g"], {}), ("MatMul", ["h", "uo"], ["zo0"], {}), ("Add", ["zo0", "bo"], ["zo"], {}), ("Sigmoid", ["zo"], ["o"], {}),
               ("Mul", ["f", "c"], ["k"], {}), ("Mul", ["i_", "g"], ["n"], {}), ("Add", ["k", "n"], ["c_next"], {}), ("Tanh", ["c_next"], ["ct"], {}), ("Mul", ["o", "ct"], ["h_next"], {})]
    loop("loop_coupled_lstm", coupled, [("h", 4), ("c", 4)], {"wi": f(3, 4), "ui": f(4, 4), "wg": f(3, 4), "uo": f(4, 4), "bo": f(4), "one": np.float32(1.0)}, f(5, 2, 3))
    # n + z (h - n), the reset gate on the state.
    gru = [("Gemm", ["x", "wr", "br"], ["r0"], {"transB": 1}), ("Gemm", ["h", "ur", "r0"], ["r1"], {}), ("Sigmoid", ["r1"], ["r"], {}), ("MatMul", ["x", "wz"], ["z0"], {}), ("MatMul", ["h", "uz"], ["z1"], {}),
           ("Sum", ["z0", "z1"], ["z2"], {}), ("Sigmoid", ["z2"], ["z"], {}), ("Mul", ["r", "h"], ["rh"], {}), ("MatMul", ["rh", "un"], ["n0"], {}), ("MatMul", ["x", "wn"], ["n1"], {}), ("Add", ["n0", "n1"], ["n2"], {}),
           ("Tanh", ["n2"], ["n"], {}), ("Sub", ["h", "n"], ["d"], {}), ("Mul", ["z", "d"], ["zd"], {}), ("Add", ["n", "zd"], ["h_next"], {})]
    weights = {k: f(3, 4) for k in ("wz", "wn")} | {k: f(4, 4) for k in ("ur", "uz", "un")} | {"wr": f(4, 3), "br": f(4)}
    loop("loop_gru_difference", gru, [("h", 4)], weights, f(5, 2, 3))
    # The gate keeps the new state instead of the old one, as Cho et al. have it.
    turned = gru[:-3] + [("Sub", ["one", "z"], ["keep"], {}), ("Mul", ["keep", "h"], ["kh"], {}), ("Mul", ["z", "n"], ["zn"], {}), ("Add", ["kh", "zn"], ["h_next"], {})]
    loop("loop_gru_turned", turned, [("h", 4)], {**weights, "one": np.float32(1.0)}, f(5, 2, 3))
    relu = [("MatMul", ["x", "w"], ["a"], {}), ("MatMul", ["h", "u"], ["b_"], {}), ("Add", ["a", "b_"], ["z0"], {}), ("Add", ["z0", "b"], ["z"], {}), ("Relu", ["z"], ["h_next"], {})]
    loop("loop_relu_rnn", relu, [("h", 4)], {"w": f(3, 4), "u": f(4, 4), "b": f(4)}, f(5, 2, 3))

    def scan(name, reverse):
        body = graph([*relu, ("Identity", ["h_next"], ["y"], {})], [info("h", [2, 4]), info("x", [2, 3])], [info("h_next", [2, 4]), info("y", [2, 4])], {"w": f(3, 4), "u": f(4, 4), "b": f(4)})
        turned = {"scan_input_directions": [1], "scan_output_directions": [1]} if reverse else {}
        model(name, [("Scan", ["start", "input"], ["end", "output"], {"body": body, "num_scan_inputs": 1, **turned})], [info("input", [5, 2, 3])], [info("output", None)], {"start": f(1, 4).repeat(2, 0)}, f(5, 2, 3))

    scan("scan_rnn", False)
    scan("scan_rnn_reverse", True)
    lstm = {"W": f(1, 16, 3), "R": f(1, 16, 4), "B": f(1, 32), "a1": ints(1), "last": np.int64(-1)}
    start = [("Transpose", ["input"], ["xt"], {"perm": [1, 0, 2]}), ("LSTM", ["xt", "W", "R", "B"], ["Y", "Yh"], {"hidden_size": 4}), ("Gather", ["Yh", "last"], ["h"], {"axis": 0})]
    branch = lambda op, i: graph([(op, i, [op.lower()], {})], [], [info(op.lower(), None)], {})
    model("if_squeeze", [*start, ("Gemm", ["h", "fw"], ["g"], {"transB": 1}), ("Shape", ["g"], ["s"], {}), ("Gather", ["s", "one"], ["n"], {}), ("Equal", ["n", "one"], ["q"], {}),
                         ("If", ["q"], ["output"], {"then_branch": branch("Squeeze", ["g", "a1"]), "else_branch": branch("Identity", ["g"])})],
          [info("input", ["B", 6, 3])], [info("output", None)], {**lstm, "fw": f(1, 4), "one": np.int64(1)}, f(2, 6, 3))
    quantized = lambda x: np.clip(np.round(x / 0.01), -127, 127).astype(np.int8)
    model("dequantized_lstm", [("DequantizeLinear", ["Wq", "s", "z"], ["W"], {}), ("DequantizeLinear", ["Rq", "rows", "zeros"], ["R"], {"axis": 1}), *start[1:2], ("Squeeze", ["Y", "a1"], ["output"], {})],
          [info("xt", ["T", "B", 3])], [info("output", None)],
          {"Wq": quantized(lstm["W"]), "Rq": quantized(lstm["R"]), "s": np.float32(0.01), "z": np.int8(3), "rows": np.linspace(0.005, 0.02, 16, dtype=np.float32), "zeros": np.arange(16).astype(np.int8), "B": lstm["B"], "a1": ints(1)},
          f(5, 2, 3))
    # ONNX Runtime rounds numbers to 8 bits on the way; the expected ones are those of its weights as floats.
    w8, r8, m8 = quantized(lstm["W"]), quantized(lstm["R"]), quantized(f(4, 2))
    floats = {"W": w8 * np.float32(0.01), "R": r8 * np.float32(0.01), "B": lstm["B"], "a1": ints(1), "m": m8 * np.float32(0.01), "b": f(2)}
    plain = graph([*start[1:2], ("Squeeze", ["Y", "a1"], ["s"], {}), ("MatMul", ["s", "m"], ["p"], {}), ("Add", ["p", "b"], ["output"], {})],
                  [info("xt", ["T", "B", 3])], [info("output", None)], floats)
    import onnxruntime

    x = f(5, 2, 3)
    bytes_of = h.make_model(plain, opset_imports=[h.make_opsetid("", 17)], ir_version=8).SerializeToString()
    expected = onnxruntime.InferenceSession(bytes_of).run(None, {"xt": x})
    model("dynamic_quantize_lstm",
          [("DynamicQuantizeLSTM", ["xt", "Wq", "Rq", "B", "", "", "", "", "ws", "wz", "rs", "rz"], ["Y"], {"hidden_size": 4, "domain": "com.microsoft"}), ("Squeeze", ["Y", "a1"], ["s"], {}),
           ("DynamicQuantizeLinear", ["s"], ["q", "qs", "qz"], {}), ("MatMulInteger", ["q", "mq", "qz", "mz"], ["i"], {}), ("Cast", ["i"], ["if"], {"to": T.FLOAT}),
           ("Mul", ["qs", "ms"], ["both"], {}), ("Mul", ["if", "both"], ["p"], {}), ("Add", ["p", "b"], ["output"], {})],
          [info("xt", ["T", "B", 3])], [info("output", None)],
          {"Wq": w8.transpose(0, 2, 1).copy(), "Rq": r8.transpose(0, 2, 1).copy(), "B": lstm["B"], "ws": np.full(1, 0.01, np.float32), "wz": np.zeros(1, np.int8), "rs": np.full(1, 0.01, np.float32),
           "rz": np.zeros(1, np.int8), "a1": ints(1), "mq": m8, "mz": np.int8(0), "ms": np.float32(0.01), "b": floats["b"]}, x, domains=["com.microsoft"], expected=expected, tolerance=0.1)
    model("opset_6", [("LSTM", ["input", "W", "R", "B"], ["Y"], {"hidden_size": 4}), ("Squeeze", ["Y"], ["output"], {"axes": [1]})], [info("input", [6, 2, 3])], [info("output", [6, 2, 4])],
          {k: lstm[k] for k in "WRB"}, f(6, 2, 3), opset=7, older=6)
    model("open_features", [("MatMul", ["input", "w"], ["d"], {}), ("Transpose", ["d"], ["xt"], {"perm": [1, 0, 2]}), *start[1:2], ("Squeeze", ["Y", "a1"], ["output"], {})], [info("input", ["B", "T", "N"])], [info("output", None)],
          {**lstm, "w": f(5, 3)}, f(2, 6, 5))
    directions = {"W": f(2, 16, 3), "R": f(2, 16, 4), "B": f(2, 32), "z": ints(0), "one": ints(1), "two": ints(2), "m1": ints(-1), "big": ints(2**31 - 1), "fw": f(8, 2)}
    model("sliced_directions", [("Transpose", ["input"], ["xt"], {"perm": [1, 0, 2]}), ("LSTM", ["xt", "W", "R", "B"], ["Y"], {"hidden_size": 4, "direction": "bidirectional"}),
                                ("Slice", ["Y", "one", "two", "one"], ["yb"], {}), ("Squeeze", ["yb", "one"], ["ybs"], {}), ("Slice", ["ybs", "z", "one", "z"], ["b0"], {}), ("Squeeze", ["b0", "z"], ["b"], {}),
                                ("Slice", ["Y", "z", "one", "one"], ["yf"], {}), ("Squeeze", ["yf", "one"], ["yfs"], {}), ("Slice", ["yfs", "m1", "big", "z"], ["f0"], {}), ("Squeeze", ["f0", "z"], ["f"], {}),
                                ("Concat", ["f", "b"], ["c"], {"axis": 1}), ("MatMul", ["c", "fw"], ["output"], {})], [info("input", ["B", 6, 3])], [info("output", None)], directions, f(2, 6, 3))
    classes = {"W": f(1, 16, 3), "R": f(1, 16, 4), "B": f(1, 32), "a1": ints(1), "m": f(4, 5), "b": f(5)}
    each = [("LSTM", ["input", "W", "R", "B"], ["Y", "Yh"], {"hidden_size": 4}), ("Squeeze", ["Y", "a1"], ["s"], {}), ("MatMul", ["s", "m"], ["p"], {}), ("Add", ["p", "b"], ["scores"], {})]
    model("arg_max", [*each, ("ArgMax", ["scores"], ["class"], {"axis": -1})], [info("input", ["T", "B", 3])], [info("scores", None), info("class", None, T.INT64)], classes, f(7, 3, 3))
    model("arg_max_of_rows", [each[0], ("Squeeze", ["Yh", "z"], ["h"], {}), ("Gemm", ["h", "m", "b"], ["scores"], {}), ("ArgMax", ["scores"], ["c"], {"axis": 1, "keepdims": 0}), ("Cast", ["c"], ["output"], {"to": T.INT32})],
          [info("input", ["T", "B", 3])], [info("output", None, T.INT32)], {**classes, "z": ints(0)}, f(7, 96, 3))
    model("arg_max_as_number", [*each, ("Abs", ["scores"], ["large"], {}), ("ArgMax", ["large"], ["c"], {"axis": 2}), ("Cast", ["c"], ["cf"], {"to": T.FLOAT}), ("Div", ["cf", "four"], ["d"], {}), ("Add", ["scores", "d"], ["output"], {})],
          [info("input", ["T", "B", 3])], [info("output", None)], {**classes, "four": np.float32(4)}, f(7, 3, 3))


if __name__ == "__main__":
    what, out = sys.argv[1], Path(sys.argv[2])
    out.mkdir(exist_ok=True)
    if what == "zip":
        bundle(out, Path(__file__).with_name("onnx_files.zip"))
    else:
        {"torch": export_torch, "keras": export_keras, "hand": hand_made}[what](out)
