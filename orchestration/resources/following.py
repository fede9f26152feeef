"""Follow a run folder while something else trains in it, and relay its progress at a bounded rate."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from assets.pages.progress_log import relay
from training.run_folder import Progress, RunFolder


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
    relay(lambda: progress_line(folder.read_progress()), finished, log)
