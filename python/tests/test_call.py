"""Calls with NumPy arrays of every kind, against an LSTM of NumPy in f64."""

import numpy as np
import pytest
from support import close, device, lstm, numbers, reference, small

import gatefold_rnn as gf

X = numbers(20, 4, 3)


def test_an_lstm_agrees_with_numpy():
    net = small()
    expected, h, c = reference(net, X)
    y, state = net.run(X)
    assert y.dtype == np.float32 and close(y, expected, 20) and close(net(X), expected, 20)
    parts = state.numpy()["lstm"]
    assert close(parts["h"][0], h, 20) and close(parts["c"][0], c, 20)
    # The control: another weight is another answer.
    tensors = net.tensors()
    tensors["lstm.weight_hh_l0"][0, 0] += 1e-3
    assert not close(gf.network(net.layers, tensors=tensors)(X), expected, 20)


@pytest.mark.parametrize("dtype", ["float64", "float16", ">f4", "int32", "int64", "uint8", "bool"])
def test_other_dtypes_are_converted(dtype):
    net = small()
    x = (X * 3).astype(dtype)
    assert np.array_equal(net(x), net(x.astype(np.float32)))


def strided(x):
    wide = np.zeros((x.shape[0], x.shape[1], 2 * x.shape[2]), x.dtype)
    wide[..., ::2] = x
    return wide[..., ::2]


def read_only(x):
    x = x.copy()
    x.flags.writeable = False
    return x


def unaligned(x):
    raw = np.zeros(x.nbytes + 1, np.uint8)
    raw[1:] = np.frombuffer(x.tobytes(), np.uint8)
    return np.frombuffer(raw.data, x.dtype, x.size, offset=1).reshape(x.shape)


@pytest.mark.parametrize(
    "layout", [strided, read_only, unaligned, np.asfortranarray, lambda x: x[::-1][::-1], np.ndarray.tolist]
)
def test_any_layout_of_memory_gives_the_same(layout):
    net = small()
    assert np.array_equal(net(layout(X)), net(X))


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint32, np.uint8, list])
def test_token_ids_of_any_integer(dtype):
    net = gf.network([{"type": "embedding", "name": "e", "num_embeddings": 9, "embedding_dim": 3}, lstm()], device=device())
    ids = np.array([[1, 8, 3], [0, 2, 2]])
    given = ids.tolist() if dtype is list else ids.astype(dtype)
    embedded = net.tensors()["e.weight"][ids]
    alone = gf.network([lstm()], tensors={k: v for k, v in net.tensors().items() if k != "e.weight"}, device=device())
    assert close(net(given), alone(embedded), 2)


def test_pieces_are_the_whole():
    net = small()
    whole, end = net.run(X)
    first, state = net.run(X[:7])
    second, state = net.run(X[7:], state)
    assert np.array_equal(np.concatenate([first, second]), whole) and state == end
    # Arrays in place of a state, in any order of the parts.
    parts = net.run(X[:7])[1].numpy()["lstm"]
    assert np.array_equal(net.run(X[7:], {"lstm": {"c": parts["c"], "h": parts["h"].astype(np.float64)}})[0], second)
    assert np.array_equal(net.run(X[7:], gf.State({"lstm": parts}))[0], second)
    assert not np.array_equal(net.run(X[7:], net.initial_state(4))[0], second), "the control"


def test_lengths_and_masks():
    net = small()
    lengths = np.array([20, 3, 1, 9])
    y, state = net.run(X, lengths=lengths)
    for row, length in enumerate(lengths):
        alone, end = net.run(X[:length, row : row + 1])
        assert close(y[:length, row], alone[:, 0], 20) and not y[length:, row].any()
        assert close(state.numpy()["lstm"]["c"][:, row], end.numpy()["lstm"]["c"][:, 0], 20)
    mask = np.arange(20)[:, None] < lengths
    assert np.array_equal(net(X, mask=mask), y)
    assert not np.array_equal(net(X), y), "the control"


def test_several_inputs_and_outputs():
    layers = [
        {"type": "input", "name": "series", "input_size": 3},
        lstm(output="last"),
        {"type": "output", "name": "seen"},
        {"type": "input", "name": "fixed", "kind": "row", "input_size": 2},
        {"type": "join", "name": "both", "inputs": ["lstm", "fixed"], "join": "concat"},
        {"type": "dense", "name": "head", "in_features": 7, "out_features": 1},
    ]
    net = gf.network(layers, device=device())
    given = {"fixed": np.ones((4, 2)), "series": X}
    answer = net(given)
    assert list(answer) == net.outputs == ["head", "seen"]
    assert answer["head"].shape == (4, 1) and answer["seen"].shape == (4, 5)
    assert [(one["name"], one["kind"], one["axes"]) for one in net.inputs] == [
        ("series", "sequence", "[T, B, N]"),
        ("fixed", "row", "[B, N]"),
    ]
    short = net(given, lengths={"series": [20, 3, 1, 9]})
    assert np.array_equal(short["seen"][0], answer["seen"][0]) and not np.array_equal(short["seen"][1], answer["seen"][1])
    for wrong, words in [
        ({"series": X}, "none of the name fixed"),
        ({**given, "other": X}, "got other"),
        ({"series": X, 3: X}, "expected names, got int"),
    ]:
        with pytest.raises((ValueError, TypeError), match=words):
            net(wrong)
    with pytest.raises(TypeError, match="a dict of series, fixed, got ndarray"):
        net(X)


