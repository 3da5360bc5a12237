"""Golden cases computed by PyTorch in f64. See `golden.py` for how they are stored."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from golden import Tensors, dense, embedding, generator, lstm, softmax, store, uniform

ACTIVATIONS = {"linear": lambda x: x, "relu": torch.relu, "tanh": torch.tanh, "sigmoid": torch.sigmoid}


@dataclass(frozen=True)
class Case:
    name: str
    layers: list[dict]
    time: int
    batch: int
    initial_state: bool = False  # stored as h_0, c_0
    weight_scale: float = 1.0
    cell_scale: float = 1.0  # of c_0


ALL_OPTIONS = dict(num_layers=1, bidirectional=False, bias=True, batch_first=False, output="sequence")

CASES = [
    Case("lstm", [lstm("lstm", 5, 7)], 13, 3),
    Case("lstm_all_options_written", [lstm("lstm", 5, 7, **ALL_OPTIONS)], 13, 3),
    Case("lstm_two_layers", [lstm("rnn", 5, 7, num_layers=2)], 13, 3),
    Case("lstm_three_layers", [lstm("rnn", 3, 5, num_layers=3)], 9, 2),
    Case("lstm_bidirectional", [lstm("rnn", 5, 7, bidirectional=True)], 13, 3),
    Case("lstm_two_layers_bidirectional", [lstm("rnn", 5, 7, num_layers=2, bidirectional=True)], 11, 3),
    Case("lstm_initial_state", [lstm("lstm", 5, 7)], 13, 3, initial_state=True),
    Case(
        "lstm_initial_state_two_layers_bidirectional",
        [lstm("lstm", 5, 6, num_layers=2, bidirectional=True)],
        7,
        3,
        initial_state=True,
    ),
    Case("lstm_batch_first", [lstm("lstm", 5, 7, batch_first=True)], 13, 3),
    Case(
        "lstm_batch_first_two_layers_bidirectional",
        [lstm("lstm", 5, 7, num_layers=2, bidirectional=True, batch_first=True)],
        9,
        4,
        initial_state=True,
    ),
    Case("lstm_no_bias", [lstm("lstm", 5, 7, bias=False)], 13, 3),
    Case("lstm_last", [lstm("lstm", 5, 7, output="last")], 13, 3),
    Case("lstm_last_batch_first", [lstm("lstm", 5, 7, output="last", batch_first=True)], 13, 3),
    Case("lstm_last_bidirectional", [lstm("lstm", 5, 7, output="last", bidirectional=True)], 13, 3),
    Case(
        "lstm_last_two_layers_bidirectional",
        [lstm("lstm", 5, 7, output="last", num_layers=2, bidirectional=True)],
        11,
        3,
    ),
    Case("lstm_one_step", [lstm("lstm", 5, 7, bidirectional=True)], 1, 3, initial_state=True),
    Case("lstm_one_row", [lstm("lstm", 5, 7)], 13, 1),
    Case("lstm_size_one", [lstm("lstm", 1, 1)], 5, 1),
    Case("lstm_large", [lstm("lstm", 3, 67)], 37, 2),
    Case("lstm_saturated", [lstm("lstm", 5, 7)], 9, 3, initial_state=True, weight_scale=80.0, cell_scale=120.0),
    Case(
        "lstm_then_lstm",
        [lstm("encoder", 4, 5, bidirectional=True), lstm("decoder", 10, 7, output="last")],
        9,
        3,
    ),
    Case("lstm_dense_softmax_each_step", [lstm("lstm", 5, 7), dense("head", 7, 3), softmax()], 11, 3),
    Case(
        "lstm_dense_activations",
        [
            lstm("lstm", 3, 5, batch_first=True),
            dense("a", 5, 6, activation="relu"),
            dense("b", 6, 7, activation="tanh"),
            dense("c", 7, 4, activation="sigmoid", bias=False),
            dense("d", 4, 3, activation="linear"),
        ],
        7,
        3,
    ),
    Case(
        "tokens_to_classes",
        [
            embedding("embedding", 37, 6),
            lstm("lstm", 6, 7, num_layers=2, bidirectional=True, batch_first=True, output="last"),
            dense("hidden", 14, 9, activation="relu"),
            dense("classes", 9, 3),
            softmax(),
        ],
        12,
        4,
    ),
    Case("tokens_time_first", [embedding("embedding", 19, 5), lstm("lstm", 5, 7)], 9, 3),
]


def draw_weights(case: Case, rng: np.random.Generator) -> Tensors:
    """Uniform within 1/sqrt(size), as PyTorch starts out; embeddings within 1."""
    weights = {}
    for layer in case.layers:
        if layer["type"] == "softmax":
            continue
        bound = 1.0
        if layer["type"] != "embedding":
            fan = layer["hidden_size"] if layer["type"] == "lstm" else layer["in_features"]
            bound = case.weight_scale / fan**0.5
        for name, parameter in module(layer).named_parameters():
            weights[f"{layer['name']}.{name}"] = uniform(rng, tuple(parameter.shape), bound)
    return weights


def module(layer: dict) -> nn.Module:
    if layer["type"] == "embedding":
        return nn.Embedding(layer["num_embeddings"], layer["embedding_dim"])
    if layer["type"] == "lstm":
        options = {key: layer[key] for key in ("num_layers", "bidirectional", "bias", "batch_first") if key in layer}
        return nn.LSTM(layer["input_size"], layer["hidden_size"], **options)
    return nn.Linear(layer["in_features"], layer["out_features"], bias=layer.get("bias", True))


def draw_input(case: Case, rng: np.random.Generator) -> Tensors:
    recurrent = next(layer for layer in case.layers if layer["type"] == "lstm")
    shape = (case.batch, case.time) if recurrent.get("batch_first") else (case.time, case.batch)
    first = case.layers[0]
    if first["type"] == "embedding":
        given = {"input": rng.integers(0, first["num_embeddings"], shape)}
    else:
        given = {"input": uniform(rng, (*shape, first["input_size"]), 2.0)}
    if case.initial_state:
        states = recurrent.get("num_layers", 1) * (2 if recurrent.get("bidirectional") else 1)
        for name, bound in [("h_0", 1.0), ("c_0", case.cell_scale)]:
            given[name] = uniform(rng, (states, case.batch, recurrent["hidden_size"]), bound)
    return given


def run(case: Case, weights: Tensors, given: Tensors, dtype: torch.dtype) -> Tensors:
    """The network's output and every LSTM layer's last state."""
    results = {}
    x = torch.from_numpy(given["input"])
    x = x.to(dtype) if x.is_floating_point() else x
    for layer in case.layers:
        if layer["type"] == "softmax":
            x = torch.softmax(x, dim=-1)
            continue
        part = module(layer).to(dtype)
        prefix = f"{layer['name']}."
        part.load_state_dict(
            {name.removeprefix(prefix): torch.from_numpy(w) for name, w in weights.items() if name.startswith(prefix)}
        )
        if layer["type"] != "lstm":
            x = ACTIVATIONS[layer.get("activation", "linear")](part(x))
            continue
        state = tuple(torch.from_numpy(given[name]).to(dtype) for name in ("h_0", "c_0")) if "h_0" in given else None
        x, (h_n, c_n) = part(x, state)
        if layer.get("output") == "last":
            # h_n ends with the last layer's directions; the reverse one ends at the first timestep.
            x = torch.cat(list(h_n[-2:]), dim=-1) if layer.get("bidirectional") else h_n[-1]
        results[f"{layer['name']}.h_n"] = h_n.numpy()
        results[f"{layer['name']}.c_n"] = c_n.numpy()
    return {"output": x.numpy(), **results}


@torch.no_grad()
def main() -> None:
    for case in CASES:
        rng = generator(case.name)
        weights = draw_weights(case, rng)
        given = draw_input(case, rng)
        results = run(case, weights, given, torch.float64)
        store(case.name, case.layers, weights, {**given, **results})

        # What f32 arithmetic alone costs: a case where this is large would test nothing.
        single = run(case, weights, given, torch.float32)
        error = max(np.abs(single[name] - value).max() for name, value in results.items())
        print(f"{case.name:45} f32 error {error:.1e}")
        assert error < 1e-5


if __name__ == "__main__":
    main()
