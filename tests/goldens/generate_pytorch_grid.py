"""A grid of cases computed by PyTorch in f64, in one archive: `pytorch_grid.zip`.

Case NAME is `NAME.safetensors`, a network, and `NAME.golden.safetensors`, what goes in (`input`, `lengths`, and
`LAYER.h_0`, `LAYER.c_0`) and what comes out (`output`, `LAYER.h_n`, `LAYER.c_n`), as `golden.py` says. Some networks
stand there as PyTorch's `state_dict` leaves them, without gatefold's description. Weights stored in a shorter type
were rounded to it before anything was computed.
"""

import json
import zipfile
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.numpy import save
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from golden import HERE, Tensors, as_stored, dense, embedding, generator, lstm, softmax, uniform

RECURRENT = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}
CELLS = {"lstm": nn.LSTMCell, "gru": nn.GRUCell, "rnn": nn.RNNCell}
SIZES = ("input_size", "in_features", "in_channels", "num_features")
EXTREMES = [-100.0, -50.0, -20.0, -3.0, -1.0, -0.3, -1e-3, 0.0, 1e-3, 0.3, 1.0, 3.0, 20.0, 50.0, 100.0]

# As `Activation::ALL`.
ACTIVATIONS = [
    "linear",
    "relu",
    "tanh",
    "sigmoid",
    {"affine": {"alpha": 0.7, "beta": -0.2}},
    {"leaky_relu": {"alpha": 0.01}},
    {"thresholded_relu": {"alpha": 0.3}},
    {"scaled_tanh": {"alpha": 1.7159, "beta": 0.6667}},
    {"hard_sigmoid": {"alpha": 0.2, "beta": 0.5}},
    {"elu": {"alpha": 1.3}},
    "softsign",
    "softplus",
    "selu",
    "gelu",
    "gelu_tanh",
    "silu",
    "mish",
    {"clip": {"alpha": 0.0, "beta": 6.0}},
    "exp",
    "square",
    "sqrt",
    "abs",
]


def activate(x: torch.Tensor, activation: str | dict) -> torch.Tensor:
    name, options = (activation, {}) if isinstance(activation, str) else next(iter(activation.items()))
    alpha, beta = (float(np.float32(options.get(key, 0.0))) for key in ("alpha", "beta"))
    return {
        "linear": lambda: x,
        "relu": lambda: F.relu(x),
        "tanh": lambda: torch.tanh(x),
        "sigmoid": lambda: torch.sigmoid(x),
        "affine": lambda: alpha * x + beta,
        "leaky_relu": lambda: F.leaky_relu(x, alpha),
        "thresholded_relu": lambda: F.threshold(x, alpha, 0.0),
        "scaled_tanh": lambda: alpha * torch.tanh(beta * x),
        "hard_sigmoid": lambda: torch.clamp(alpha * x + beta, 0.0, 1.0),
        "elu": lambda: F.elu(x, alpha),
        "softsign": lambda: F.softsign(x),
        "softplus": lambda: torch.logaddexp(x, torch.zeros_like(x)),
        "selu": lambda: F.selu(x),
        "gelu": lambda: F.gelu(x),
        "gelu_tanh": lambda: F.gelu(x, approximate="tanh"),
        "silu": lambda: F.silu(x),
        "mish": lambda: F.mish(x),
        "clip": lambda: torch.clamp(x, alpha, beta),
        "exp": lambda: torch.exp(x),
        "square": lambda: torch.square(x),
        "sqrt": lambda: torch.sqrt(x),
        "abs": lambda: torch.abs(x),
    }[name]()


@dataclass
class Case:
    name: str
    layers: list[dict]
    time: int
    batch: int
    lengths: bool = False
    initial_state: bool = False
    described: bool = True
    cell_module: bool = False  # tensors without `_l0`
    bare: bool = False  # tensors without a prefix
    dtype: str = "f32"
    values: list[float] = field(default_factory=list)  # the input, if not random


