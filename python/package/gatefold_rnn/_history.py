"""What a fit did, epoch by epoch, and how it is shown."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any


class History:
    """The numbers of every epoch: `history["val_loss"]` is a list. Notebooks show it as a table."""

    def __init__(self) -> None:
        self.epochs: list[dict[str, Any]] = []
        self.best_epoch = 0
        self.skipped = 0

    def __getitem__(self, name: str) -> list[Any]:
        return [epoch[name] for epoch in self.epochs]

    def __len__(self) -> int:
        return len(self.epochs)

    def __repr__(self) -> str:
        return f"<History {len(self)} epochs, best {self.best_epoch}>"

    def _repr_html_(self) -> str:
        names = list(self.epochs[0]) if self.epochs else []
        rows = [[_shown(epoch[name]) for name in names] for epoch in self.epochs]
        lines = ["".join(f"<th>{name}</th>" for name in names)]
        lines += ["".join(f"<td>{cell}</td>" for cell in row) for row in rows]
        return "<table>" + "".join(f"<tr>{line}</tr>" for line in lines) + "</table>"

    def plot(self) -> Any:
        """Draws loss and accuracy over the epochs with matplotlib, and gives the figure."""
        import matplotlib.pyplot as plt

        figure, axes = plt.subplots(1, 2, figsize=(9, 3), constrained_layout=True)
        for axis, what in zip(axes, ("loss", "accuracy")):
            for name in (what, f"val_{what}"):
                if self.epochs and name in self.epochs[0]:
                    axis.plot(self["epoch"], self[name], label=name)
            axis.set(xlabel="epoch", ylabel=what)
            axis.legend()
        return figure


def _shown(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def progress_wanted() -> bool:
    """Whether a person watches: a terminal or a notebook."""
    return sys.stderr.isatty() or "ipykernel" in sys.modules


class Progress:
    """One line on stderr that changes while an epoch runs and stays at its end. Terminals and notebooks both understand it."""

    INTERVAL = 0.1

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs
        self.started = time.monotonic()
        self.shown = 0.0
        self.width = 0

    def __call__(self, event: Mapping[str, Any]) -> None:
        now = time.monotonic()
        if event["kind"] == "step":
            if now - self.shown < self.INTERVAL:
                return
            self.shown = now
            self._write(f"{event['batch']}/{event['batches']}", event, "")
        else:
            self._write(f"{now - self.started:.1f} s", event, "\n")
            self.started = now

    def _write(self, where: str, event: Mapping[str, Any], end: str) -> None:
        numbers = [f"{name} {event[name]:.4f}" for name in ("loss", "accuracy", "val_loss", "val_accuracy") if name in event]
        line = f"epoch {event['epoch']}/{self.epochs}  {where}  " + "  ".join(numbers)
        # Spaces over what is left of a longer line.
        sys.stderr.write("\r" + line.ljust(self.width) + end)
        sys.stderr.flush()
        self.width = 0 if end else len(line)
