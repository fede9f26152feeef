"""How a demo shows what it does: bars on a terminal; elsewhere lines, one of which says now and then how it goes."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from orchestration.demo import Phase
from orchestration.launching import Outcome
from orchestration.outlook import Expected, TimeLeft, duration_text
from orchestration.resources.following import progress_line
from training.errors import FoundryError
from training.run_folder import RunFolder

SECONDS_BETWEEN_LINES = 15.0
_SECONDS_BETWEEN_LOOKS = 0.5
_RECENT_SECONDS = 15.0


def print_outlook(expected: Sequence[Expected], talk: Console) -> None:
    """What is going to be done, and how long each phase and all of it takes by the ledger."""
    if not expected:
        talk.print("By its records everything is fresh; every byte will be checked.")
        return
    runs, seconds = sum(phase.num_runs for phase in expected), [phase.seconds for phase in expected]
    known = [value for value in seconds if value is not None]
    total = f", {duration_text(sum(known))} on two idle cores" if len(known) == len(seconds) else ""
    talk.print(f"To do: {runs} runs in {len(expected)} phases{total}.", highlight=False)
    for phase in expected:
        time_text = "" if phase.seconds is None else f"  {phase.seconds:5.0f} s"
        talk.print(f"  {phase.title:<46}{phase.num_runs:>4} run(s){time_text}", highlight=False)


class Shown:
    """The progress display: one bar a phase; underneath, what the trainings that run right now say of themselves.

    Where the output is no terminal, a line every 15 s says the same, with the time that is left.
    """

    def __init__(self, runs: Path, talk: Console, expected: Sequence[Expected]) -> None:
        self._runs, self._talk, self._left = runs, talk, TimeLeft(expected)
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.completed:.0f}/{task.total:.0f}"),
            TimeElapsedColumn(),
            TextColumn("[dim]{task.fields[note]}"),
            console=talk,
            disable=not talk.is_terminal,
        )
        self._task: TaskID | None = None
        self._phase: Phase | None = None
        self._num_done = 0
        self._start = time.monotonic()
        self._stop = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Shown:
        self._progress.start()
        self._watcher.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._watcher.join()
        self._progress.stop()

    def started(self, phase: Phase) -> None:
        """Show a new phase; one without launches is fresh."""
        self._left.begin(phase.title)
        if self._task is not None:
            self._progress.update(self._task, note="")
        if not phase.launches:
            self._talk.print(f"[green]fresh[/green]     {phase.title}")
            self._phase = self._task = None
            return
        self._phase, self._num_done = phase, 0
        self._task = self._progress.add_task(phase.title, total=len(phase.launches), note="")
        self._talk.print(f"[bold]running[/bold]   {phase.title}: {len(phase.launches)} run(s)")

    def finished(self, outcome: Outcome) -> None:
        """Advance the bar and leave a line."""
        self._num_done += 1
        if self._task is not None:
            self._progress.advance(self._task)
        state = "[red]failed[/red]   " if outcome.error else "[green]done[/green]     "
        self._talk.print(f"{state} {outcome.launch.label} in {outcome.seconds:.1f} s")

    def line(self) -> str:
        """How it goes, where there is no terminal: time passed, phase, runs done, time left, what trainings say."""
        assert self._phase is not None
        passed = int(time.monotonic() - self._start)
        parts = [
            f"{self._phase.title}: {self._num_done} of {len(self._phase.launches)} runs done",
            *self._notes(),
        ]
        return f"{passed // 60:3d}:{passed % 60:02d}     {'; '.join(parts)}"

    def _notes(self) -> Iterator[str]:
        left = self._left.seconds
        if left is not None:
            yield f"{duration_text(left)} left"
        yield from running_notes(self._runs)

    def _watch(self) -> None:
        said = time.monotonic()
        while not self._stop.wait(_SECONDS_BETWEEN_LOOKS):
            if self._talk.is_terminal:
                if self._task is not None:
                    self._progress.update(self._task, note="; ".join(self._notes()))
            elif self._phase is not None and time.monotonic() - said >= SECONDS_BETWEEN_LINES:
                self._talk.print(self.line(), markup=False, highlight=False, soft_wrap=True)
                said = time.monotonic()


def running_notes(runs: Path) -> Iterator[str]:
    """What the trainings that were active in the last seconds say of themselves."""
    for path in runs.glob("*/progress.json"):
        with _unreadable_is_skipped():
            if time.time() - path.stat().st_mtime > _RECENT_SECONDS:
                continue
            folder = RunFolder(path.parent)
            progress = folder.read_progress()
            if progress.state == "running":
                yield f"{folder.read_spec().recipe.name}: {progress_line(progress)}"


@contextmanager
def _unreadable_is_skipped() -> Iterator[None]:
    """A run folder that another process is just changing is looked at again half a second later."""
    try:
        yield
    except (FoundryError, OSError):
        return
