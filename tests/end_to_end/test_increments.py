"""What materializing again really asks of models: through Dagster's own runs, over the finished smoke workspace."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from assets.graph.steps import STEPS
from orchestration.automation import removed_behind
from orchestration.definitions import surroundings_of
from orchestration.freshness import asset_freshness
from orchestration.profile import load_profile
from orchestration.resources.store import ManifestStore
from orchestration.workspace import Workspace
from tests.end_to_end.conftest import Runs, copy_of, foundry, runs_in

GROUP = "group-00"
BY_GROUP = [name for name, step in STEPS.items() if step.partitioned_by == "groups"]


class Refreshes:
    """Refreshes of one shard group, and what they asked of models."""

    def __init__(self, runs: Runs) -> None:
        self._runs = runs

    def refresh(self, **config: Mapping[str, Any]) -> dict[str, int]:
        """Units that each asset's model was asked for."""
        self._runs.launch("refresh_group", GROUP, config)
        return {name: computed for name in BY_GROUP if (computed := self._computed(name)) is not None}

    def _computed(self, name: str) -> int | None:
        records = self._runs.instance.fetch_materializations(
            dg.AssetRecordsFilter(asset_key=dg.AssetKey(name), asset_partitions=[GROUP]), limit=1
        ).records
        metadata = records[0].asset_materialization.metadata  # type: ignore[union-attr]
        return int(metadata["units_computed"].value) if "units_computed" in metadata else None  # type: ignore[arg-type]


@pytest.fixture
def runs(smoke: Workspace) -> Iterator[Refreshes]:
    with runs_in(smoke) as found:
        yield Refreshes(found)


def test_nothing_new_asks_no_model(runs: Refreshes, store: ManifestStore) -> None:
    before = {name: store.require(name, GROUP).digest for name in BY_GROUP}
    computed = runs.refresh()
    assert len(computed) == 9
    assert set(computed.values()) == {0}
    assert {name: store.require(name, GROUP).digest for name in BY_GROUP} == before


def test_a_changed_threshold_selects_again_and_asks_no_model(runs: Refreshes, store: ManifestStore) -> None:
    captions, entities = store.read_table("recaptions", GROUP), store.read_table("entity_annotations", GROUP)
    stricter: dict[str, dict[str, Any]] = {
        "recaptions": {"captions_per_image": 1},
        "entity_annotations": {"min_score": 0.9},
    }
    computed = runs.refresh(**stricter)
    assert set(computed.values()) == {0}
    fewer, kept = store.read_table("recaptions", GROUP), store.read_table("entity_annotations", GROUP)
    assert sum(fewer["keep"].to_pylist()) < sum(captions["keep"].to_pylist())
    assert sum(kept["keep"].to_pylist()) < sum(entities["keep"].to_pylist())
    assert fewer.num_rows == captions.num_rows, "what is dropped stays, with the reason"
    assert set(runs.refresh().values()) == {0}, "and back again"
    assert store.read_table("entity_annotations", GROUP).equals(entities)


def test_an_image_that_is_taken_down_leaves_and_comes_back(smoke: Workspace, tmp_path: Path) -> None:
    workspace = copy_of(smoke, tmp_path)
    store = ManifestStore(workspace.store)
    profile, surroundings = load_profile("smoke"), surroundings_of(workspace, load_profile("smoke"))
    landed = store.read_table("landed_images", GROUP, ["sample_id", "image_id", "split"]).to_pylist()
    gone = next(row for row in landed if row["split"] == "train")
    before = {name: store.read_table(name, GROUP).num_rows for name in BY_GROUP}
    with runs_in(workspace) as launched:
        runs = Refreshes(launched)
        done = foundry(workspace, "remove", gone["image_id"], "--because", "asked to")
        assert done.code == 0, done.err
        states = asset_freshness(profile, surroundings, "landed_images")
        assert {state.state for state in states} == {"stale"}
        assert "takedowns" in states[0].because
        assert set(runs.refresh().values()) == {0}
        for name in BY_GROUP:
            table = store.read_table(name, GROUP)
            assert table.num_rows <= before[name]
            if "sample_id" in table.column_names:
                assert gone["sample_id"] not in table["sample_id"].to_pylist(), name
        assert removed_behind(surroundings, "backbone")["transformer-tiny"] == [gone["image_id"]]
        assert "trained on" in foundry(workspace, "impact", gone["image_id"], "--json").out
        assert foundry(workspace, "remove", gone["image_id"], "--undo").code == 0
        computed = runs.refresh()
    assert computed["regions"] == 1, "the image is looked at again, and no other"
    assert {name: store.read_table(name, GROUP).num_rows for name in BY_GROUP} == before
    assert removed_behind(surroundings, "backbone") == {}
