"""How often work was begun again after a worker died, told where a dying worker cannot take the knowledge with it."""

from __future__ import annotations

from collections import Counter
from typing import Any


class Ledger:
    """Runs as one small Ray actor beside the pools. A count that rises without an end belongs to workers that died."""

    def __init__(self) -> None:
        self._begun: dict[str, Counter[int]] = {}

    def begin(self, run: str, work: int) -> int:
        """Note that ``work`` of a run is begun; returns how often it was begun before and not ended."""
        counts = self._begun.setdefault(run, Counter())
        counts[work] += 1
        return counts[work] - 1

    def end(self, run: str, work: int) -> None:
        """Note that work which was begun has been done."""
        self._begun.setdefault(run, Counter())[work] -= 1

    def forget(self, run: str) -> None:
        """Drop the counts of a run that is over."""
        self._begun.pop(run, None)


def start_ledger(ray: Any) -> Any:
    """Handle of a new ledger, which ends with the handle. Should its machine be lost, it starts again from zero."""
    return ray.remote(Ledger).options(num_cpus=0, max_restarts=-1, max_task_retries=-1).remote()