def test_other_devices_threads_and_weights():
    net = small()
    one, two = net.on("cpu", threads=1), net.on("cpu", threads=2)
    large = numbers(50, 64, 3)
    assert np.array_equal(one(large), two(large)), "threads change no bit"
    for weights, error in [("f16", 1e-3), ("int8", 1e-2)]:
        rounded = net.on(weights=weights)
        difference = np.abs(rounded(X) - net(X)).max()
        assert 0 < difference < error, weights
        assert np.array_equal(gf.load(rounded.to_bytes(), device=device())(X), rounded(X))
    with pytest.raises(ValueError, match="weight format: expected f32, f16, int8, got"):
        net.on(weights="int3")
    assert gf.devices()[0]["backend"] == "cpu"


def test_verify_passes_and_can_fail():
    found = gf.verify(small())
    assert found and found.checks[0]["max_error"] < 1e-6 and "PASS  lstm" in str(found)
    wrong = gf.Verification(found.device, [{**check, "passed": False} for check in found.checks])
    assert not wrong and "FAIL" in str(wrong)


WRONG = [
    (lambda net: net("text"), TypeError, "input: expected numbers, got str"),
    (lambda net: net(None), TypeError, "input: expected numbers, got NoneType"),
    (lambda net: net([["a"]]), TypeError, "input: expected numbers, got an array of <U1"),
    (lambda net: net(X.astype(complex)), TypeError, "input: expected numbers, got an array of complex128"),
    (lambda net: net(np.array([object()])), TypeError, "input: expected numbers, got an array of object"),
    (lambda net: net(X[0]), ValueError, r"input: expected numbers \[T, B, 3\], got \[4, 3\]"),
    (lambda net: net(X[..., :2]), ValueError, "3"),
    (lambda net: net(X[:0]), ValueError, None),
    (lambda net: net(X, lengths=[1, 2]), ValueError, "lengths"),
    (lambda net: net(X, lengths=[1, 2, 3, 21]), ValueError, "lengths: expected 0 to T = 20, got 21 in row 3"),
    (lambda net: net(X, lengths=[1, 2, 3, -1]), ValueError, "lengths: expected integers from 0, got -1"),
    (lambda net: net(X, lengths=[[1, 2, 3, 4]]), ValueError, "lengths: expected one dimension"),
    (lambda net: net(X, lengths=1.5), TypeError, "lengths: expected integers, got an array of float64"),
    (lambda net: net(X, mask=np.ones((4, 20), bool)), ValueError, r"mask: expected \[20, 4\], got \[4, 20\]"),
    (lambda net: net(X, mask=np.ones((20, 4))), TypeError, "mask: expected booleans, got an array of float64"),
    (lambda net: net(X, file_order=True), ValueError, "x: expected a network of a file that states its axes"),
    (lambda net: net.run(X, 3), TypeError, "state: expected a State or a dict"),
    (lambda net: net.run(X, {"other": {}}), ValueError, r'state: expected layers of \["lstm"\], got `other`'),
    (lambda net: net.run(X, {"lstm": {"x": X}}), ValueError, "got `x`"),
    (lambda net: net.run(X, net.initial_state(3)), ValueError, r"\[1, 4, 5\]"),
    (lambda net: net.run(X, {"lstm": {"h": np.zeros(4)}}), ValueError, "lstm"),
    (lambda net: net.run(X, small(hidden=6).initial_state(4)), ValueError, "state: expected one of network"),
    (lambda net: net.initial_state(1 << 60), ValueError, "limit"),
    (lambda net: net.initial_state(-1), OverflowError, None),
    (lambda net: net.on("nothing"), ValueError, "no adapter for `nothing`"),
    (lambda net: net.on("cpu", threads=0), ValueError, "threads: expected at least 1, got 0"),
    (lambda net: gf.network([{"type": "lstm"}]), ValueError, "layers: missing field `name`"),
    (lambda net: gf.network([lstm(hiden=3)]), ValueError, "layers: unknown field `hiden`"),
    (lambda net: gf.network([]), ValueError, None),
    (lambda net: gf.network([lstm(hidden=1 << 40)]), ValueError, None),
    (lambda net: gf.network([lstm()], tensors={}), ValueError, "tensor `lstm.weight_ih_l0` .* is missing"),
    (lambda net: gf.network([lstm()], tensors={"lstm.weight_ih_l0": "x"}), TypeError, "expected numbers, got str"),
    (lambda net: gf.network([lstm()], init="none"), ValueError, "init: expected pytorch, keras, got none"),
    (lambda net: net.encode(["text"]), ValueError, "network: expected one with a vocabulary"),
]


@pytest.mark.parametrize("number", range(len(WRONG)))
def test_wrong_arguments_are_named(number):
    call, kind, words = WRONG[number]
    with pytest.raises(kind, match=words):
        call(small())


def test_nan_goes_through_as_in_the_engine():
    x = X.copy()
    x[3, 1] = np.nan
    y = small()(x)
    assert np.isnan(y[3:, 1]).all() and np.isfinite(y[:, 0]).all()
