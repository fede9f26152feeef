"""Staleness from our own keys, and the way back to what a version was made from."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from assets.derivation.reuse import previous_rows
from assets.graph.lineage import as_records, parse_target, trace
from assets.graph.versions import Provenance
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