def random_case(number: int) -> Case:
    """One recurrent layer with options by lot."""
    rng = generator(f"recurrent {number}")

    def lot(share: float) -> bool:
        return rng.random() < share

    kind = ("lstm", "gru", "rnn")[number % 3]
    hidden = int(rng.integers(1, 9))
    layer = {"type": kind, "name": "layer", "input_size": int(rng.integers(1, 8)), "hidden_size": hidden}
    case = Case("", [layer], int(rng.integers(1, 18)), int(rng.integers(1, 6)))
    case.cell_module = lot(0.12)
    if not case.cell_module:
        if (levels := int(rng.choice([1, 1, 2, 3]))) > 1:
            layer["num_layers"] = levels
        if lot(0.5):
            layer["bidirectional"] = True
        if kind == "lstm" and hidden > 1 and lot(0.4):
            layer["proj_size"] = int(rng.integers(1, hidden))
    if lot(0.2):
        layer["bias"] = False
    case.described = lot(0.65)
    if case.described:
        if kind == "rnn" and lot(0.5):
            layer["activations"] = ["relu"]
        if lot(0.4) and not case.cell_module:
            layer["batch_first"] = True
        if lot(0.15):
            layer["output"] = "last"
        if layer.get("bidirectional") and lot(0.2):
            layer["merge_mode"] = str(rng.choice(["sum", "ave", "mul"]))
    case.lengths = lot(0.45) and not case.cell_module
    case.initial_state = lot(0.5)
    # Bare names take the cell's; a prefix may have dots.
    case.bare = lot(0.5)
    layer["name"] = kind if case.bare else str(rng.choice(["rnn1", "encoder.rnn", "model.decoder.0"]))
    case.dtype = str(rng.choice(["f32", "f32", "f32", "f16", "bf16", "f64"]))
    words = [f"{number:03}", kind]
    words += ["cell"] if case.cell_module else []
    words += [f"l{layer['num_layers']}"] if "num_layers" in layer else []
    words += ["bi"] if "bidirectional" in layer else []
    words += [f"p{layer['proj_size']}"] if "proj_size" in layer else []
    words += ["nobias"] if "bias" in layer else []
    words += ["relu"] if "activations" in layer else []
    words += ["bf"] if "batch_first" in layer else []
    words += [layer[key] for key in ("output", "merge_mode") if key in layer]
    words += [word for word in ("lengths", "initial_state", "bare") if getattr(case, word)]
    words += [] if case.described else ["undescribed"]
    case.name = "_".join(words + ([case.dtype] if case.dtype != "f32" else []))
    return case


def conv(name: str, inputs: int, outputs: int, kernel: int, pad: tuple[int, int] | str = (0, 0), **options) -> dict:
    layer = {"type": "conv1d", "name": name, "in_channels": inputs, "out_channels": outputs, "kernel_size": kernel}
    return {**layer, **padding(pad), **options}


def pool(kind: str, kernel: int, stride: int, pad: tuple[int, int] = (0, 0), **options) -> dict:
    layer = {"type": "pool1d", "name": "pool", "pool": kind, "kernel_size": kernel, "stride": stride}
    return {**layer, **padding(pad), **options}


def padding(pad: tuple[int, int] | str) -> dict:
    if pad == (0, 0):
        return {}
    return {"padding": pad if isinstance(pad, str) else {"zeros": {"left": pad[0], "right": pad[1]}}}


def norm(kind: str, width: int, eps: float, **options) -> dict:
    return {"type": kind, "name": "norm", "num_features": width, "eps": eps, **options}


def named(kind: str, name: str, **options) -> dict:
    return {"type": kind, "name": name, **options}


def recurrent(kind: str, name: str, inputs: int, hidden: int, **options) -> dict:
    return {**lstm(name, inputs, hidden, **options), "type": kind}


def join(kind: str, *inputs: str, name: str = "join") -> dict:
    return named("join", name, inputs=list(inputs), join=kind)


