"""What only a GPU, or a driver that computes on the CPU, can do wrong: another device's numbers, states, training, processes."""

import multiprocessing
import os

import numpy as np
import pytest
from support import close, device, lstm, numbers, small

import gatefold_rnn as gf

pytestmark = pytest.mark.skipif(device() == "cpu", reason="NOT RUN: GATEFOLD_TEST_DEVICE names no GPU driver")


def test_the_device_is_not_the_cpu_and_agrees_with_it():
    net = small()
    cpu = net.on("cpu")
    assert net.device != cpu.device == "CPU"
    x = numbers(20, 4, 3)
    y, state = net.run(x)
    right, end = cpu.run(x)
    assert close(y, right, 20) and gf.verify(net)
    # A state goes from one device to the other.
    more = numbers(5, 4, 3, seed=1)
    assert close(cpu.run(more, state)[0], net.run(more, end)[0], 25)
    with pytest.raises(ValueError, match="threads: expected the device `cpu` or `auto`"):
        net.on(threads=2)


def test_training_agrees_with_the_cpu():
    x, y = numbers(16, 5, 3), numbers(16, 1, seed=1)
    net = gf.network([lstm(output="last"), {"type": "dense", "name": "d", "in_features": 5, "out_features": 1}], seed=1)
    found = []
    for where in (device(), "cpu"):
        learner = gf.Trainer(net, "mse", learning_rate=0.01, device=where, seed=1)
        learner.fit(x, y, epochs=3, batch_size=4, progress=False)
        found.append(learner.predict(x))
    assert close(found[0], found[1], 64 * 25), np.abs(found[0] - found[1]).max()
    assert not close(gf.Trainer(net, "mse").predict(x), found[1], 64 * 25), "the control"


FORKED: list = []


def in_a_child(_: int) -> str:
    try:
        FORKED[0](numbers(3, 1, 3))
    except RuntimeError as error:
        return str(error)
    return "ran"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_is_told_to_open_its_own_device():
    FORKED[:] = [small()]
    with multiprocessing.get_context("fork").Pool(1) as workers:
        assert "the device was lost" in workers.map_async(in_a_child, [0]).get(timeout=60)[0]
    FORKED.clear()
