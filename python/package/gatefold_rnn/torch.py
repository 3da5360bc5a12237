"""Recurrent modules for PyTorch that run in gatefold: inference only, float32 tensors on the CPU."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from ._native import Network

__all__ = ["GRU", "LSTM", "RNN", "LastStep"]


class LastStep(nn.Module):
    """The last timestep of a recurrent module's output, for an `nn.Sequential`: `(y, state)` or y to `[B, N]`."""

    def __init__(self, batch_first: bool = True) -> None:
        super().__init__()
        self.batch_first = batch_first

    def forward(self, output: Any) -> torch.Tensor:
        y = output[0] if isinstance(output, tuple) else output
        return y[:, -1] if self.batch_first else y[-1]


class _Recurrent(nn.Module):
    """The arguments and results of `nn.LSTM`, `nn.GRU` and `nn.RNN`, with the weights that `module` had when this was made."""

    kind: type[nn.RNNBase]
    name: str
    parts: tuple[str, ...]

    def __init__(self, module: nn.RNNBase, *, device: str = "auto", threads: int | None = None) -> None:
        super().__init__()
        if type(module) is not self.kind:
            raise TypeError(f"module: expected an nn.{self.kind.__name__}, got {type(module).__name__}")
        from ._from_torch import from_torch

        self.network: Network = from_torch(module, device=device, threads=threads)
        for option in ("input_size", "hidden_size", "num_layers", "bidirectional", "bias", "batch_first", "proj_size"):
            setattr(self, option, getattr(module, option))

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.hidden_size}, num_layers={self.num_layers}, inference in gatefold"

    def forward(self, input: torch.Tensor | PackedSequence, hx: Any = None) -> tuple[Any, Any]:
        """As of the PyTorch module: the output of all timesteps and the state behind the last."""
        if isinstance(input, PackedSequence):
            return self._packed(input, hx)
        single = input.dim() == 2
        axis = 0 if self.batch_first else 1
        x = input.unsqueeze(axis) if single else input
        if single and hx is not None:
            hx = tuple(h.unsqueeze(1) for h in hx) if isinstance(hx, tuple) else hx.unsqueeze(1)
        y, state = self._run(x, hx)
        if single:
            y = y.squeeze(axis)
            state = tuple(h.squeeze(1) for h in state) if isinstance(state, tuple) else state.squeeze(1)
        return y, state

    def _packed(self, input: PackedSequence, hx: Any) -> tuple[PackedSequence, Any]:
        x, lengths = pad_packed_sequence(input, batch_first=self.batch_first)
        y, state = self._run(x, hx, lengths)
        # Sorted as the input was.
        order = input.sorted_indices
        if order is not None:
            y, lengths = y.index_select(0 if self.batch_first else 1, order), lengths[order]
        data = pack_padded_sequence(y, lengths, batch_first=self.batch_first).data
        return PackedSequence(data, input.batch_sizes, order, input.unsorted_indices), state

    def _run(self, x: torch.Tensor, hx: Any, lengths: torch.Tensor | None = None) -> tuple[torch.Tensor, Any]:
        state = None
        if hx is not None:
            given = hx if isinstance(hx, tuple) else (hx,)
            if len(given) != len(self.parts):
                raise ValueError(f"hx: expected {' and '.join(self.parts)}, got {len(given)} tensors")
            parts = {part: _array(f"hx {part}", h) for part, h in zip(self.parts, given)}
            state = {self.name: parts}
        y, after = self.network.run(_array("input", x), state, lengths=None if lengths is None else lengths.numpy())
        numbers = after.numpy()[self.name]
        found = tuple(torch.from_numpy(numbers[part]) for part in self.parts)
        return torch.from_numpy(y), found if len(found) > 1 else found[0]


def _array(what: str, tensor: torch.Tensor) -> Any:
    if tensor.dtype != torch.float32 or tensor.device.type != "cpu":
        raise TypeError(f"{what}: expected a float32 tensor on the CPU, got {tensor.dtype} on {tensor.device}")
    if tensor.requires_grad and torch.is_grad_enabled():
        raise RuntimeError(f"{what}: expected no gradients, since gatefold's modules are for inference (torch.no_grad())")
    return tensor.detach().numpy()


class LSTM(_Recurrent):
    """`nn.LSTM` for inference: `gatefold_rnn.torch.LSTM(module)`."""

    kind, name, parts = nn.LSTM, "lstm", ("h", "c")


class GRU(_Recurrent):
    """`nn.GRU` for inference: `gatefold_rnn.torch.GRU(module)`."""

    kind, name, parts = nn.GRU, "gru", ("h",)


class RNN(_Recurrent):
    """`nn.RNN` for inference: `gatefold_rnn.torch.RNN(module)`."""

    kind, name, parts = nn.RNN, "rnn", ("h",)
