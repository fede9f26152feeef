"""``foundry demo``: run what is not fresh, show how it goes, end with a table and the report's path."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from rich.console import Console

from assets.graph.interfaces import Surroundings
from assets.reports.ledger import DEMO_LEDGER
from orchestration.command.output import console, errors, place_report, print_rows
from orchestration.command.showing import Shown, print_outlook
from orchestration.demo import DemoResult, all_versions, run_demo
from orchestration.instance import enter_environment
from orchestration.outlook import outlook
from orchestration.profile import Profile, load_profile
from orchestration.workspace import Workspace
from training.errors import FoundryError


def run(
    workspace: Workspace, *, train_autoencoder: bool, everything: bool, as_json: bool, process_start: float
) -> int:
    """Bring the graph up to date; returns the exit code."""
    profile = load_profile(workspace.profile)
    check_landing(workspace)
    teachers = profile.of("teacher_backbone")
    if train_autoencoder and teachers:
        raise FoundryError(
            f"--train-autoencoder makes other latents than those in which profile {profile.name}'s teachers "
            f"({', '.join(teachers)}) paint. To make an autoencoder with teachers of its own: foundry "
            "teachers --train-autoencoder. To use only a new autoencoder: set `teachers: []` in the profile and let "
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
    expected = outlook(
        profile,
        surroundings,
        how.get("train_autoencoder", False),
        everything=how.get("everything", False),
        until=how.get("until"),
    )
    print_outlook(expected, talk)
    much = sum(phase.num_runs for phase in expected) > profile.compute.concurrent_runs
    with Shown(workspace.runs, talk, expected) as shown:
        result = run_demo(
            workspace, profile, surroundings, shown.started, shown.finished, much_to_do=much, **how
        )
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