def whole_networks() -> list[Case]:
    def one(name: str, *layers: dict, time: int = 13, batch: int = 3, **options) -> Case:
        return Case(name, list(layers), time, batch, **options)

    start = named("from", "", layer="input")
    del start["name"]
    cases = [
        one("conv", conv("c", 5, 4, 3)),
        one("conv_pointwise_nobias", conv("c", 5, 7, 1, bias=False)),
        one("conv_stride", conv("c", 3, 6, 4, stride=3)),
        one("conv_padding", conv("c", 3, 6, 5, (2, 2))),
        one("conv_padding_uneven", conv("c", 3, 6, 4, (3, 0))),
        one("conv_dilation", conv("c", 3, 6, 3, (2, 2), dilation=4)),
        one("conv_groups", conv("c", 6, 9, 3, (1, 1), groups=3)),
        one("conv_depthwise", conv("c", 5, 5, 3, groups=5, bias=False)),
        one("conv_everything", conv("c", 4, 6, 3, (3, 3), stride=2, dilation=2, groups=2, activation="relu"), time=18),
        one("conv_same", conv("c", 3, 4, 4, "same", activation="tanh")),
        one("conv_same_dilation", conv("c", 3, 4, 3, "same", dilation=3)),
        one("conv_wider_than_time", conv("c", 2, 3, 7, (3, 3)), time=2),
        one("conv_one_output", conv("c", 2, 3, 13)),
        one("maxpool", pool("max", 3, 2)),
        one("maxpool_padding", pool("max", 3, 2, (1, 1))),
        one("maxpool_overlap", pool("max", 4, 1, (2, 2)), time=9),
        one("avgpool", pool("average", 2, 2)),
        one("avgpool_padding_counted", pool("average", 3, 2, (1, 1), count_include_pad=True)),
        one("avgpool_padding_not_counted", pool("average", 3, 2, (1, 1))),
        one("avgpool_overlap", pool("average", 5, 1, (2, 2), count_include_pad=True), time=7),
        one("global_max", named("global_pool", "pool", pool="max")),
        one("global_average", named("global_pool", "pool", pool="average")),
        one("layer_norm", norm("layer_norm", 6, 1e-5)),
        one("layer_norm_large_eps", norm("layer_norm", 6, 0.1, bias=False)),
        one("layer_norm_plain", norm("layer_norm", 9, 1e-5, weight=False, bias=False)),
        one("batch_norm", norm("batch_norm", 6, 1e-5)),
        one("batch_norm_plain", norm("batch_norm", 6, 1e-3, weight=False, bias=False)),
        one("batch_norm_last", recurrent("gru", "gru", 4, 5, output="last"), norm("batch_norm", 5, 1e-5)),
        one("select_first", lstm("lstm", 4, 5), named("select", "s", step="first")),
        one("select_last", conv("c", 4, 5, 3), named("select", "s", step="last"), dense("d", 5, 2)),
        one("reverse", recurrent("gru", "gru", 4, 5), named("reverse", "r")),
        one("residual_add", dense("d", 4, 4, activation="tanh"), join("add", "input", "d")),
        one("residual_lstm", lstm("a", 4, 4), join("add", "input", "a", name="b"), lstm("c", 4, 4), join("add", "b", "c")),
        one(
            "branches_concat",
            conv("a", 4, 3, 3, (1, 1), activation="relu"),
            start,
            conv("b", 4, 5, 5, (2, 2), activation="relu"),
            join("concat", "a", "b", "input"),
            recurrent("gru", "gru", 12, 6, output="last"),
        ),
        one(
            "gate_by_product",
            dense("gate", 4, 6, activation="sigmoid"),
            start,
            dense("value", 4, 6),
            join("mul", "gate", "value"),
        ),
        one("join_average", dense("a", 4, 5), start, dense("b", 4, 5), join("average", "a", "b")),
        one("join_max", dense("a", 4, 5), start, dense("b", 4, 5), join("max", "a", "b")),
        one(
            "own_reverse_branch",
            recurrent("gru", "forward", 4, 5),
            start,
            named("reverse", "backwards"),
            recurrent("gru", "backward", 4, 5),
            named("reverse", "restored"),
            join("concat", "forward", "restored"),
        ),
        one(
            "speech",
            conv("conv1", 8, 12, 3, (1, 1), activation="relu"),
            conv("conv2", 12, 10, 3, (1, 1), stride=2, activation="relu"),
            norm("batch_norm", 10, 1e-5),
            pool("max", 2, 2),
            lstm("lstm", 10, 9, num_layers=2, bidirectional=True, proj_size=5),
            dense("head", 10, 4),
            softmax(),
            time=33,
        ),
        one(
            "text",
            embedding("embedding", 23, 6),
            recurrent("gru", "gru", 6, 7, bidirectional=True, batch_first=True, output="last"),
            named("activation", "act", activation="silu"),
            norm("layer_norm", 14, 1e-5),
            dense("head", 14, 3),
            softmax(),
            lengths=True,
        ),
        one(
            "tagger",
            recurrent("rnn", "rnn", 5, 6, batch_first=True, activations=["relu"]),
            recurrent("gru", "gru", 6, 7, batch_first=True, bidirectional=True),
            dense("head", 14, 4, activation="sigmoid"),
            lengths=True,
            initial_state=True,
        ),
        one("long", lstm("lstm", 3, 10), time=160, batch=1),
        one("long_gru", recurrent("gru", "gru", 3, 10, bidirectional=True), time=160, batch=2, lengths=True),
        one("wide_lstm", lstm("lstm", 7, 65), time=9, batch=2, dtype="f16"),
        one("wide_gru", recurrent("gru", "gru", 7, 67), time=9, batch=2, dtype="f16"),
        one("wide_rnn", recurrent("rnn", "rnn", 7, 130), time=9, batch=2, dtype="f16"),
    ]
    for activation in ACTIVATIONS:
        name = activation if isinstance(activation, str) else next(iter(activation))
        # exp(100) is no f32 number, and the square root has none below 0.
        values = [x for x in EXTREMES if not (name == "exp" and x > 50) and not (name == "sqrt" and x < 0)]
        layer = named("activation", "act", activation=activation)
        cases.append(one(f"activation_{name}", layer, time=len(values), batch=1, values=values))
        if name not in ("exp", "square", "sqrt"):
            cases.append(one(f"dense_{name}", dense("d", 5, 7, activation=activation), time=3))
    return cases


