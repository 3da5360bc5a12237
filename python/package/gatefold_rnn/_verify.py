"""A device compared with the f64 reference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from . import _native
from ._native import Network


@dataclass(frozen=True)
class Verification:
    """Every tensor of a run, compared. It is true if all are right."""

    device: str
    checks: list[dict[str, Any]]

    @property
    def passed(self) -> bool:
        return all(check["passed"] for check in self.checks)

    def __bool__(self) -> bool:
        return self.passed

    def __str__(self) -> str:
        rows = [f"{'PASS' if check['passed'] else 'FAIL'}  {check['name']:32} {str(check['shape']):16} "
                f"max error {check['max_error']:.1e}" for check in self.checks]
        return "\n".join([self.device, *rows])


def verify(network: Network, *, steps: int | None = None, batch: int = 4, seed: int = 1) -> Verification:
    """Runs `network` on its device with random numbers and compares every layer's output and the state with the f64 reference.

    `steps` is T and `batch` B; without `steps` it is 20, or what the network needs.
    """
    return Verification(*_native.verify(network, steps, batch, seed))
