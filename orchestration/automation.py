"""What runs by itself: new shards, a refresh by the clock, cheap assets after their inputs, the look at staleness."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import dagster as dg

from assets.corpus.definitions import landed_inputs
from assets.graph.interfaces import Surroundings
from assets.graph.model_kinds import ModelKind
from assets.graph.steps import STEPS
from orchestration.freshness import Freshness, asset_freshness, graph_freshness
from orchestration.jobs import DATA
from orchestration.profile import Profile
from orchestration.resources.manifests import digest_of

REMOVAL_CHECK = "no_removed_images"


def holding_images(kinds: Iterable[ModelKind]) -> list[str]:
    """Assets that keep what an image taught them after the image has left the landed ones."""
    return ["training_shards", "judge_clip", *(kind.asset for kind in kinds if kind.holds_images)]


def landing_sensor(profile: Profile, surroundings: Surroundings) -> dg.SensorDefinition:
    """Looks into the landing folder and launches ``refresh_group`` for every shard group whose shards changed."""

    @dg.sensor(
        name="landing_folder",
        job=DATA,
        minimum_interval_seconds=profile.automation.landing_seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Launches the job `refresh_group` for each shard group whose landed shards are new or changed.",
    )
    def landing_folder(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        if surroundings.store.current("autoencoder") is None:
            return dg.SkipReason("The autoencoder has not been materialized yet; latents need it first.")
        changed = [
            state
            for state in asset_freshness(profile, surroundings, "landed_images")
            if state.state != "fresh"
        ]
        requests = [_request(profile, surroundings, state) for state in changed]
        if not requests:
            return dg.SkipReason("No shard is new or changed.")
        return dg.SensorResult(run_requests=requests)

    return landing_folder


def _request(profile: Profile, surroundings: Surroundings, state: Freshness) -> dg.RunRequest:
    assert state.partition is not None
    stamp = digest_of(landed_inputs(surroundings.landing, state.partition, surroundings.store.takedowns()))
    return dg.RunRequest(
        run_key=f"{state.partition}-{stamp[:16]}",
        partition_key=state.partition,
        tags={"foundry/because": state.because[:200] or "new"},
    )


def refresh_schedule(profile: Profile) -> dg.ScheduleDefinition:
    """Refreshes every shard group by the clock; the unpartitioned dataset follows by its automation condition.

    A schedule on one job over partitioned and unpartitioned assets together loads and then fails when it ticks,
    so the schedule asks for one run a group, and conditions do the rest.
    """

    @dg.schedule(
        name="data_refresh",
        job=DATA,
        cron_schedule=profile.automation.refresh_cron,
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.STOPPED,
        description="Refreshes every shard group; only new, changed or stale samples are perceived.",
    )
    def data_refresh(context: dg.ScheduleEvaluationContext) -> list[dg.RunRequest]:
        tick = context.scheduled_execution_time.isoformat()
        return [dg.RunRequest(run_key=f"{key}-{tick}", partition_key=key) for key in profile.group_keys]

    return data_refresh


def conditions_sensor(profile: Profile) -> dg.AutomationConditionSensorDefinition:
    """Evaluates the automation conditions of the cheap assets (statistics and the dataset)."""
    return dg.AutomationConditionSensorDefinition(
        "cheap_assets",
        target=dg.AssetSelection.all(),
        default_status=dg.DefaultSensorStatus.RUNNING,
        minimum_interval_seconds=profile.automation.conditions_seconds,
        description="Rebuilds caption statistics and training shards after their inputs changed.",
    )


def staleness_sensor(profile: Profile, surroundings: Surroundings) -> dg.SensorDefinition:
    """Reports, as observations and check results, which partitions the code or settings have left behind."""

    @dg.sensor(
        name="staleness",
        minimum_interval_seconds=profile.automation.staleness_seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Compares every version with what the code and settings would make now.",
    )
    def staleness(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        states = graph_freshness(profile, surroundings)
        removed = {name: removed_behind(surroundings, name) for name in holding_images(profile.recipes.kinds)}
        stated = {name: [(s.partition, s.state, s.because) for s in rows] for name, rows in states.items()}
        cursor = digest_of([stated, removed])
        if cursor == context.cursor:
            return dg.SkipReason("Nothing became fresh or stale since the last look.")
        events: list[dg.AssetObservation | dg.AssetCheckEvaluation] = []
        for name, rows in states.items():
            stale = [row for row in rows if row.state == "stale"]
            metadata = staleness_metadata(rows)
            events.append(dg.AssetObservation(name, metadata=metadata))
            events.append(
                dg.AssetCheckEvaluation(
                    asset_key=dg.AssetKey(name),
                    check_name="fresh",
                    passed=not stale,
                    severity=dg.AssetCheckSeverity.WARN,
                    metadata=metadata,
                )
            )
        events += [removal_evaluation(name, found) for name, found in removed.items()]
        return dg.SensorResult(asset_events=events, cursor=cursor)

    return staleness


def staleness_metadata(rows: list[Freshness]) -> dict[str, dg.MetadataValue | int]:
    """Counts and the list of stale partitions with their reasons."""
    stale = {row.partition or "(unpartitioned)": row.because for row in rows if row.state == "stale"}
    return {
        "partitions_fresh": sum(row.state == "fresh" for row in rows),
        "partitions_stale": len(stale),
        "partitions_missing": sum(row.state == "missing" for row in rows),
        "stale": dg.MetadataValue.json(stale),
    }


def freshness_checks(profile: Profile, surroundings: Surroundings) -> list[dg.AssetChecksDefinition]:
    """One check an asset: is every partition what the code and settings of now would make?"""
    return [_freshness_check(profile, surroundings, name) for name in STEPS]


def _freshness_check(profile: Profile, surroundings: Surroundings, name: str) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=name,
        name="fresh",
        description="Every partition is what today's code, settings and inputs would make; the stale ones are listed.",
    )
    def fresh() -> dg.AssetCheckResult:
        rows = asset_freshness(profile, surroundings, name)
        return dg.AssetCheckResult(
            passed=not any(row.state == "stale" for row in rows),
            severity=dg.AssetCheckSeverity.WARN,
            metadata=staleness_metadata(rows),
        )

    return fresh


def removed_behind(surroundings: Surroundings, name: str) -> dict[str, list[str]]:
    """By partition, images that were taken down and that the newest version was made from; empty where none was."""
    from assets.versioning.removal import removed_images_behind

    if not surroundings.store.takedowns():
        return {}
    keys: list[str | None] = [*surroundings.store.partitions(name)] or [None]
    found: dict[str, list[str]] = {}
    for key in keys:
        manifest = surroundings.store.current(name, key)
        images = [] if manifest is None else removed_images_behind(surroundings.store, manifest)
        if images:
            found[key or "(unpartitioned)"] = images
    return found


def removal_checks(surroundings: Surroundings) -> list[dg.AssetChecksDefinition]:
    """One check for each asset that outlives a takedown: was a newest version made from an image since removed?"""
    return [_removal_check(surroundings, name) for name in holding_images(surroundings.models.recipes.kinds)]


def removal_evaluation(name: str, found: Mapping[str, list[str]]) -> dg.AssetCheckEvaluation:
    """The check's outcome as an event, for the sensor."""
    return dg.AssetCheckEvaluation(
        asset_key=dg.AssetKey(name),
        check_name=REMOVAL_CHECK,
        passed=not found,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"removed_images": dg.MetadataValue.json(dict(found))},
    )


def _removal_check(surroundings: Surroundings, name: str) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=name,
        name=REMOVAL_CHECK,
        description="No newest version was made from an image that has been taken down since (`foundry remove`).",
    )
    def no_removed_images() -> dg.AssetCheckResult:
        found = removed_behind(surroundings, name)
        return dg.AssetCheckResult(
            passed=not found,
            severity=dg.AssetCheckSeverity.WARN,
            metadata={"removed_images": dg.MetadataValue.json(found)},
        )

    return no_removed_images