def directions(layer: dict) -> int:
    return 2 if layer.get("bidirectional") else 1


def module(layer: dict, cell_module: bool) -> nn.Module | None:
    kind = layer["type"]
    bias = layer.get("bias", True)
    if kind in RECURRENT:
        options = {key: layer[key] for key in ("bias",) if key in layer}
        if kind == "rnn":
            options["nonlinearity"] = layer.get("activations", ["tanh"])[0]
        if cell_module:
            return CELLS[kind](layer["input_size"], layer["hidden_size"], **options)
        options |= {key: layer[key] for key in ("num_layers", "bidirectional", "batch_first", "proj_size") if key in layer}
        return RECURRENT[kind](layer["input_size"], layer["hidden_size"], **options)
    if kind == "embedding":
        return nn.Embedding(layer["num_embeddings"], layer["embedding_dim"])
    if kind == "dense":
        return nn.Linear(layer["in_features"], layer["out_features"], bias=bias)
    if kind == "conv1d":
        options = {key: layer[key] for key in ("stride", "dilation", "groups") if key in layer}
        return nn.Conv1d(layer["in_channels"], layer["out_channels"], layer["kernel_size"], bias=bias, **options)
    if kind == "layer_norm":
        eps = float(np.float32(layer["eps"]))
        return nn.LayerNorm(layer["num_features"], eps, layer.get("weight", True), bias)
    if kind == "batch_norm":
        eps = float(np.float32(layer["eps"]))
        return nn.BatchNorm1d(layer["num_features"], eps, affine=layer.get("weight", True)).eval()
    return None


