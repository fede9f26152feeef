"""The scaling grid as one backfill: what of it is not fresh, launched like every other run, and its page at the end."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from assets.graph.interfaces import Surroundings
from orchestration.freshness import needs_run
from orchestration.launching import Launch, Outcome, launch_pool
from orchestration.profile import Profile
from orchestration.workspace import Workspace
from training.errors import FoundryError

GRID_STEPS = ("scaling_run", "scaling_scores")
_NEEDED = ("training_shards", "autoencoder", "judge_clip")


def largest_first(profile: Profile, keys: Sequence[str]) -> list[str]:
    """Points with the largest backbone first, so that no long run is left for the end; then in order of the grid.

    Backbones are weighed only where there is a choice: that takes seconds.
    """
    if profile.grid is None or len(keys) < 2:
        return list(keys)
    from assets.scaling.points import parameters_of

    sizes, points = profile.grid.sizes, profile.grid.points
    return sorted(keys, key=lambda key: -parameters_of(sizes[points[key].size].backbone))


def missing_points(profile: Profile, surroundings: Surroundings) -> list[str]:
    """Points that are missing, stale or damaged, in the order in which they are launched."""
    missing = [
        key
        for key in profile.grid_keys
        if any(needs_run(profile, surroundings, name, key) for name in GRID_STEPS)
    ]
    return largest_first(profile, missing)


def launch_grid(
    workspace: Workspace,
    profile: Profile,
    surroundings: Surroundings,
    started: Callable[[int], None],
    finished: Callable[[Outcome], None],
) -> list[Outcome]:
    """Run every point that is not fresh, then write the grid's page; one failed point does not stop the others.

    Interrupted and launched again, finished points are skipped and a half-trained one goes on from its checkpoint.
    Raises FoundryError when the data or the judge are not there yet.
    """
    missing = [name for name in _NEEDED if surroundings.store.current(name) is None]
    if missing:
        raise FoundryError(
            f"The scaling grid reads {', '.join(missing)}, not materialized yet. Run `foundry demo` first, or "
            "materialize them in the UI."
        )
    points = missing_points(profile, surroundings)
    started(len(points))
    with launch_pool(workspace, profile.compute.concurrent_runs) as pool:
        outcomes = pool.run([Launch("train_grid_point", key) for key in points], finished)
        if points or needs_run(profile, surroundings, "scaling_grid", None):
            outcomes += pool.run([Launch("summarise_grid")], finished)
    return outcomes
