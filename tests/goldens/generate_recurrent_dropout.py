"""Gradients of Keras layers with `dropout` and `recurrent_dropout` (on PyTorch, in f64) with the masks that gatefold draws:
`recurrent_dropout.st`, written as `gradients.st` is.

    python generate_recurrent_dropout.py
"""

import json
import os

os.environ["KERAS_BACKEND"] = "torch"

import keras
import numpy as np
import torch
from safetensors.numpy import save_file

from generate_gradients import flat, keras_in_f64, keras_tensors
from generate_pytorch_grid import recurrent
from golden import HERE, generator, uniform

SEED, TIME, BATCH, INPUTS, HIDDEN = 0x0123456789ABCDEF, 4, 3, 5, 4
F64 = torch.float64
# Where gatefold's gates r, z, n stand in Keras' order z, r, h.
ORDER = {"lstm": [0, 1, 2, 3], "gru": [1, 0, 2], "rnn": [0]}


def random(seed: int, stream: int, step: int) -> int:
    """pcg4d, as `reference::random`."""
    m = 0xFFFFFFFF
    v = [(word * 1664525 + 1013904223) & m for word in (seed & m, seed >> 32, stream, step)]

    def mix():
        for to, a, b in ((0, 1, 3), (1, 2, 0), (2, 0, 1), (3, 1, 2)):
            v[to] = (v[to] + v[a] * v[b]) & m

    mix()
    v[:] = [word ^ (word >> 16) for word in v]
    mix()
    return v[0]


def masks(kind: str, rate: float, state_rate: float, direction: int, factor: int, width: int) -> list[torch.Tensor]:
    """One `[B, width]` for each gate in Keras' order."""
    gates, least = len(ORDER[kind]), int(rate * 2**32)
    scale = float(np.float32(1.0) / (np.float32(1.0) - np.float32(rate)))
    found = []
    for gate in range(gates):
        drawn = gate if state_rate > 0 else 0
        places = [[(row * gates + drawn) * width + k for k in range(width)] for row in range(BATCH)]
        site = 1 << 16 | direction << 1 | factor
        kept = [[scale if random(SEED, place, site) >= least else 0.0 for place in row] for row in places]
        found.append(torch.tensor(kept, dtype=F64))
    in_order = [found[0]] * gates
    for gate, place in enumerate(ORDER[kind]):
        in_order[place] = found[gate]
    return in_order


def case(name: str, kind: str, rate: float, state_rate: float, both: bool = False, **options) -> tuple[dict, list, list]:
    rng = generator(name)
    rate, state_rate = (float(np.float32(x)) for x in (rate, state_rate))
    kinds = {"lstm": keras.layers.LSTM, "gru": keras.layers.GRU, "rnn": keras.layers.SimpleRNN}
    part = kinds[kind](HIDDEN, return_sequences=True, dropout=rate, recurrent_dropout=state_rate, **options)
    part = keras.layers.Bidirectional(part) if both else part
    x = uniform(rng, (TIME, BATCH, INPUTS), 1.5)
    inputs = torch.from_numpy(x).to(F64).transpose(0, 1).contiguous().requires_grad_()
    part.build(tuple(inputs.shape))
    part.set_weights([uniform(rng, tuple(weight.shape), 0.5) for weight in part.weights])
    for direction, layer in enumerate([part.forward_layer, part.backward_layer] if both else [part]):
        shared = state_rate == 0 or kind == "rnn"
        of_input = masks(kind, rate, state_rate, direction, 0, INPUTS)
        of_state = masks(kind, state_rate, state_rate, direction, 1, HIDDEN)
        layer.cell._dropout_mask = of_input[0] if shared else of_input
        layer.cell._recurrent_dropout_mask = of_state[0] if kind == "rnn" else of_state
    output = part(inputs, training=True).transpose(0, 1)
    target = uniform(rng, tuple(output.shape), 1.0)
    value = ((output - torch.from_numpy(target).to(F64)) ** 2).mean()
    value.backward()
    layer = recurrent(kind, "layer", INPUTS, HIDDEN, bidirectional=both, **options)
    about = {"layer": layer, "input_rate": rate, "state_rate": state_rate, "shape": [TIME, BATCH, INPUTS], "seed": str(SEED)}
    about["value"] = value.item()
    numbers = keras_tensors(part, [v.value.detach().numpy() for v in part.weights])
    gradients = keras_tensors(part, [v.value.grad.numpy() for v in part.weights], True)
    return about, [*numbers, x, target], [*gradients, inputs.grad.transpose(0, 1).numpy()]


def main() -> None:
    keras_in_f64()
    arrays, metadata = {}, {}
    cases = {
        "lstm": ("lstm", 0.0, 0.4),
        "lstm_both": ("lstm", 0.3, 0.4),
        "lstm_input": ("lstm", 0.3, 0.0),
        "lstm_bidirectional": ("lstm", 0.3, 0.4, True),
        "gru": ("gru", 0.0, 0.4),
        "gru_both": ("gru", 0.3, 0.4),
        "gru_input": ("gru", 0.3, 0.0),
        "rnn": ("rnn", 0.3, 0.4),
    }
    runs = {name: case(name, *arguments) for name, arguments in cases.items()}
    runs["gru_reset_before"] = case("gru_reset_before", "gru", 0.3, 0.4, reset_after=False)
    for name, (about, given, gradients) in runs.items():
        metadata[name] = json.dumps(about, separators=(",", ":"))
        arrays |= {f"{name}.given": flat(given, "<f4"), f"{name}.gradients": flat(gradients, "<f8")}
    save_file(arrays, HERE / "recurrent_dropout.st", metadata=metadata)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