def draw_weights(case: Case, rng: np.random.Generator) -> Tensors:
    weights = {}
    for layer in case.layers:
        part = module(layer, case.cell_module)
        for name, tensor in part.state_dict().items() if part else ():
            if name == "num_batches_tracked":
                value = np.array(17, np.int64)
            elif name == "running_var":
                value = uniform(rng, tuple(tensor.shape), 1.0) ** 2 + np.float32(0.1)
            else:
                fan = layer["hidden_size"] if "hidden_size" in layer else max(1, int(np.prod(tensor.shape[1:])))
                value = rounded(uniform(rng, tuple(tensor.shape), 1 / fan**0.5), case.dtype)
            weights[f"{layer['name']}.{name}"] = value
    return weights


def rounded(value: np.ndarray, dtype: str) -> np.ndarray:
    """f32 numbers that `dtype` holds."""
    kind = {"f16": torch.float16, "bf16": torch.bfloat16}.get(dtype, torch.float32)
    return torch.from_numpy(value).to(kind).to(torch.float32).numpy()


def draw_input(case: Case, rng: np.random.Generator) -> Tensors:
    first = case.layers[0]
    shape = (case.batch, case.time) if batch_first(case) else (case.time, case.batch)
    if first["type"] == "embedding":
        given = {"input": rng.integers(0, first["num_embeddings"], shape)}
    elif case.values:
        given = {"input": np.array(case.values, np.float32).reshape(*shape, 1)}
    else:
        given = {"input": uniform(rng, (*shape, width(first)), 2.0)}
    if case.lengths:
        lengths = rng.integers(1, case.time + 1, case.batch)
        # One row in full, if the first draw has none, and one of a single step.
        lengths[rng.integers(case.batch)] = case.time
        if case.batch > 1 and not (lengths == 1).any():
            lengths[int(np.argmin(lengths))] = 1
        given["lengths"] = lengths
    for layer in case.layers:
        if case.initial_state and layer["type"] in RECURRENT:
            states = layer.get("num_layers", 1) * directions(layer)
            hidden = layer["hidden_size"]
            given[f"{layer['name']}.h_0"] = uniform(rng, (states, case.batch, layer.get("proj_size") or hidden), 1.0)
            if layer["type"] == "lstm":
                given[f"{layer['name']}.c_0"] = uniform(rng, (states, case.batch, hidden), 1.0)
    return given


def width(layer: dict) -> int:
    """Width of the input of a network that begins with `layer`."""
    return next((layer[key] for key in SIZES if key in layer), 4)


def batch_first(case: Case) -> bool:
    return any(layer.get("batch_first") for layer in case.layers)


