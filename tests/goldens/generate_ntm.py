"""Gradients of a squared error through cells with a memory, by PyTorch's autograd in f64: `ntm.st`.

The format is that of `gradients.st`. The layer is written with PyTorch's cells and tensor operations; the options are those in
which published implementations differ.

    python generate_ntm.py
"""

import json

import numpy as np
import torch
from safetensors.numpy import save_file
from torch import nn

from golden import HERE, Tensors, generator, uniform

ARRAYS: Tensors = {}
CASES: dict[str, str] = {}
F64 = torch.float64
CELLS = {"lstm": (nn.LSTMCell, 4), "gru": (nn.GRUCell, 3), "rnn": (nn.RNNCell, 1)}


def heads_in_order(order: str, reads: int, writes: int) -> list[list[int]]:
    """Which heads address together; a write head writes at the end of its group."""
    read, write = list(range(reads)), list(range(reads, reads + writes))
    if order == "read_first":
        return [read + write]
    if order == "write_first":
        return [write, read]
    turns = []
    for turn in range(max(reads, writes)):
        turns += [[read[turn]]] if turn < reads else []
        turns += [[write[turn]]] if turn < writes else []
    return turns


class Memory(nn.Module):
    def __init__(self, layer: dict, weights: Tensors):
        super().__init__()
        self.layer = layer
        self.weights = {name: torch.from_numpy(array).to(F64).requires_grad_() for name, array in weights.items()}
        kind, _ = CELLS[layer.get("cell", "lstm")]
        self.rows, self.columns = layer["memory"]["rows"], layer["memory"]["columns"]
        self.reads, self.writes = layer.get("read_heads", 1), layer.get("write_heads", 1)
        self.cell = kind(layer["input_size"] + self.reads * self.columns, layer["hidden_size"], dtype=F64)
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            delattr(self.cell, name)
            setattr(self.cell, name, self.weights[f"m.{name}_l0"])

    def start(self, batch: int) -> list[torch.Tensor]:
        layer, heads = self.layer, self.reads + self.writes
        def stored(name: str, *shape: int) -> torch.Tensor:
            if (tensor := self.weights.get(f"m.{name}")) is not None:
                return tensor.reshape(1, *shape).expand(batch, *shape)
            return torch.zeros(batch, *shape, dtype=F64)
        state = [stored("initial_h", layer["hidden_size"])]
        if layer.get("cell", "lstm") == "lstm":
            state.append(stored("initial_c", layer["hidden_size"]))
        weights = stored("initial_weights", heads, self.rows)
        if layer.get("start_weights") == "learned":
            weights = weights.softmax(-1)
        elif layer.get("start_weights") == "uniform":
            weights = weights + float(np.float32(1.0) / np.float32(self.rows))
        memory = stored("memory", self.rows, self.columns)
        if layer["memory"].get("start") == "constant":
            memory = memory + float(np.float32(1e-6))
        return state + [stored("initial_read", self.reads, self.columns), weights, memory]

    def address(self, p: torch.Tensor, memory: torch.Tensor, before: torch.Tensor) -> torch.Tensor:
        columns, shifts = self.columns, self.layer.get("shifts", 1)
        count = 2 * shifts + 1
        key = self.act("key_activation", p[:, :columns])
        beta = nn.functional.softplus(p[:, columns])
        gate = p[:, columns + 1].sigmoid()
        shift = p[:, columns + 2 : columns + 2 + count].softmax(-1)
        gamma = 1 + nn.functional.softplus(p[:, columns + 2 + count])
        product = (memory * key[:, None]).sum(-1)
        cosine = product / (memory.norm(dim=-1) * key.norm(dim=-1)[:, None] + 1e-8)
        content = (beta[:, None] * cosine).softmax(-1)
        gated = gate[:, None] * content + (1 - gate)[:, None] * before
        # Share j moves a weight by j - shifts rows.
        shifted = sum(shift[:, j, None] * gated.roll(j - shifts, dims=-1) for j in range(count))
        return (gamma[:, None] * (shifted + 1e-16).log()).softmax(-1)

    def act(self, option: str, x: torch.Tensor) -> torch.Tensor:
        return x.tanh() if self.layer.get(option) == "tanh" else x

    def forward(self, x: torch.Tensor, state: list[torch.Tensor]) -> torch.Tensor:
        *controller, read, weights, memory = state
        heads, size = self.reads + self.writes, self.columns + 4 + 2 * self.layer.get("shifts", 1)
        outputs = []
        for step in x:
            z = torch.cat([step, read.flatten(1)], -1)
            if len(controller) == 2:
                controller = list(self.cell(z, tuple(controller)))
            else:
                controller = [self.cell(z, controller[0])]
            p = controller[0] @ self.weights["m.heads.weight"].T + self.weights["m.heads.bias"]
            if (clip := self.layer.get("clip")) is not None:
                p = p.clamp(-clip, clip)
            new: dict[int, torch.Tensor] = {}
            reads: dict[int, torch.Tensor] = {}
            for group in heads_in_order(self.layer.get("order", "read_first"), self.reads, self.writes):
                addressed = memory
                for head in group:
                    new[head] = self.address(p[:, head * size : (head + 1) * size], addressed, weights[:, head])
                    if head < self.reads:
                        reads[head] = (new[head][..., None] * addressed).sum(1)
                for head in group:
                    if head >= self.reads:
                        first = heads * size + 2 * (head - self.reads) * self.columns
                        erase = p[:, first : first + self.columns].sigmoid()
                        add = self.act("add_activation", p[:, first + self.columns : first + 2 * self.columns])
                        memory = memory * (1 - new[head][..., None] * erase[:, None]) + new[head][..., None] * add[:, None]
            weights = torch.stack([new[head] for head in range(heads)], 1)
            read = torch.stack([reads[head] for head in range(self.reads)], 1)
            outputs.append(torch.cat([controller[0], read.flatten(1)], -1))
        if self.layer.get("output") == "last":
            return outputs[-1]
        return torch.stack(outputs)


