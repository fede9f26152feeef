"""Staleness from our own keys, and the way back to what a version was made from."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from assets.interfaces import Provenance
from assets.lineage import as_records, parse_target, trace
from assets.reuse import merge_rows, plan_reuse, previous_rows
from orchestration.freshness import difference
from orchestration.resources.store import ManifestStore
from training.errors import FoundryError

ROWS = pa.table({"sample_id": ["a", "a", "b"], "model_digest": ["m1", "m1", "m1"], "value": [1, 2, 3]})


def test_differences_are_named() -> None:
    made = Provenance("x", 1, {"k": 2, "gone": 0}, {"landed@g0": "a", "old": "b"})
    now = Provenance("x", 2, {"k": 3}, {"landed@g0": "c", "new": "d"})
    text = difference(made, now)
    assert "function version 1 is now 2" in text
    assert "setting k changed" in text
    assert "setting gone is gone" in text
    assert "and 2 more" in text
    assert difference(made, made) == ""


def test_only_new_and_stale_samples_are_to_be_made() -> None:
    plan = plan_reuse(ROWS, ["c", "a", "b"], {"model_digest": "m1"})
    assert (plan.todo, plan.new, plan.stale) == (("c",), ("c",), ())
    assert plan.kept is not None
    assert plan.counts() == {"rows_reused": 3, "samples_new": 1, "samples_stale": 0}


def test_one_outdated_row_makes_its_whole_sample_stale() -> None:
    mixed = ROWS.set_column(1, "model_digest", pa.array(["m1", "m0", "m1"]))
    plan = plan_reuse(mixed, ["a", "b"], {"model_digest": "m1"})
    assert plan.stale == ("a",)
    assert plan.kept is not None
    assert plan.kept["sample_id"].to_pylist() == ["b"]


def test_an_increment_has_the_bytes_of_a_full_build(tmp_path: Path) -> None:
    store = ManifestStore(tmp_path)
    plan = plan_reuse(ROWS.filter(pa.array([True, True, False])), ["a", "b"], {"model_digest": "m1"})
    increment = merge_rows(plan.kept, ROWS.filter(pa.array([False, False, True])), ["sample_id", "value"])
    full = merge_rows(None, ROWS, ["sample_id", "value"])
    made = Provenance("t", 1)
    assert store.write_table("t", increment, made).digest == store.write_table("t", full, made).digest


def test_damaged_rows_are_not_reused_and_said_so(tmp_path: Path) -> None:
    store = ManifestStore(tmp_path)
    said: list[str] = []
    manifest = store.write_table("t", ROWS, Provenance("t", 1))
    (tmp_path / manifest.files[0].path).write_bytes(b"broken")
    assert previous_rows(store, "t", None, said.append) is None
    assert "damaged" in said[0]


def test_lineage_walks_back_to_the_versions_that_were_read(tmp_path: Path) -> None:
    store = ManifestStore(tmp_path)
    first = store.write_table(
        "landed_images", ROWS, Provenance("landed_images", 1, {}, {"shard:a": "s1"}), "g0"
    )
    shards = store.write_table(
        "training_shards", ROWS, Provenance("training_shards", 1, {}, {"landed_images@g0": first.digest})
    )
    store.write_table(
        "backbone", ROWS, Provenance("backbone", 1, {"seed": 3}, {"training_shards": shards.digest}), "xs"
    )
    store.write_table(
        "landed_images", ROWS.slice(1), Provenance("landed_images", 1, {}, {"shard:a": "s2"}), "g0"
    )
    records = as_records(trace(store, "backbone", "xs"))
    assert [(record["depth"], record["version"]) for record in records] == [
        (0, "backbone@xs"),
        (1, "training_shards"),
        (2, "landed_images@g0"),
        (3, "shard:a"),
    ]
    assert records[2]["digest"] == first.digest, "the version that was read, not the newest"
    assert records[3]["digest"] == "s1"


def test_unknown_targets_say_what_there_is(tmp_path: Path) -> None:
    store = ManifestStore(tmp_path)
    store.write_table("backbone", ROWS, Provenance("backbone", 1), "xs")
    with pytest.raises(FoundryError, match="no version of 'backbon'. Known: backbone"):
        parse_target(store, "backbon", None)
    with pytest.raises(FoundryError, match="name one of: xs"):
        parse_target(store, "backbone", None)
    with pytest.raises(FoundryError, match="no partition 'xl'; it has: xs"):
        parse_target(store, "backbone", "xl")