class Run:
    """One run of a case in one float type; arrays are `[T, B, N]` or `[B, N]` inside."""

    def __init__(self, case: Case, weights: Tensors, given: Tensors, dtype: torch.dtype):
        self.case, self.dtype = case, dtype
        self.weights = {name: self.number(tensor) for name, tensor in weights.items()}
        self.given = {name: self.number(tensor) for name, tensor in given.items()}
        self.results = {}

    def number(self, tensor: np.ndarray) -> torch.Tensor:
        tensor = torch.from_numpy(np.asarray(tensor))
        return tensor.to(self.dtype) if tensor.is_floating_point() else tensor

    def run(self) -> Tensors:
        return {"output": self.forward().numpy(), **self.results}

    def forward(self) -> torch.Tensor:
        x = self.given["input"]
        x = x.transpose(0, 1) if batch_first(self.case) else x
        outputs = {"input": x}
        for layer in self.case.layers:
            if layer["type"] == "from":
                x = outputs[layer["layer"]]
                continue
            x = self.join(layer, outputs) if layer["type"] == "join" else self.layer(layer, x)
            outputs[layer.get("name", "")] = x
        return x.transpose(0, 1) if batch_first(self.case) and x.dim() == 3 else x

    def join(self, layer: dict, outputs: dict[str, torch.Tensor]) -> torch.Tensor:
        parts = [outputs[name] for name in layer["inputs"]]
        if layer["join"] == "concat":
            return torch.cat(parts, dim=-1)
        stacked = torch.stack(parts)
        kind = {"add": torch.sum, "mul": torch.prod, "average": torch.mean, "max": torch.amax}[layer["join"]]
        return kind(stacked, dim=0)

    def layer(self, layer: dict, x: torch.Tensor) -> torch.Tensor:
        kind = layer["type"]
        part = self.part(layer)
        if kind in RECURRENT:
            return self.cells(layer, part, x) if self.case.cell_module else self.recurrent(layer, part, x)
        if kind == "conv1d":
            return activate(time_last(part, F.pad(x.permute(1, 2, 0), pads(layer))), layer.get("activation", "linear"))
        if kind == "pool1d":
            return self.pool(layer, x)
        if kind == "batch_norm":
            return time_last(part, x.permute(1, 2, 0)) if x.dim() == 3 else part(x)
        if kind == "global_pool":
            return x.amax(dim=0) if layer["pool"] == "max" else x.mean(dim=0)
        if kind == "select":
            return x[0 if layer["step"] == "first" else -1]
        if kind == "reverse":
            return x.flip(0)
        if kind == "softmax":
            return torch.softmax(x, dim=-1)
        if part is not None:
            x = part(x)
        return activate(x, layer.get("activation", "linear"))

    def part(self, layer: dict) -> nn.Module | None:
        part = module(layer, self.case.cell_module)
        if part is not None:
            prefix = f"{layer['name']}."
            mine = {name.removeprefix(prefix): w for name, w in self.weights.items() if name.startswith(prefix)}
            part = part.to(self.dtype)
            part.load_state_dict(mine)
        return part

    def pool(self, layer: dict, x: torch.Tensor) -> torch.Tensor:
        options = dict(kernel_size=layer["kernel_size"], stride=layer["stride"], padding=pads(layer)[0])
        if layer["pool"] == "max":
            return time_last(nn.MaxPool1d(**options), x.permute(1, 2, 0))
        counted = layer.get("count_include_pad", False)
        return time_last(nn.AvgPool1d(**options, count_include_pad=counted), x.permute(1, 2, 0))

    def state(self, layer: dict) -> tuple[torch.Tensor, ...] | None:
        names = [f"{layer['name']}.{part}" for part in ("h_0", "c_0")]
        return tuple(self.given[name] for name in names if name in self.given) or None

    def recurrent(self, layer: dict, part: nn.Module, x: torch.Tensor) -> torch.Tensor:
        rows_first = layer.get("batch_first", False)
        x = x.transpose(0, 1) if rows_first else x
        state = self.state(layer)
        state = state[0] if state and len(state) == 1 else state
        if self.case.lengths:
            packed = pack_padded_sequence(x, self.given["lengths"], batch_first=rows_first, enforce_sorted=False)
            y, last = part(packed, state)
            y, _ = pad_packed_sequence(y, batch_first=rows_first, total_length=self.case.time)
        else:
            y, last = part(x, state)
        y = y.transpose(0, 1) if rows_first else y
        last = last if isinstance(last, tuple) else (last,)
        for name, tensor in zip(("h_n", "c_n"), last):
            self.results[f"{layer['name']}.{name}"] = tensor.detach().numpy()
        if layer.get("output") == "last":
            y = torch.cat(list(last[0][-directions(layer) :]), dim=-1)
        if (mode := layer.get("merge_mode", "concat")) != "concat":
            forward, backward = y.chunk(2, dim=-1)
            y = {"sum": forward + backward, "ave": (forward + backward) / 2, "mul": forward * backward}[mode]
        return y

    def cells(self, layer: dict, part: nn.Module, x: torch.Tensor) -> torch.Tensor:
        state = self.state(layer)
        state = tuple(tensor[0] for tensor in state) if state else None
        outputs = []
        for step in x:
            state = part(step, state if layer["type"] == "lstm" or state is None else state[0])
            state = state if isinstance(state, tuple) else (state,)
            outputs.append(state[0])
        for name, tensor in zip(("h_n", "c_n"), state):
            self.results[f"{layer['name']}.{name}"] = tensor[None].detach().numpy()
        return outputs[-1] if layer.get("output") == "last" else torch.stack(outputs)


