"""The store: versions by content, atomic swaps, damage found before use, gates obeyed."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assets.graph.versions import GateResult, Provenance
from orchestration.resources.files import StoreError
from orchestration.resources.manifests import from_json, provenance_key, to_json
from orchestration.resources.store import ManifestStore
from training.digests import OUTSIDE_MODEL_DIGEST, folder_digest

MADE = Provenance("recaptions", 1, {"k": 2}, {"landed_images@group-00": "abc"})
ROWS = pa.table({"sample_id": ["a", "b"], "score": [0.25, 0.5]})


def flip_byte(path: Path) -> None:
    """Change one byte in the middle of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.fixture(params=["local", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ManifestStore:
    return ManifestStore(tmp_path / "store" if request.param == "local" else f"memory://{tmp_path.name}")


def test_rows_come_back_and_equal_content_keeps_its_digest(store: ManifestStore) -> None:
    first = store.write_table("recaptions", ROWS, MADE, "group-00")
    second = store.write_table("recaptions", ROWS, Provenance("recaptions", 2), "group-00")
    assert store.read_table("recaptions", "group-00").equals(ROWS)
    assert first.digest == second.digest
    assert provenance_key(first.provenance) != provenance_key(second.provenance)
    assert store.current("recaptions", "group-00") == second
    assert [version.provenance.function_version for version in store.versions("recaptions", "group-00")] == [
        1,
        2,
    ]


def test_partitions_are_read_together_in_order(store: ManifestStore) -> None:
    store.write_table("t", ROWS.slice(1), MADE, "group-01")
    store.write_table("t", ROWS.slice(0, 1), MADE, "group-00")
    assert store.partitions("t") == ["group-00", "group-01"]
    assert store.read_all("t", ["sample_id"])["sample_id"].to_pylist() == ["a", "b"]


def test_a_flipped_byte_in_a_table_is_found_before_it_is_used(tmp_path: Path) -> None:
    store = ManifestStore(tmp_path)
    manifest = store.write_table("t", ROWS, MADE)
    flip_byte(tmp_path / manifest.files[0].path)
    with pytest.raises(StoreError, match=r"is damaged: its sha256 is .* materialize its asset again"):
        store.read_table("t")
    assert store.write_table("t", ROWS, MADE).digest == manifest.digest
    assert store.read_table("t").equals(ROWS), "writing the same content again mends a damaged file"


def test_a_flipped_byte_after_a_good_read_is_found_too(tmp_path: Path) -> None:
    store = ManifestStore(tmp_path)
    manifest = store.write_table("t", ROWS, MADE)
    store.read_table("t")
    flip_byte(tmp_path / manifest.files[0].path)
    with pytest.raises(StoreError, match="damaged"):
        store.read_table("t")


def test_missing_things_are_named(store: ManifestStore) -> None:
    with pytest.raises(StoreError, match=r"'recaptions' \(partition 'group-00'\) has not been materialized"):
        store.read_table("recaptions", "group-00")


def test_an_unreadable_manifest_says_where_the_earlier_ones_are(tmp_path: Path) -> None:
    store = ManifestStore(tmp_path)
    store.write_table("t", ROWS, MADE)
    (tmp_path / "t/_/current.json").write_text("{")
    with pytest.raises(StoreError, match="is not a manifest .* versions/"):
        store.current("t")


def test_a_failed_or_missing_gate_refuses_readers(store: ManifestStore) -> None:
    store.write_table("t", ROWS, MADE, gate=GateResult(False, {"num_rows": 2}))
    with pytest.raises(StoreError, match=r"refused because its gate failed: \{'num_rows': 2\}"):
        store.read_table("t", require_gate=True)
    assert store.read_table("t").num_rows == 2, "looking is allowed, using is not"
    store.write_table("t", ROWS, MADE)
    with pytest.raises(StoreError, match="its gate never ran"):
        store.read_table("t", require_gate=True)
    store.write_table("t", ROWS, MADE, gate=GateResult(True))
    assert store.read_table("t", require_gate=True).num_rows == 2


def test_folders_keep_their_digest_when_only_the_card_changes(store: ManifestStore, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    (folder / "vae").mkdir(parents=True)
    (folder / "vae/config.json").write_text("{}")
    (folder / "model_card.md").write_text("one")
    first = store.publish_folder("backbone", folder, MADE, "xs")
    (folder / "model_card.md").write_text("two")
    second = store.publish_folder("backbone", folder, MADE, "xs")
    assert first.digest == second.digest == folder_digest(folder, OUTSIDE_MODEL_DIGEST)
    local = store.local_folder("backbone", "xs")
    assert (local / "model_card.md").read_text() == "two"
    assert (local / "vae/config.json").read_text() == "{}"
    assert store.local_version(first) == local, "an older manifest of the same content has the newer card"


def test_a_flipped_byte_in_a_folder_is_found(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model/weights.safetensors").write_bytes(b"weights")
    store = ManifestStore(tmp_path / "store")
    store.publish_folder("backbone", tmp_path / "model", MADE, "xs")
    flip_byte(store.local_folder("backbone", "xs") / "weights.safetensors")
    with pytest.raises(StoreError, match="damaged"):
        store.local_folder("backbone", "xs")


def test_a_full_disk_leaves_the_earlier_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import errno
    import os

    store = ManifestStore(tmp_path)
    store.write_table("t", ROWS, MADE)

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match=r"No space is left .* Earlier versions are untouched"):
        store.write_table("t", ROWS.slice(1), MADE)
    monkeypatch.undo()
    assert store.read_table("t").equals(ROWS)
    assert not list(tmp_path.rglob("*.tmp"))


@settings(max_examples=25, deadline=None)
@given(
    st.dictionaries(
        st.text(max_size=8), st.one_of(st.integers(), st.booleans(), st.text(max_size=8)), max_size=4
    ),
    st.dictionaries(st.text(max_size=8), st.text(max_size=8), max_size=4),
)
def test_manifests_survive_json(config: dict[str, object], inputs: dict[str, str]) -> None:
    store = ManifestStore("memory://property")
    manifest = store.write_table("t", ROWS, Provenance("t", 1, config, inputs), "p")
    assert from_json(to_json(manifest)) == manifest
