"""Progress of batch work in a log: rows done, rows per second, time left."""

from __future__ import annotations

import time
from collections.abc import Callable

SECONDS_BETWEEN_LINES = 5.0


class Rate:
    """Relays progress, at most one line in five seconds and one at the end.

    ``clock`` gives seconds, for tests.
    """

    def __init__(
        self, log: Callable[[str], None], total_rows: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._log = log
        self._clock = clock
        self._total = total_rows
        self._done = 0
        self._start = self._last = clock()

    def add(self, rows: int) -> None:
        """Count rows as done, and say so when the last line is five seconds old."""
        self._done += rows
        now = self._clock()
        if now - self._last < SECONDS_BETWEEN_LINES:
            return
        self._last = now
        rate = self._rate(now)
        left = max(self._total - self._done, 0) / rate if rate else float("inf")
        self._log(f"{self._done:,} of {self._total:,} rows, {rate:,.1f} rows/s, {left:,.0f} s left")

    def finish(self) -> None:
        """The line at the end."""
        now = self._clock()
        self._log(f"{self._done:,} rows in {now - self._start:,.1f} s, {self._rate(now):,.1f} rows/s")

    def _rate(self, now: float) -> float:
        return self._done / max(now - self._start, 1e-9)
