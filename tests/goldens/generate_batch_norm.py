"""Five steps of a GRU, a batch normalization in training mode and a dense layer, by PyTorch and by Keras (on PyTorch), in
f64: `batch_norm.st`.

NAME.start and NAME.path hold all tensors in gatefold's order, the statistics included, before the first step (f32 `[P]`) and
after each step (f64 `[S, P]`); NAME.input `[S, T, B, I]`, NAME.target `[S, T, B, N]`, the metadata lengths `[S, B]`: what each step
reads. The loss is the squared error of the steps within the lengths; the optimizer SGD with a rate of 0.2.

    python generate_batch_norm.py
"""

import json
import os

os.environ["KERAS_BACKEND"] = "torch"

import keras
import numpy as np
import torch
from safetensors.numpy import save_file
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

from generate_gradients import keras_in_f64, keras_tensors
from golden import HERE, Tensors, generator, uniform

STEPS, TIME, BATCH, INPUTS, HIDDEN, OUTPUTS, RATE = 5, 4, 3, 2, 4, 2, 0.2
F64 = torch.float64


def draw(name: str) -> tuple[np.random.Generator, Tensors]:
    rng = generator(name)
    lengths = rng.integers(1, TIME + 1, (STEPS, BATCH))
    lengths[:, 0] = TIME
    inputs = uniform(rng, (STEPS, TIME, BATCH, INPUTS), 2.0)
    return rng, {"input": inputs, "target": uniform(rng, (STEPS, TIME, BATCH, OUTPUTS), 1.0), "lengths": lengths.astype("<i4")}


def flat(tensors: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.asarray(tensor, np.float64).reshape(-1) for tensor in tensors])


def pytorch(name: str) -> Tensors:
    rng, given = draw(name)
    gru, norm, dense = nn.GRU(INPUTS, HIDDEN).to(F64), nn.BatchNorm1d(HIDDEN).to(F64), nn.Linear(HIDDEN, OUTPUTS).to(F64)
    parts = [gru, norm, dense]
    with torch.no_grad():
        for part in parts:
            for tensor in part.parameters():
                tensor.copy_(torch.from_numpy(uniform(rng, tuple(tensor.shape), 0.8)))
    trained = [tensor for part in parts for tensor in part.parameters()]
    optimizer = torch.optim.SGD(trained, lr=RATE)

    def everything() -> np.ndarray:
        statistics = [norm.running_mean, norm.running_var]
        tensors = [*gru.parameters(), *norm.parameters(), *statistics, *dense.parameters()]
        return flat([tensor.detach().numpy() for tensor in tensors])

    start, path = everything(), []
    for step in range(STEPS):
        x, target = (torch.from_numpy(given[key][step]).to(F64) for key in ("input", "target"))
        packed = lambda t: pack_padded_sequence(t, torch.from_numpy(given["lengths"][step]), enforce_sorted=False)
        output = dense(norm(gru(packed(x))[0].data))
        optimizer.zero_grad()
        nn.functional.mse_loss(output, packed(target).data).backward()
        optimizer.step()
        path.append(everything())
    return {**given, "start": start.astype("<f4"), "path": np.stack(path)}


def with_keras(name: str) -> Tensors:
    rng, given = draw(name)
    k = keras.layers
    gru, norm, dense = k.GRU(HIDDEN, return_sequences=True), k.BatchNormalization(), k.Dense(OUTPUTS)
    parts = [gru, norm, dense]
    for part, width in zip(parts, (INPUTS, HIDDEN, HIDDEN)):
        part.build((BATCH, TIME, width))
        for variable in part.trainable_variables:
            variable.assign(uniform(rng, tuple(variable.shape), 0.8))
    optimizer = keras.optimizers.SGD(RATE)
    trained = [variable for part in parts for variable in part.trainable_variables]
    optimizer.build(trained)

    def everything() -> np.ndarray:
        numbers = lambda part: [v.value.detach().numpy() for v in part.weights]
        # Keras keeps gamma, beta, mean, variance.
        return flat([*keras_tensors(gru, numbers(gru)), *numbers(norm), *keras_tensors(dense, numbers(dense))])

    start, path = everything(), []
    for step in range(STEPS):
        x, target = (torch.from_numpy(given[key][step]).to(F64).transpose(0, 1) for key in ("input", "target"))
        mask = torch.arange(TIME)[None] < torch.from_numpy(given["lengths"][step])[:, None]
        output = dense(norm(gru(x, mask=mask, training=True), mask=mask, training=True))
        for variable in trained:
            variable.value.grad = None
        ((output - target) ** 2)[mask].mean().backward()
        with torch.no_grad():
            optimizer.apply([variable.value.grad for variable in trained], trained)
        path.append(everything())
    return {**given, "start": start.astype("<f4"), "path": np.stack(path)}


if __name__ == "__main__":
    torch.set_num_threads(1)
    keras_in_f64()
    arrays, lengths = {}, {}
    for name, run in (("pytorch", pytorch), ("keras", with_keras)):
        found = run(name)
        lengths[name] = json.dumps(found.pop("lengths").reshape(-1).tolist())
        arrays |= {f"{name}.{key}": np.ascontiguousarray(array) for key, array in found.items()}
    save_file(arrays, HERE / "batch_norm.st", metadata=lengths)
