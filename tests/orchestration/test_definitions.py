"""The graph itself: pinned by a snapshot, explained to newcomers, and quick to load."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from assets.graph.steps import STEPS
from orchestration.definitions import build
from orchestration.workspace import PROJECT_ROOT, Workspace

SNAPSHOT = Path(__file__).parent / "graph_snapshot.json"
HEAVY = ("torch", "ray", "diffusers", "transformers", "open_clip", "duckdb")
MOST_OVER_BARE_IMPORT = 2.0  # usually 1.1; beside other tests up to 1.8


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> dg.Definitions:
    return build(Workspace(tmp_path_factory.mktemp("home"), "demo", "scenes"))


def describe(graph: dg.Definitions) -> dict[str, Any]:
    """Keys, dependencies, partitions, checks, jobs, schedules and sensors as plain data."""
    assets = graph.resolve_asset_graph()
    checks: dict[str, list[str]] = {}
    for check in assets.asset_check_keys:
        blocking = " (blocking)" * assets.get_check_spec(check).blocking
        checks.setdefault(check.asset_key.to_user_string(), []).append(f"{check.name}{blocking}")
    described = {}
    for key in sorted(assets.get_all_asset_keys(), key=lambda key: key.to_user_string()):
        node = assets.get(key)
        partitions = None if node.partitions_def is None else list(node.partitions_def.get_partition_keys())
        described[key.to_user_string()] = {
            "group": node.group_name,
            "kinds": sorted(node.kinds),
            "code_version": node.code_version,
            "depends_on": sorted(parent.to_user_string() for parent in node.parent_keys),
            "partitions": partitions,
            "checks": sorted(checks.get(key.to_user_string(), [])),
        }
    repository = graph.get_repository_def()
    return {
        "assets": described,
        "jobs": sorted(job.name for job in repository.get_all_jobs() if not job.name.startswith("__")),
        "schedules": {s.name: str(s.cron_schedule) for s in repository.schedule_defs},
        "sensors": sorted(sensor.name for sensor in repository.sensor_defs),
    }


def test_graph_is_the_pinned_one(graph: dg.Definitions) -> None:
    """A changed graph is a decision: run with UPDATE_SNAPSHOT=1 and commit the difference."""
    described = describe(graph)
    if os.environ.get("UPDATE_SNAPSHOT"):
        SNAPSHOT.write_text(json.dumps(described, indent=1) + "\n")
    assert described == json.loads(SNAPSHOT.read_text())


def test_every_asset_explains_itself(graph: dg.Definitions) -> None:
    assets = graph.resolve_asset_graph()
    for name in STEPS:
        node = assets.get(dg.AssetKey(name))
        assert node.description, name
        assert len(node.description) > 60, f"{name}: a newcomer learns little from {node.description!r}"
        assert node.group_name != "default"
        assert node.kinds, name
        assert node.owners, name
        assert node.code_version, name


def test_every_run_config_field_has_a_description_and_a_default(graph: dg.Definitions) -> None:
    from orchestration.catalog import GROUPS

    for name, step in STEPS.items():
        fields = GROUPS[step.group].CONFIGS[name].model_fields
        assert fields, name
        for field_name, field in fields.items():
            assert field.description, f"{name}.{field_name}"
            assert not field.is_required(), f"{name}.{field_name}"


def test_profile_values_are_the_defaults_that_the_launchpad_shows(tmp_path: Path) -> None:
    graph = build(Workspace(tmp_path, "smoke", "scenes"))
    op = graph.resolve_assets_def("demo_scenes").op
    fields = op.config_schema.config_type.fields  # type: ignore[union-attr]
    assert fields["train"].default_value == 54
    assert "perception looks" in fields["train"].description


def test_loading_is_quick_and_imports_nothing_heavy() -> None:
    """Resolving the whole repository with its assets and jobs takes at most twice what a bare ``import dagster`` does.

    Both are measured in one process, so that a slow or busy machine slows both; the best of three counts.
    """
    code = (
        "import sys, time; begin = time.process_time(); import dagster; start = time.process_time()\n"
        "from orchestration.definitions import build\n"
        "from orchestration.workspace import workspace_from_environment\n"
        "repository = build(workspace_from_environment()).get_repository_def()\n"
        "repository.load_all_definitions(); repository.get_all_jobs()\n"
        "print(time.process_time() - start, start - begin)\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])\n"
    )
    runs = [
        subprocess.run(
            [sys.executable, "-c", code], cwd=PROJECT_ROOT, capture_output=True, text=True, check=True
        )
        for _ in range(3)
    ]
    timed = [tuple(map(float, run.stdout.splitlines()[0].split())) for run in runs]
    assert [run.stdout.splitlines()[1] for run in runs] == ["[]"] * 3
    ratios = [loading / bare for loading, bare in timed]
    assert min(ratios) <= MOST_OVER_BARE_IMPORT, f"CPU seconds of loading, and of a bare import: {timed}"