def shapes(layer: dict) -> dict[str, tuple[int, ...]]:
    """In file order."""
    cell = layer.get("cell", "lstm")
    gates, hidden = CELLS[cell][1] * layer["hidden_size"], layer["hidden_size"]
    rows, columns = layer["memory"]["rows"], layer["memory"]["columns"]
    reads, writes = layer.get("read_heads", 1), layer.get("write_heads", 1)
    controls = (reads + writes) * (columns + 4 + 2 * layer.get("shifts", 1)) + 2 * writes * columns
    found = {
        "weight_ih_l0": (gates, layer["input_size"] + reads * columns),
        "weight_hh_l0": (gates, hidden),
        "bias_ih_l0": (gates,),
        "bias_hh_l0": (gates,),
    }
    if layer.get("initial_state"):
        found["initial_h"] = (1, hidden)
        if cell == "lstm":
            found["initial_c"] = (1, hidden)
    found |= {"heads.weight": (controls, hidden), "heads.bias": (controls,)}
    if layer["memory"]["start"] == "learned":
        found["memory"] = (rows, columns)
    if layer.get("initial_state"):
        found["initial_read"] = (1, reads * columns)
    if layer.get("start_weights") == "learned":
        found["initial_weights"] = (reads + writes, rows)
    return {f"m.{name}": shape for name, shape in found.items()}


def case(name: str, time: int, batch: int, given_state: bool = False, **options) -> None:
    layer = {"type": "ntm", "name": "m", **options}
    rng = generator(name)
    weights = {key: uniform(rng, shape, 1.0) for key, shape in shapes(layer).items()}
    x = uniform(rng, (time, batch, layer["input_size"]), 1.0)
    net = Memory(layer, weights)
    given = [torch.from_numpy(x).to(F64).requires_grad_()]
    state = net.start(batch)
    if given_state:
        drawn = [uniform(rng, tuple(part.shape), 1.0) for part in state]
        drawn[-2] = np.abs(drawn[-2]) / np.float32(net.rows)
        state = [torch.from_numpy(part).to(F64).requires_grad_() for part in drawn]
        given += state
    output = net(given[0], state)
    target = uniform(rng, tuple(output.shape), 1.0)
    value = ((output - torch.from_numpy(target).to(F64)) ** 2).mean()
    value.backward()
    about = {"layers": [layer], "shape": [time, batch], "loss": "mse", "value": value.item()}
    about |= {"input_size": layer["input_size"], "state": given_state}
    CASES[name] = json.dumps(about, separators=(",", ":"))
    numbers = [*weights.values(), *(part.detach().numpy() for part in given), target]
    tensors = [*net.weights.values(), *given]
    gradients = [torch.zeros_like(tensor) if tensor.grad is None else tensor.grad for tensor in tensors]
    flat = lambda parts, kind: np.concatenate([np.asarray(part, dtype=kind).reshape(-1) for part in parts])
    ARRAYS[f"{name}.given"] = flat(numbers, "<f4")
    ARRAYS[f"{name}.gradients"] = flat([gradient.numpy() for gradient in gradients], "<f8")
    assert all(np.isfinite(ARRAYS[f"{name}.{kind}"]).all() for kind in ("given", "gradients")), name


def memory(rows: int, columns: int, start: str = "learned") -> dict:
    return {"rows": rows, "columns": columns, "start": start}


case("ntm_plain", 6, 3, input_size=4, hidden_size=7, memory=memory(9, 5))
case("ntm_given_state", 5, 2, True, input_size=3, hidden_size=6, memory=memory(8, 4))
case(
    "ntm_tanh_clip", 6, 2, input_size=4, hidden_size=8, memory=memory(7, 6), key_activation="tanh", add_activation="tanh",
    clip=1.25,
)
case(
    "ntm_learned_starts", 5, 3, input_size=3, hidden_size=5, memory=memory(10, 3), initial_state=True,
    start_weights="learned", output="last",
)
case("ntm_constant_uniform", 5, 2, input_size=3, hidden_size=5, memory=memory(6, 4, "constant"), start_weights="uniform")
case("ntm_heads", 5, 2, input_size=3, hidden_size=6, memory=memory(9, 4), read_heads=3, write_heads=2, shifts=2)
case("ntm_write_first", 5, 2, True, input_size=3, hidden_size=6, memory=memory(9, 4), read_heads=2, write_heads=2, order="write_first")
case("ntm_sequential", 5, 2, input_size=3, hidden_size=6, memory=memory(9, 4), read_heads=2, write_heads=3, order="sequential")
case("ntm_gru", 5, 2, True, cell="gru", input_size=3, hidden_size=6, memory=memory(8, 4), initial_state=True)
case("ntm_rnn", 5, 2, cell="rnn", input_size=3, hidden_size=6, memory=memory(8, 4), shifts=0)
case("ntm_wide", 12, 2, input_size=9, hidden_size=33, memory=memory(40, 20), clip=20.0)

save_file(ARRAYS, HERE / "ntm.st", metadata=CASES)
