from __future__ import annotations

from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from assets.corpus.curation import curate
from assets.corpus.image_io import decode_rgb
from assets.corpus.landing import land_shard, list_shards
from assets.corpus.scenes import World, build_scenes, land_scenes, load_world
from assets.graph.schemas import SCENE_TRUTH
from evaluation.metrics.hidden_layout import visible_masks
from tests.assets.corpus.makers import PROFILES
from training.errors import FoundryError

COUNTS = {"train": 25, "judge": 10, "held_out_images": 3, "held_out_concepts": 3}


@pytest.fixture(scope="module")
def world() -> World:
    return load_world(PROFILES / "smoke" / "world.yaml")


def _state(folder: Path) -> dict[str, tuple[str, int]]:
    return {shard.name: (shard.sha256, shard.path.stat().st_mtime_ns) for shard in list_shards(folder)}


def test_landed_scenes_are_the_built_ones_and_join_their_truth(world: World, tmp_path: Path) -> None:
    truth = land_scenes(world, tmp_path, COUNTS, seed=0, scenes_per_shard=10)
    assert truth.schema.equals(SCENE_TRUTH)
    rows = [row for s in list_shards(tmp_path) for row in land_shard(s, "scenes").images.to_pylist()]
    assert {row["sample_id"] for row in rows} == set(truth["sample_id"].to_pylist())
    by_key = {row["key"]: row for row in rows}
    told = {row["key"]: row for row in truth.to_pylist()}
    assert len(by_key) == sum(COUNTS.values())
    for split, count in COUNTS.items():
        for scene in build_scenes(world, split, count, 0):
            row = by_key[scene.key]
            assert (decode_rgb(row["image"]) == scene.image).all()
            assert (row["alt_text"], row["split"], row["license"]) == (scene.alt_text, split, scene.license)
            assert [item["name"] for item in told[scene.key]["objects"]] == [o.name for o in scene.objects]
            assert told[scene.key]["word"] == scene.word
            assert visible_masks(told[scene.key]).sum(axis=(1, 2)).min() > 0


def test_shards_hold_nothing_of_the_truth(world: World, tmp_path: Path) -> None:
    land_scenes(world, tmp_path, {"train": 5}, seed=0)
    (shard,) = list_shards(tmp_path)
    assert pq.read_schema(shard.path).names == ["image", "text", "key", "split", "license", "attribution"]


def test_flawed_scenes_land_in_training_and_curation_drops_each(world: World, tmp_path: Path) -> None:
    truth = land_scenes(world, tmp_path, COUNTS, seed=0, flawed=8)
    landed = pa.concat_tables([land_shard(shard, "scenes").images for shard in list_shards(tmp_path)])
    assert landed.num_rows == truth.num_rows == sum(COUNTS.values()) + 8
    curated = curate(landed)
    reasons = Counter(curated["dropped_because"].to_pylist())
    assert (reasons["duplicate"], reasons["too_small"], reasons[""]) == (4, 4, sum(COUNTS.values()))


def test_repeating_changes_nothing_and_growing_leaves_full_shards_alone(world: World, tmp_path: Path) -> None:
    land_scenes(world, tmp_path, COUNTS, seed=0, scenes_per_shard=10)
    before = _state(tmp_path)
    land_scenes(world, tmp_path, COUNTS, seed=0, scenes_per_shard=10)
    assert _state(tmp_path) == before
    land_scenes(world, tmp_path, COUNTS | {"train": 31}, seed=0, scenes_per_shard=10)
    after = _state(tmp_path)
    changed = {name for name in after if after[name] != before.get(name)}
    assert changed == {"scenes-train-00002.parquet", "scenes-train-00003.parquet"}


def test_shrinking_removes_own_shards_only(world: World, tmp_path: Path) -> None:
    land_scenes(world, tmp_path, {"train": 25}, seed=0, scenes_per_shard=10)
    foreign = tmp_path / "scenes-of-paris.parquet"
    foreign.write_bytes(b"somebody's")
    land_scenes(world, tmp_path, {"train": 10}, seed=0, scenes_per_shard=10)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "scenes-of-paris.parquet",
        "scenes-train-00000.parquet",
    ]


def test_bad_arguments_are_refused(world: World, tmp_path: Path) -> None:
    with pytest.raises(FoundryError, match="scenes_per_shard is 0"):
        land_scenes(world, tmp_path, COUNTS, seed=0, scenes_per_shard=0)
    with pytest.raises(FoundryError, match="split is 'valid'"):
        land_scenes(world, tmp_path, {"valid": 1}, seed=0)
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(FoundryError, match="cannot be written"):
        land_scenes(world, tmp_path / "file", {"train": 1}, seed=0)
