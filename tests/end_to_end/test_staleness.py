"""Raise a function's version, and the page and a check say which partitions are stale."""

from __future__ import annotations

import dataclasses

import dagster as dg
import pytest

from assets.graph import steps
from assets.graph.steps import STEPS
from orchestration.automation import freshness_checks, staleness_sensor
from orchestration.definitions import surroundings_of
from orchestration.freshness import asset_freshness, graph_freshness
from orchestration.profile import load_profile
from orchestration.workspace import Workspace

LEFT_TO_ALL = (
    "fine_tuned_backbone",
    "text_layer_localization",
    "text_edit_evaluation",
    "text_guard_evaluation",
    "localized_lora",
)
"""What `foundry demo --all` makes beside the demo."""
BEFORE = STEPS["recaptions"].function_version


@pytest.fixture
def raised(monkeypatch: pytest.MonkeyPatch) -> None:
    """The code of a later day: the function behind ``recaptions`` has another version."""
    later = {**STEPS, "recaptions": dataclasses.replace(STEPS["recaptions"], function_version=99)}
    for module in ("assets.graph.steps", "orchestration.catalog"):
        monkeypatch.setattr(f"{module}.STEPS", later)
    assert steps.STEPS["recaptions"].function_version == 99


def test_everything_is_fresh_after_the_demo(smoke: Workspace) -> None:
    profile = load_profile("smoke")
    states = dict(graph_freshness(profile, surroundings_of(smoke, profile)))
    for name in LEFT_TO_ALL:
        assert {state.state for state in states.pop(name)} == {"missing"}
    assert {state.state for rows in states.values() for state in rows} == {"fresh"}, states


@pytest.mark.usefixtures("raised")
def test_a_raised_version_makes_its_partitions_stale_with_the_reason(smoke: Workspace) -> None:
    profile = load_profile("smoke")
    rows = asset_freshness(profile, surroundings_of(smoke, profile), "recaptions")
    assert [(row.partition, row.state) for row in rows] == [("group-00", "stale"), ("group-01", "stale")]
    assert rows[0].because == f"function version {BEFORE} is now 99"


@pytest.mark.usefixtures("raised")
def test_the_check_and_the_sensor_report_it(smoke: Workspace) -> None:
    profile = load_profile("smoke")
    surroundings = surroundings_of(smoke, profile)
    checks = {
        check.check_key.asset_key.to_user_string(): check for check in freshness_checks(profile, surroundings)
    }
    result = checks["recaptions"]()
    assert isinstance(result, dg.AssetCheckResult)
    assert not result.passed
    assert result.metadata["partitions_stale"].value == 2
    because = f"function version {BEFORE} is now 99"
    assert result.metadata["stale"] == dg.MetadataValue.json({"group-00": because, "group-01": because})

    sensor = staleness_sensor(profile, surroundings)
    with dg.DagsterInstance.ephemeral() as instance:
        told = sensor(dg.build_sensor_context(instance=instance))
        assert isinstance(told, dg.SensorResult)
        failed = [
            event.asset_key.to_user_string()
            for event in told.asset_events
            if isinstance(event, dg.AssetCheckEvaluation) and not event.passed
        ]
        assert failed == ["recaptions"]
        again = sensor(dg.build_sensor_context(instance=instance, cursor=told.cursor))
        assert isinstance(again, dg.SkipReason), "nothing new is told twice"
