"""Follow a run folder while something else trains in it, and relay its progress at a bounded rate."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from training.run_folder import Progress, RunFolder

SECONDS_BETWEEN_LINES = 5.0
SECONDS_BETWEEN_LOOKS = 0.1


def progress_line(progress: Progress) -> str:
    """One line for a log: how far, how fast, how good, how long still."""
    if progress.state == "waiting":
        return "waiting for the worker to start"
    share = progress.images_seen / max(progress.images_total, 1)
    parts = [f"{progress.images_seen:,} of {progress.images_total:,} images ({share:.0%})"]
    if progress.images_per_second is not None:
        parts.append(f"{progress.images_per_second:,.0f} images/s")
    if progress.loss is not None:
        parts.append(f"loss {progress.loss:.4f}")
    if progress.seconds_left is not None:
        parts.append(f"{progress.seconds_left:.0f} s left")
    return ", ".join(parts)


def follow(run_folder: Path, finished: Callable[[], bool], log: Callable[[str], None]) -> None:
    """Until ``finished()``: relay each new state of the folder, at most one line in five seconds."""
    folder = RunFolder(run_folder)
    last_line, last_time = "", float("-inf")
    while not finished():
        progress = folder.read_progress()
        now = time.monotonic()
        if now - last_time >= SECONDS_BETWEEN_LINES:
            line = progress_line(progress)
            if line != last_line:
                log(line)
                last_line, last_time = line, now
        time.sleep(SECONDS_BETWEEN_LOOKS)
    final = progress_line(folder.read_progress())
    if final != last_line:
        log(final)
