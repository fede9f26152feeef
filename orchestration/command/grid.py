"""``foundry grid``: where every point of the scaling grid stands; ``foundry grid launch`` runs what is missing."""

from __future__ import annotations

import typer
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from orchestration.command.arguments import AsJson, Data, workspace
from orchestration.command.output import console, errors, print_rows
from orchestration.launching import Outcome
from orchestration.workspace import Workspace

commands = typer.Typer(
    help="The scaling grid: its points, their states, and one launch for all that is missing."
)


@commands.callback(invoke_without_command=True)
def show(context: typer.Context, data: Data = None, as_json: AsJson = False) -> None:
    """Every point of the scaling grid: state, images seen, seconds, seconds left and score."""
    if context.invoked_subcommand is None:
        _print(workspace(data), as_json=as_json)


@commands.command()
def launch(data: Data = None, as_json: AsJson = False) -> None:
    """Train and score every point that is missing or stale, several at once; launch again to go on after a stop."""
    from orchestration.definitions import surroundings_of
    from orchestration.grid import launch_grid
    from orchestration.instance import enter_environment
    from orchestration.profile import load_profile

    place = workspace(data)
    profile = load_profile(place.profile)
    enter_environment(place)
    talk = errors if as_json else console  # with --json, standard output holds nothing but JSON
    columns = (
        TextColumn("scaling grid"),
        BarColumn(bar_width=24),
        TextColumn("{task.completed:.0f}/{task.total:.0f}"),
    )
    with Progress(*columns, TimeElapsedColumn(), console=talk) as progress:
        task: TaskID = progress.add_task("points", total=0)

        def finished(outcome: Outcome) -> None:
            progress.advance(task)
            state = "[red]failed[/red]" if outcome.error else "[green]done[/green]  "
            progress.console.print(f"{state} {outcome.launch.label} in {outcome.seconds:.1f} s")

        outcomes = launch_grid(
            place,
            profile,
            surroundings_of(place, profile),
            lambda count: progress.update(task, total=count + 1 if count else 1),
            finished,
        )
    failed = [outcome for outcome in outcomes if outcome.error]
    for outcome in failed:
        errors.print(f"{outcome.launch.label}: {outcome.error}", highlight=False, markup=False)
    if not outcomes:
        talk.print("Every point is fresh; nothing had to run.")
    _print(place, as_json=as_json)
    if failed:
        raise typer.Exit(2)


def _print(place: Workspace, *, as_json: bool) -> None:
    from assets.scaling.points import check_grid
    from assets.scaling.progress import grid_rows
    from orchestration.definitions import surroundings_of
    from orchestration.profile import load_profile

    profile = load_profile(place.profile)
    around = surroundings_of(place, profile)
    check_grid(around.models)
    rows = [row.cells() for row in grid_rows(around.store, around.models)]
    print_rows(rows, as_json=as_json, title=f"Scaling grid, profile {profile.name}")
