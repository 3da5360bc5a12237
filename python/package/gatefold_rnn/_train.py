"""Training."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from . import _native
from ._data import dataset, padded, sequences
from ._history import History, Progress, progress_wanted
from ._native import Network

Callback = Callable[[dict[str, Any]], Any]


class Trainer:
    """Trains a copy of a network.

    `loss` is `cross_entropy`, `binary_cross_entropy`, `mse`, `mae`, `huber` or `ctc`, or a dict with its numbers such as
    `{"huber": {"delta": 1.0}}`. `optimizer` is `adam`, `adamw`, `sgd`, `rmsprop` or `adagrad` with the numbers and formulas of `numbers`
    (`"pytorch"` or `"keras"`), of which `learning_rate` and, in `optimizer_options`, any other may be replaced. `dropout` has rates by
    the names of layers, `file_dropout` takes what the network's Keras or ONNX file states, `clip_norm` bounds the norm of all gradients. `options` are further options of the engine by its names:
    `class_weights`, `label_smoothing`, `recurrent_dropout`, `frozen`, `schedule`, `one_bias`, …
    """

    def __init__(
        self,
        network: Network,
        loss: str | Mapping[str, Any] = "cross_entropy",
        optimizer: str = "adam",
        *,
        learning_rate: float | None = None,
        numbers: str = "pytorch",
        optimizer_options: Mapping[str, Any] | None = None,
        clip_norm: float | None = None,
        dropout: Mapping[str, float] | None = None,
        file_dropout: bool = False,
        seed: int = 0,
        device: str = "cpu",
        threads: int | None = None,
        **options: Any,
    ) -> None:
        chosen = _native.optimizer(optimizer, numbers)
        own = dict(optimizer_options or {})
        if learning_rate is not None:
            own["learning_rate"] = learning_rate
        (rule,) = chosen["rule"].values()
        for name, value in own.items():
            place = rule if name in rule else chosen
            if name not in place or name == "rule":
                known = [*rule, *(key for key in chosen if key != "rule")]
                raise ValueError(f"optimizer_options: expected {', '.join(known)}, got {name}")
            place[name] = value
        if clip_norm is not None:
            chosen["clip"] = {"global_norm": {"max": clip_norm, "convention": _convention(numbers)}}
        all_options = _native.default_options()
        unknown = [name for name in options if name not in all_options]
        if unknown:
            raise ValueError(f"options: expected {', '.join(all_options)}, got {unknown[0]}")
        all_options.update(options, loss=_loss(loss), optimizer=chosen, seed=seed)
        if dropout:
            rates = [{"layer": layer, "rate": rate, "unit": "element"} for layer, rate in dropout.items()]
            all_options["dropout"] = [*all_options["dropout"], *rates]
        self._native = _native.Trainer(network, json.dumps(all_options), device, threads, file_dropout)
        self._structure = network

    @classmethod
    def resume(cls, path: str | os.PathLike[str], *, device: str = "cpu", threads: int | None = None) -> Trainer:
        """Goes on from a checkpoint: its file, or the folder that `fit` wrote it to. Its next `fit` of the same data goes on where
        the last one stopped, with the same bits."""
        self = cls.__new__(cls)
        self._native = _native.Trainer.resume(path, device, threads)
        self._structure = self._native.network()
        return self

    def fit(
        self,
        x: Any,
        y: Any,
        *,
        validation_data: tuple[Any, Any] | None = None,
        epochs: int = 1,
        batch_size: int = 32,
        patience: int | None = None,
        shuffle: bool = True,
        checkpoint: str | os.PathLike[str] | None = None,
        checkpoint_steps: int | None = None,
        callbacks: Callback | Iterable[Callback] = (),
        progress: bool | None = None,
    ) -> History:
        """Trains on sequences `x` with answers `y` and gives the numbers of each epoch.

        `x` is an array whose first axis is the examples, a list of arrays `[T]` or `[T, I]`, or of texts; `y` has a class, a label's
        name, classes of each timestep, or numbers, for each example. With `validation_data` the weights of the best epoch are kept,
        and `patience` epochs without a smaller validation loss end the fit. `checkpoint` is a folder for `last.safetensors` and
        `best.safetensors`.

        Each of `callbacks` is called with a dict after every step (`kind` is `"step"`) and every epoch (`"epoch"`); one that returns
        `False` ends the fit. Ctrl-C ends it behind the step, with a `KeyboardInterrupt`; the checkpoint is written before.
        `progress` shows a line for each epoch; without it, where a person watches.
        """
        train = dataset(self._structure, self.loss, x, y)
        valid = None if validation_data is None else dataset(self._structure, self.loss, *validation_data)
        history = History()
        called: list[Callback] = [callbacks] if callable(callbacks) else list(callbacks)
        if progress_wanted() if progress is None else progress:
            called.insert(0, Progress(epochs))

        def on_event(event: dict[str, Any]) -> bool:
            kind = event["kind"]
            if kind == "epoch":
                history.epochs.append({name: value for name, value in event.items() if name != "kind"})
            # Every callback sees the event, also beside one that ends the fit.
            return all([callback(event) is not False for callback in called])

        options = {
            "batch_size": batch_size,
            "epochs": epochs,
            "patience": patience,
            "shuffle": shuffle,
            "checkpoint": checkpoint,
            "checkpoint_steps": checkpoint_steps,
        }
        done = self._native.fit(train, valid, options, on_event)
        history.best_epoch, history.skipped = done["best_epoch"], done["skipped"]
        return history

    def evaluate(
        self, x: Any, y: Any, *, batch_size: int = 256, top_k: int | None = None, confusion: bool = False
    ) -> dict[str, Any]:
        """Loss and accuracy over examples, without dropout. `top_k` adds the share of answers among the K most probable, `confusion`
        how often each class (rows) got each answer."""
        return self._native.evaluate(dataset(self._structure, self.loss, x, y), batch_size, top_k, confusion)

    def predict(self, x: Any, *, batch_size: int = 256) -> Any:
        """The outputs of the network as it is now: an array `[N, …]`, or a list of arrays `[T, …]` where the output has a time axis
        and the lengths differ."""
        network, rows = self.network(), sequences(self._structure, x)
        order = np.argsort([len(row) for row in rows], kind="stable")
        found: list[Any] = [None] * len(rows)
        for start in range(0, len(rows), batch_size):
            places = order[start : start + batch_size]
            batch, lengths = padded(network, [rows[place] for place in places])
            y = network(batch, lengths=lengths)
            if network.output_is_sequence and not network.batch_first:
                y = np.swapaxes(y, 0, 1)
            for at, place in enumerate(places):
                found[place] = y[at, : len(rows[place])] if network.output_is_sequence else y[at]
        if not found:
            return np.zeros((0, network.output_size), dtype=np.float32)
        same = all(one.shape == found[0].shape for one in found)
        return np.stack(found) if same else found

    def network(self) -> Network:
        """The network with the weights of now, as any other."""
        return self._native.network()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the network with the weights of now as a safetensors file."""
        self.network().save(path)

    def save_checkpoint(self, path: str | os.PathLike[str]) -> None:
        """Writes all that training needs to go on, for `Trainer.resume`."""
        self._native.save_checkpoint(path)

    @property
    def options(self) -> dict[str, Any]:
        """How it trains."""
        return self._native.options

    @property
    def loss(self) -> str:
        """The name of the loss."""
        loss = self.options["loss"]
        return loss if isinstance(loss, str) else next(iter(loss))

    @property
    def steps(self) -> int:
        """Steps so far."""
        return self._native.steps


def _convention(numbers: str) -> str:
    return {"pytorch": "py_torch", "keras": "keras"}[numbers]


def _loss(loss: str | Mapping[str, Any]) -> Any:
    if not isinstance(loss, str):
        return dict(loss)
    return {"huber": {"huber": {"delta": 1.0}}, "ctc": {"ctc": {"blank": 0}}}.get(loss, loss)
