"""The one graph that every Dagster command, the UI and ``foundry`` load."""

from __future__ import annotations

import dagster as dg

from assets.corpus.partitions import shard_groups
from assets.graph.interfaces import Landing, Models, Resources, Surroundings
from assets.models.partitions import model_partitions, recipe_partitions
from orchestration import automation
from orchestration.catalog import GROUPS, check_profile_defaults
from orchestration.collector import collect_seldom
from orchestration.jobs import all_jobs
from orchestration.profile import Profile, load_profile
from orchestration.resources.compute import InlineCompute, RayCompute
from orchestration.resources.perception import ProfilePerception
from orchestration.resources.store import ManifestStore
from orchestration.workspace import Workspace, workspace_from_environment


def compute_of(profile: Profile) -> InlineCompute | RayCompute:
    """Where a profile's work runs. Computes of one process share its Ray."""
    limits = profile.compute
    if limits.mode == "inline":
        return InlineCompute()
    return RayCompute(limits.cpus, limits.address, limits.inline_rows)


def surroundings_of(workspace: Workspace, profile: Profile) -> Surroundings:
    """The real store, compute, perception, landing folder and recipes of a workspace."""
    limits = profile.compute
    return Surroundings(
        store=ManifestStore(workspace.store),
        compute=compute_of(profile),
        perception=ProfilePerception(
            profile.perception,
            profile.world_path,
            workspace.root / "cache",
            limits.threads_per_worker,
            workers_see_cache=limits.address is None,
        ),
        landing=Landing(
            source=workspace.data,
            folder=workspace.landing,
            group_keys=tuple(profile.group_keys),
            world_path=profile.world_path,
            is_composed=workspace.is_composed,
        ),
        models=Models(
            recipes=profile.recipes,
            judge=profile.judge,
            autoencoder=profile.autoencoder,
            runs=workspace.runs,
            resources=Resources(
                gpus=limits.gpus_per_training,
                threads=limits.threads_per_worker,
                workers=limits.workers_per_training,
                strategy=limits.training_strategy,
            ),
            text_encoder=profile.text_encoder,
            distillation_study=profile.distillation_study,
            execution=profile.execution,
            grid=profile.grid,
        ),
    )


def build(workspace: Workspace, profile: Profile | None = None) -> dg.Definitions:
    """Assets, checks, jobs, sensors and schedules of a workspace, with the real resources behind them.

    ``profile`` is the workspace's own where none is given.
    """
    profile = profile or load_profile(workspace.profile)
    check_profile_defaults(profile)
    surroundings = surroundings_of(workspace, profile)
    groups = shard_groups(profile.group_keys)
    partitions = {
        "models": model_partitions(profile.recipes),
        "scaling": recipe_partitions(profile.grid_keys),
        "evaluation": None,
        "reports": None,
    }
    assets = [
        asset
        for name, group in GROUPS.items()
        for asset in group.build_definitions(
            partitions.get(name, groups), profile.assets, profile.compute.pool
        )
    ]
    return dg.Definitions(
        assets=assets,
        asset_checks=[
            *automation.freshness_checks(profile, surroundings),
            *automation.removal_checks(surroundings),
        ],
        jobs=all_jobs(profile.recipes.kinds),
        schedules=[automation.refresh_schedule(profile)],
        sensors=[
            automation.landing_sensor(profile, surroundings),
            automation.conditions_sensor(profile),
            automation.staleness_sensor(profile, surroundings),
        ],
        resources={
            "store": surroundings.store,
            "compute": surroundings.compute,
            "perception": surroundings.perception,
            "landing": surroundings.landing,
            "models": surroundings.models,
            "surroundings": surroundings,
        },
        executor=dg.in_process_executor,
    )


@dg.definitions
def defs() -> dg.Definitions:
    """The graph of the workspace that the environment names. Dagster's processes begin here: its server's and each run's."""
    collect_seldom()
    return build(workspace_from_environment())
