"""Threads, forked and spawned processes."""

import multiprocessing
import os
import sys
import threading
import time

import numpy as np
import pytest
from support import SENTIMENT, numbers, small

import gatefold_rnn as gf

LARGE = numbers(50, 48, 64)


def network(threads: int = 2) -> gf.Network:
    """Large enough for several threads."""
    layer = {"type": "lstm", "name": "lstm", "input_size": 64, "hidden_size": 64}
    return gf.network([layer], seed=1, device="cpu", threads=threads)


def run(net: gf.Network) -> bytes:
    return net(LARGE).tobytes()


def streamed(pool_and_stream) -> bytes:
    pool, stream = pool_and_stream
    return pool.advance({stream: LARGE[:, 0]})[stream].tobytes()


# A forked child has what the parent had; nothing is pickled.
INHERITED: list = []


def inherited(_: int) -> bytes:
    return run(INHERITED[0]) + streamed(INHERITED[1])


def limited(call, seconds: float = 60):
    """The result of an asynchronous call; a child that hangs is an error."""
    return call.get(timeout=seconds)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.parametrize("warm", [True, False], ids=["after a threaded run", "before any run"])
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_forked_children_run(warm):
    net = network()
    pool = gf.Streams(net)
    stream = pool.open()
    if warm:
        run(net)
    INHERITED[:] = [net, (pool, stream)]
    with multiprocessing.get_context("fork").Pool(2) as workers:
        found = limited(workers.map_async(inherited, range(4)))
    expected = run(net)
    assert all(one[: len(expected)] == expected for one in found)
    INHERITED.clear()


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_other_processes_get_networks(method):
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"this system has no {method}")
    net = network()
    expected = run(net)
    with multiprocessing.get_context(method).Pool(2) as workers:
        assert limited(workers.map_async(run, [net] * 3), 120) == [expected] * 3
        labels = limited(workers.apply_async(gf.Classifier(SENTIMENT).predict, (["a warm film"],)))
    assert labels.tolist() == ["positive"]


def test_threads_share_a_network_and_a_pool():
    net = small(threads=1)
    pool = gf.Streams(net)
    x = numbers(40, 2, 3)
    expected, single = net(x), net(x[:, :1])[:, 0]
    failures = []

    def work() -> None:
        for _ in range(200):
            stream = pool.open()
            if not np.array_equal(net(x), expected):
                failures.append("net")
            if not np.array_equal(pool.advance({stream: x[:, 0]})[stream], single):
                failures.append("pool")
            pool.close(stream)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == [] and len(pool) == 0


def test_the_interpreter_goes_on_during_a_run():
    """The main thread counts while another one runs; with the lock held it would stand still until the end."""
    net = network(threads=1)
    x = numbers(2000, 48, 64)
    ended = []
    thread = threading.Thread(target=lambda: (net(x), ended.append(time.monotonic())))
    started = time.monotonic()
    thread.start()
    ticks = []
    while not ended:
        ticks.append(time.monotonic())
        time.sleep(0.001)
    thread.join()
    took = ended[0] - started
    inside = [tick for tick in ticks if tick < ended[0] - 0.2 * took]
    assert len(inside) > 10, (len(inside), took)


def test_importing_is_light():
    """No framework and no browser of devices comes with the import."""
    code = "import sys, gatefold_rnn; print([m for m in ('torch', 'keras', 'onnxruntime', 'matplotlib') if m in sys.modules])"
    import subprocess

    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert answer.stdout.strip() == "[]"
