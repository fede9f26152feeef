"""What a refresh with one per cent new images costs beside a full build: model calls and seconds, one process."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path

import dagster as dg
import pytest

from assets.graph.steps import STEPS
from orchestration.definitions import build, surroundings_of
from orchestration.freshness import asset_freshness
from orchestration.instance import open_instance
from orchestration.launching import Launch, run_launch
from orchestration.profile import load_profile
from orchestration.workspace import Workspace

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(900)]
TRAIN = 2400
NEW = 24  # one per cent; at half this size loading models and the tables of all groups weigh more (6 %)
DERIVED = [name for name, step in STEPS.items() if step.partitioned_by == "groups"][2:]


class Bench:
    """A workspace at demo size whose data part is built and refreshed in this process, as a warm worker would."""

    def __init__(self, root: Path) -> None:
        self.workspace = Workspace(root, "demo", "scenes")
        self.profile = load_profile("demo")
        self.surroundings = surroundings_of(self.workspace, self.profile)
        self.definitions = build(self.workspace)

    def run(self, instance: dg.DagsterInstance, *launches: Launch) -> float:
        """Wall seconds of some runs, one after the other."""
        start = time.perf_counter()
        for launch in launches:
            outcome = run_launch(self.definitions, instance, launch)
            assert outcome.error is None, outcome.error
        return time.perf_counter() - start

    def data(self, instance: dg.DagsterInstance) -> tuple[float, Mapping[str, int]]:
        """Seconds and computed units by asset of bringing every stale shard group, and the dataset, up to date."""
        keys = [
            state.partition
            for state in asset_freshness(self.profile, self.surroundings, "landed_images")
            if state.state != "fresh"
        ]
        launches = [Launch("refresh_group", key) for key in keys]
        seconds = self.run(instance, *launches, Launch("assemble_dataset"))
        computed = dict.fromkeys(DERIVED, 0)
        for name in DERIVED:
            for key in keys:
                computed[name] += units_computed(instance, name, key)
        return seconds, computed


def units_computed(instance: dg.DagsterInstance, name: str, partition: str | None) -> int:
    """What the newest materialization of a partition says it asked its model for."""
    records = instance.fetch_materializations(
        dg.AssetRecordsFilter(asset_key=dg.AssetKey(name), asset_partitions=[str(partition)]), limit=1
    ).records
    metadata = records[0].asset_materialization.metadata  # type: ignore[union-attr]
    return int(metadata["units_computed"].value) if "units_computed" in metadata else 0  # type: ignore[arg-type]


def test_one_per_cent_new_images(tmp_path: Path) -> None:
    before = dict(os.environ)
    bench = Bench(tmp_path)
    os.environ.update(bench.workspace.environment())
    try:
        with open_instance(bench.workspace, bench.profile) as instance:
            model = bench.surroundings.perception.model("regions")
            assert model is not None
            model.worker()  # the concept bank is fitted once a machine: neither build pays for it
            scenes = {"train": TRAIN, "judge": 1, "held_out_images": 128, "held_out_concepts": 128}
            bench.run(instance, Launch("compose_scenes", config={"demo_scenes": scenes}))
            bench.run(instance, Launch("publish_autoencoder"))
            full, computed_full = bench.data(instance)
            more = {**scenes, "train": TRAIN + NEW}
            bench.run(instance, Launch("compose_scenes", config={"demo_scenes": more}))
            refresh, computed = bench.data(instance)
            nothing, _ = bench.data(instance)
    finally:
        os.environ.clear()
        os.environ.update(before)
    print(
        f"\nfull build {full:.1f} s, refresh with {NEW} of {TRAIN} images {refresh:.2f} s ({refresh / full:.1%})"
    )
    print(f"nothing new: {nothing:.2f} s")
    for name in DERIVED:
        print(f"{name:20} units asked: {computed_full[name]:6,} full, {computed[name]:4,} refresh")
    assert computed["regions"] == NEW
    assert all(count <= 6 * NEW for count in computed.values())
    assert refresh <= 0.05 * full
