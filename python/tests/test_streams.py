"""Streams whose states stay on the device."""

import pickle

import numpy as np
import pytest
from support import device, lstm, numbers, small

import gatefold_rnn as gf

X = numbers(12, 3)


def test_a_stream_cut_anywhere_is_the_whole():
    net = small()
    pool = gf.Streams(net)
    whole = net(X[:, None])[:, 0]
    for cut in (1, 5, 11):
        a, b = pool.open(), pool.open()
        first = pool.advance({a: X[:cut], b: X})
        second = pool.advance({a: X[cut:].astype(np.float64)})[a]
        assert np.array_equal(np.concatenate([first[a], second]), whole) and np.array_equal(first[b], whole)
    assert len(pool) == 6
    assert pool.advance({}) == {}


def test_forks_snapshots_and_rewinds():
    net = small()
    pool = gf.Streams(net, keep_last=2)
    a = pool.open()
    pool.advance({a: X[:4]})
    before = pool.snapshot(a)
    fork = pool.fork(a)
    rest = pool.advance({a: X[4:]})[a]
    assert pool.snapshot(a) != before == pool.snapshot(fork)
    assert np.array_equal(pool.advance({fork: X[4:]})[fork], rest)
    pool.rewind(a)
    assert pool.snapshot(a) == before
    # In another pool, as in another process.
    other = gf.Streams(pickle.loads(pickle.dumps(net)))
    b = other.open(pickle.loads(pickle.dumps(before)))
    assert np.array_equal(other.advance({b: X[4:]})[b], rest)
    other.restore(b, before)
    assert np.array_equal(other.advance({b: X[4:]})[b], rest)
    other.reset(b)
    assert not np.array_equal(other.advance({b: X[4:]})[b], rest), "the control"


def test_token_ids_and_outputs_of_the_last_step():
    embedding = {"type": "embedding", "name": "e", "num_embeddings": 9, "embedding_dim": 3}
    net = gf.network([embedding, lstm(output="last", batch_first=True)], device=device())
    pool = gf.Streams(net)
    a = pool.open()
    pool.advance({a: [1, 2]})
    assert np.array_equal(pool.advance({a: np.array([3])})[a], net([[1, 2, 3]])[0])


def test_errors_leave_every_stream_as_it_was():
    net = small()
    pool = gf.Streams(net)
    a, b = pool.open(), pool.open()
    pool.advance({a: X, b: X[:3]})
    states = [pool.snapshot(a), pool.snapshot(b)]
    gone = pool.open()
    pool.close(gone)
    foreign = gf.Streams(net).open()
    for chunks, kind, words in [
        ({a: X, gone: X}, ValueError, "stream"),
        ({a: X, foreign: X}, ValueError, "stream"),
        ({a: X, b: X[:, :2]}, ValueError, None),
        ({a: X, b: X[0]}, ValueError, r"chunk: expected numbers \[T, 3\], got \[3\]"),
        ({a: X, b: X[:0]}, ValueError, None),
        ({a: X, b: "text"}, TypeError, "chunk: expected numbers, got str"),
        ({a: X, "b": X}, TypeError, "a dict with streams as its keys"),
    ]:
        with pytest.raises(kind, match=words):
            pool.advance(chunks)
    for call in (pool.fork, pool.snapshot, pool.close, pool.reset):
        with pytest.raises(ValueError, match="stream"):
            call(gone)
    with pytest.raises(ValueError, match="keep_last"):
        pool.rewind(a)
    with pytest.raises(ValueError):
        pool.restore(a, net.initial_state(2))
    assert [pool.snapshot(a), pool.snapshot(b)] == states and len(pool) == 2
    with pytest.raises(ValueError, match="lstm"):
        gf.Streams(small(bidirectional=True))
    with pytest.raises(ValueError):
        pool.open(small(hidden=6).initial_state())
    assert len(pool) == 2, "a stream that did not open holds nothing"
