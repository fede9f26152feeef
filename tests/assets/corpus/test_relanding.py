"""Landing again: what is kept of unchanged shards, and what was taken down."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

import assets.corpus.landing as landing_module
from assets.corpus.curation import curate
from assets.corpus.identity import image_id_of
from assets.corpus.landing import REMOVED, LandedBatch, LandedBefore, group_shards, land_group
from assets.corpus.relanding import landed_before
from assets.graph.interfaces import Landing
from assets.graph.versions import Provenance
from orchestration.resources.store import ManifestStore
from tests.assets.corpus.makers import picture, write_parquet

GROUP = "group-00"


@pytest.fixture
def landing(tmp_path: Path) -> Landing:
    folder = tmp_path / "landing"
    folder.mkdir()
    for name, numbers in {"a": (0, 1), "b": (2, 3)}.items():
        rows = [{"image": picture(number), "text": f"text {number}"} for number in numbers]
        write_parquet(folder / f"{name}.parquet", [*rows, {"image": b"broken", "text": "x"}])
    return Landing("mine", folder, (GROUP,), tmp_path / "world.yaml", False)


def _before(landing: Landing, rows: tuple[pa.Table, pa.Table]) -> LandedBefore:
    shards = {shard.name: shard.sha256 for shard in group_shards(landing, GROUP)}
    return LandedBefore(LandedBatch(*rows), shards)


def _read_again(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of shards that are read from here on."""
    names: list[str] = []
    land = landing_module.land_shard

    def noted(shard: landing_module.Shard, source: str, max_pixels: int) -> LandedBatch:
        names.append(shard.name)
        return land(shard, source, max_pixels)

    monkeypatch.setattr(landing_module, "land_shard", noted)
    return names


def test_only_changed_shards_are_read_again(landing: Landing, monkeypatch: pytest.MonkeyPatch) -> None:
    first = land_group(landing, GROUP)
    before = _before(landing, first)
    write_parquet(landing.folder / "b.parquet", [{"image": picture(7), "text": "another"}])
    expected = land_group(landing, GROUP)
    names = _read_again(monkeypatch)
    landed, quarantined = land_group(landing, GROUP, before=before)
    assert names == ["b.parquet"]
    assert landed.equals(expected[0])
    assert quarantined.equals(expected[1])


def test_a_removed_image_is_set_aside_and_comes_back(
    landing: Landing, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = land_group(landing, GROUP)
    gone = image_id_of(picture(2))
    names = _read_again(monkeypatch)
    landed, quarantined = land_group(landing, GROUP, before=_before(landing, whole), removed={gone})
    assert names == [], "no shard is read to leave an image out"
    assert gone not in landed["image_id"].to_pylist()
    assert landed.num_rows == whole[0].num_rows - 1
    (row,) = [row for row in quarantined.to_pylist() if row["reason"] == REMOVED]
    assert (row["shard"], row["detail"]) == ("b.parquet", f"image {gone} was taken down")
    again, after = land_group(landing, GROUP, before=_before(landing, (landed, quarantined)))
    assert names == ["b.parquet"]
    assert again.equals(whole[0])
    assert REMOVED not in after["reason"].to_pylist()


def test_nothing_is_kept_of_a_landing_by_other_settings(landing: Landing, tmp_path: Path) -> None:
    store = ManifestStore(tmp_path / "store")
    shards = {f"shard:{shard.name}": shard.sha256 for shard in group_shards(landing, GROUP)}
    made = Provenance("landed_images", 1, {"max_pixels": 100_000}, {**shards, "takedowns": "x"})
    assert landed_before(store, made, GROUP, print) is None
    landed, quarantined = land_group(landing, GROUP)
    store.write_table("quarantine", quarantined, made, GROUP)
    store.write_table("landed_images", landed, made, GROUP)
    before = landed_before(store, made, GROUP, print)
    assert before is not None
    assert set(before.shards) == {"a.parquet", "b.parquet"}
    assert before.rows.images.equals(landed)
    assert landed_before(store, Provenance("landed_images", 2, {"max_pixels": 100_000}), GROUP, print) is None
    assert landed_before(store, Provenance("landed_images", 1, {"max_pixels": 5}), GROUP, print) is None


def test_known_fingerprints_spare_decoding(landing: Landing) -> None:
    landed, _ = land_group(landing, GROUP)
    full = curate(landed)
    blinded = landed.set_column(
        landed.schema.get_field_index("image"),
        landed.schema.field("image"),
        pa.array([b"?"] * landed.num_rows),
    )
    assert curate(blinded, known=full).equals(full)
    assert curate(landed, known=full.slice(0, 2)).equals(full)