def time_last(part: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """`[B, C, T]` through `part` and on as `[T, B, C]`."""
    return part(x).permute(2, 0, 1)


def pads(layer: dict) -> tuple[int, int]:
    pad = layer.get("padding", {"zeros": {"left": 0, "right": 0}})
    if pad == "same":
        total = layer.get("dilation", 1) * (layer["kernel_size"] - 1)
        return total // 2, total - total // 2
    return pad["zeros"]["left"], pad["zeros"]["right"]


def stored_weights(case: Case, weights: Tensors) -> Tensors:
    stored = {}
    for name, tensor in weights.items():
        name = name.removeprefix(f"{case.layers[0]['name']}.") if case.bare else name
        if tensor.dtype == np.int64:
            stored[name] = tensor
        elif case.dtype == "bf16":
            stored[name] = torch.from_numpy(tensor).to(torch.bfloat16)
        else:
            stored[name] = tensor.astype({"f32": "<f4", "f16": "<f2", "f64": "<f8"}[case.dtype])
    return stored


def save_weights(case: Case, weights: Tensors, input_size: int) -> bytes:
    first = case.layers[0]
    sized = first["type"] == "embedding" or any(key in first for key in SIZES)
    # Where no layer says how wide the input is, a layer of its own does.
    layers = case.layers if sized else [{"type": "input", "input_size": input_size}, *case.layers]
    description = json.dumps({"format": 1, "layers": layers}, separators=(",", ":"))
    metadata = {"gatefold": description} if case.described else None
    stored = stored_weights(case, weights)
    if case.dtype == "bf16":
        from safetensors.torch import save as save_torch

        return save_torch({name: torch.as_tensor(tensor).contiguous() for name, tensor in stored.items()}, metadata)
    return save(stored, metadata)


def used(results: Tensors, single: Tensors, time: int) -> float:
    """Share of `Tolerance::f32` that PyTorch's own f32 arithmetic uses up."""
    atol = 2e-6 * max(1.0, (time / 64) ** 0.5)
    shares = [np.abs(single[name] - value) / (atol + 1e-5 * np.abs(value)) for name, value in results.items()]
    return max(share.max() for share in shares)


@torch.no_grad()
def main() -> None:
    cases = [random_case(number) for number in range(150)] + whole_networks()
    assert len({case.name for case in cases}) == len(cases)
    worst = 0.0
    with zipfile.ZipFile(HERE / "pytorch_grid.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for case in cases:
            rng = generator(case.name)
            weights = draw_weights(case, rng)
            given = draw_input(case, rng)
            results = Run(case, weights, given, torch.float64).run()
            share = used(results, Run(case, weights, given, torch.float32).run(), case.time)
            worst = max(worst, share)
            assert share < 1, (case.name, share)
            golden = save(as_stored({**given, **results}))
            for name, content in [(case.name, save_weights(case, weights, given["input"].shape[-1])), (f"{case.name}.golden", golden)]:
                # A fixed date, so that the same cases give the same archive.
                entry = zipfile.ZipInfo(f"{name}.safetensors", (1980, 1, 1, 0, 0, 0))
                archive.writestr(entry, content, zipfile.ZIP_DEFLATED, 9)
    undescribed = sum(not case.described for case in cases)
    print(f"{len(cases)} cases, {undescribed} of them undescribed; f32 uses at most {worst:.2f} of the tolerance")


if __name__ == "__main__":
    main()
