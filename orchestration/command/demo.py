"""``foundry demo``: run what is not fresh, show how it goes, end with a table and the report's path."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from assets.graph.interfaces import Surroundings
from assets.reports.ledger import DEMO_LEDGER
from orchestration.command.output import console, errors, place_report, print_rows
from orchestration.demo import DemoResult, Phase, all_versions, run_demo
from orchestration.instance import enter_environment
from orchestration.launching import Outcome
from orchestration.profile import Profile, load_profile
from orchestration.resources.following import progress_line
from orchestration.workspace import Workspace
from training.errors import FoundryError
from training.run_folder import RunFolder

_RECENT_SECONDS = 15.0


def run(
    workspace: Workspace, *, train_autoencoder: bool, everything: bool, as_json: bool, process_start: float
) -> int:
    """Bring the graph up to date; returns the exit code."""
    profile = load_profile(workspace.profile)
    check_landing(workspace)
    if train_autoencoder and profile.teachers:
        raise FoundryError(
            f"--train-autoencoder makes other latents than those in which profile {profile.name}'s teachers "
            f"({', '.join(profile.teachers)}) paint. To make autoencoder and teachers again: foundry teachers "
            "--train-autoencoder. To use only a new autoencoder: set `teachers: []` in the profile and let "
            "step_distilled.yaml start from its backbones."
        )
    talk = errors if as_json else console  # with --json, standard output holds nothing but JSON
    talk.print(
        f"[bold]T2I Foundry[/bold] demo: profile {profile.name}, data '{workspace.data}', in {workspace.root}"
    )
    surroundings, result = materialize(
        workspace,
        profile,
        talk,
        train_autoencoder=train_autoencoder,
        everything=everything,
        seconds_so_far=time.time() - process_start,
    )
    if result.error:
        raise FoundryError(
            f"The demo stopped. {result.error} What was finished is kept: run it again to go on."
        )
    _print_end(
        talk, surroundings, workspace.root, result, all_versions(profile, surroundings), as_json=as_json
    )
    talk.print(f"{time.time() - process_start:.0f} s in all. Look at everything in the Dagster UI: make ui")
    return 0


def materialize(
    workspace: Workspace, profile: Profile, talk: Console, **how: Any
) -> tuple[Surroundings, DemoResult]:
    """Run what is not fresh and show how it goes; ``how`` are keywords of :func:`orchestration.demo.run_demo`."""
    enter_environment(workspace)
    from orchestration.definitions import surroundings_of

    surroundings = surroundings_of(workspace, profile)
    with _Shown(workspace.runs, talk) as shown:
        result = run_demo(workspace, profile, surroundings, shown.started, shown.finished, **how)
    return surroundings, result


def check_landing(workspace: Workspace) -> None:
    """Raise FoundryError when the source that `--data` names has not landed."""
    if workspace.is_composed:
        return
    if not any(path.is_file() for path in workspace.landing.glob("*")):
        landed = sorted(path.name for path in workspace.landing_root.glob("*") if path.is_dir())
        raise FoundryError(
            f"Nothing has landed under the name '{workspace.data}' ({workspace.landing}). "
            f"Import it first: foundry import SOURCE --name {workspace.data}. "
            f"Landed so far: {', '.join(landed) or 'nothing'}."
        )


class _Shown:
    """The progress display: one bar a phase; underneath, what the trainings that run right now say of themselves."""

    def __init__(self, runs: Path, talk: Console) -> None:
        self._runs = runs
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.completed:.0f}/{task.total:.0f}"),
            TimeElapsedColumn(),
            TextColumn("[dim]{task.fields[note]}"),
            console=talk,
        )
        self._task: TaskID | None = None
        self._stop = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> _Shown:
        self._progress.start()
        self._watcher.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._watcher.join()
        self._progress.stop()

    def started(self, phase: Phase) -> None:
        """Show a new phase; one without launches is fresh."""
        if self._task is not None:
            self._progress.update(self._task, note="")
        if not phase.launches:
            self._progress.console.print(f"[green]fresh[/green]     {phase.title}")
            self._task = None
            return
        self._task = self._progress.add_task(phase.title, total=len(phase.launches), note="")
        self._progress.console.print(f"[bold]running[/bold]   {phase.title}: {len(phase.launches)} run(s)")

    def finished(self, outcome: Outcome) -> None:
        """Advance the bar and leave a line."""
        if self._task is not None:
            self._progress.advance(self._task)
        state = "[red]failed[/red]   " if outcome.error else "[green]done[/green]     "
        self._progress.console.print(f"{state} {outcome.launch.label} in {outcome.seconds:.1f} s")

    def _watch(self) -> None:
        while not self._stop.wait(0.5):
            if self._task is not None:
                self._progress.update(self._task, note="; ".join(_running_notes(self._runs)))


def _running_notes(runs: Path) -> Iterator[str]:
    """What the trainings that were active in the last seconds say of themselves."""
    for path in runs.glob("*/progress.json"):
        if time.time() - path.stat().st_mtime > _RECENT_SECONDS:
            continue
        with _unreadable_is_skipped():
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


def _print_end(
    talk: Console, surroundings: Surroundings, root: Path, result: DemoResult, versions: int, *, as_json: bool
) -> None:
    from assets.evaluation.summary import summary_rows

    rows = summary_rows(surroundings.store.read_table("evaluation_table"))
    print_rows(rows, as_json=as_json, title="Models (demo-scale results)")
    if not result.launched:
        talk.print(f"Everything is fresh: {versions} versions, every byte checked; nothing had to run.")
    budgets = {stage.name: stage.budget_seconds for stage in DEMO_LEDGER}
    spent = ", ".join(
        f"{stage} {seconds:.0f} of {budgets.get(stage, 0):.0f}"
        for stage, seconds in result.seconds_by_stage.items()
        if seconds >= 0.5
    )
    talk.print(f"Seconds by stage, of the demo's ledger: {spent}.", highlight=False)
    talk.print(f"Report: {place_report(surroundings.store, root)}", highlight=False, soft_wrap=True)
