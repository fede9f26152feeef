"""Garbage: what is shown is what goes, and nothing goes that anything kept needs."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assets.graph.lineage import as_records, trace
from assets.graph.versions import Manifest, Provenance
from assets.versioning.naming import known_versions
from orchestration.garbage_collection import Rules, collect, plan_collection
from orchestration.resources.files import StoreError
from orchestration.resources.store import ManifestStore

NAMES = ("landed_images", "recaptions", "training_shards", "backbone")
FOLDERS = ("training_shards", "backbone")
NOW = Rules(keep=1, grace_seconds=-1)


@pytest.fixture(params=["local", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ManifestStore:
    return ManifestStore(tmp_path / "store" if request.param == "local" else f"memory://{tmp_path.name}")


def write(
    store: ManifestStore,
    name: str,
    value: object,
    inputs: dict[str, str] | None = None,
    place: Path | None = None,
) -> Manifest:
    made = Provenance(name, 1, {}, inputs or {})
    if name not in FOLDERS:
        return store.write_table(name, pa.table({"value": [str(value)]}), made)
    assert place is not None
    folder = place / f"made-{name}"
    folder.mkdir(exist_ok=True)
    (folder / "weights").write_text(str(value))
    return store.publish_folder(name, folder, made)


def is_readable(store: ManifestStore, version: Manifest) -> bool:
    try:
        if version.kind == "folder":
            store.local_version(version)
        else:
            store.read_version(version)
    except StoreError as error:
        if "was collected on" not in str(error):
            raise
        return False
    return True


@dataclass(frozen=True)
class Write:
    """One write of a random history: which name, which content, and how far back its input lies."""

    name: str
    value: int
    back: int


WRITES = st.lists(st.builds(Write, st.sampled_from(NAMES), st.integers(0, 3), st.integers(0, 3)), max_size=14)


@settings(max_examples=20, deadline=None)
@given(WRITES, st.integers(1, 3))
def test_nothing_goes_that_anything_kept_needs(
    tmp_path_factory: pytest.TempPathFactory, writes: list[Write], keep: int
) -> None:
    place = tmp_path_factory.mktemp("history")
    store = ManifestStore(place / "store")
    for step in writes:
        above = NAMES.index(step.name) - 1
        inputs = {}
        if above >= 0 and (history := store.versions(NAMES[above])):
            inputs = {NAMES[above]: history[-1 - min(step.back, len(history) - 1)].digest}
        write(store, step.name, step.value, inputs, place)
    needed = _slow_needed(store, keep)
    everything = {(name, version.digest) for name in store.names() for version in store.versions(name)}
    rules = Rules(keep=keep, grace_seconds=-1)
    planned = plan_collection(store, rules)
    assert {(found.manifest.name, found.manifest.digest) for found in planned.versions} == everything - needed
    assert all(is_readable(store, version) for name in store.names() for version in store.versions(name)), (
        "a plan removes nothing"
    )
    assert collect(store, planned, rules) == planned.size_bytes
    for name in store.names():
        for version in store.versions(name):
            assert is_readable(store, version) == ((name, version.digest) in needed)
    again = plan_collection(store, rules)
    assert (again.versions, again.orphans, again.size_bytes) == ([], [], 0)


def _slow_needed(store: ManifestStore, keep: int) -> set[tuple[str, str]]:
    """The newest of each name, and whatever the folders among them reach, one step at a time."""
    needed = set()
    for name in store.names():
        newest = list(dict.fromkeys(version.digest for version in reversed(store.versions(name))))[:keep]
        current = store.require(name).digest
        needed |= {(name, digest) for digest in [*newest, current]}
    reached = {pair for pair in needed if pair[0] in FOLDERS}
    while True:
        more = {
            pair
            for name, digest in reached
            for version in store.versions(name)
            if version.digest == digest
            for pair in version.provenance.inputs.items()
        } - reached
        if not more:
            return needed | reached
        reached |= more


def test_a_collected_version_stays_in_history_and_lineage(store: ManifestStore, tmp_path: Path) -> None:
    old = write(store, "landed_images", 1)
    captions = write(store, "recaptions", 1, {"landed_images": old.digest})
    write(store, "landed_images", 2)
    plan = plan_collection(store, NOW)
    assert [(found.manifest.digest, found.because) for found in plan.versions] == [(old.digest, "superseded")]
    assert plan.size_bytes == old.files[0].size_bytes
    assert collect(store, plan, NOW) == old.files[0].size_bytes
    with pytest.raises(StoreError, match=r"Version .* of 'landed_images' was collected on .* \(superseded\)"):
        store.read_version(old)
    assert [known.state for known in known_versions(store, "landed_images")] == ["current", "collected"]
    assert as_records(trace(store, captions.name))[1]["digest"] == old.digest
    assert write(store, "landed_images", 1).digest == old.digest
    assert store.read_table("landed_images")["value"].to_pylist() == ["1"], "made again, it is there again"


def test_what_a_kept_data_set_was_made_from_stays(store: ManifestStore, tmp_path: Path) -> None:
    old = write(store, "landed_images", 1)
    write(store, "training_shards", 1, {"landed_images": old.digest}, tmp_path)
    for value in range(2, 5):
        write(store, "landed_images", value)
    plan = plan_collection(store, NOW)
    assert old.digest not in {found.manifest.digest for found in plan.versions}
    assert (len(plan.versions), plan.num_protected) == (2, 1)


def test_files_that_versions_share_stay(store: ManifestStore) -> None:
    shared = pa.table({"value": ["shared"]})
    store.write_table("recaptions", shared, Provenance("recaptions", 1))
    store.write_table("recaptions", pa.table({"value": ["other"]}), Provenance("recaptions", 1))
    store.write_table("recaptions", shared, Provenance("recaptions", 2))
    collect(store, plan_collection(store, NOW), NOW)
    assert store.read_table("recaptions").equals(shared)


def test_what_is_young_or_newly_replaced_stays(store: ManifestStore) -> None:
    write(store, "recaptions", 1)
    write(store, "recaptions", 2)
    assert plan_collection(store, Rules(keep=1)).versions == [], "within the hour a run may need it"
    assert plan_collection(store, Rules(keep=1, older_than_days=1, grace_seconds=-1)).versions == []
    assert plan_collection(store, Rules(keep=2, grace_seconds=-1)).versions == []
    assert len(plan_collection(store, NOW).versions) == 1


def test_a_version_that_came_back_after_the_plan_stays(store: ManifestStore) -> None:
    write(store, "recaptions", 1)
    write(store, "recaptions", 2)
    plan = plan_collection(store, NOW)
    write(store, "recaptions", 1)
    assert collect(store, plan, NOW) == 0
    assert store.read_table("recaptions")["value"].to_pylist() == ["1"]


def test_leftovers_of_interrupted_writes_go_after_an_hour(tmp_path: Path) -> None:
    store = ManifestStore(tmp_path)
    write(store, "recaptions", 1)
    leftovers = [tmp_path / "recaptions/_/files" / name for name in ("f" * 64 + ".parquet", ".abc.tmp")]
    for path in leftovers:
        path.write_bytes(b"half")
    rules = Rules(keep=1)
    assert plan_collection(store, rules).orphans == []
    for path in leftovers:
        os.utime(path, (time.time() - 4000, time.time() - 4000))
    plan = plan_collection(store, rules)
    assert len(plan.orphans) == 2
    leftovers[0].write_bytes(b"in use again")
    assert collect(store, plan, rules) == 4, "what was written since the plan stays"
    assert [path.exists() for path in leftovers] == [True, False]
    assert store.read_table("recaptions").num_rows == 1


def test_journals_of_abandoned_runs_go_after_a_week(tmp_path: Path) -> None:
    store = ManifestStore(tmp_path)
    store.pending("recaptions", "g0").append(pa.table({"key": ["a"]}))
    store.pending("recaptions", "g1").append(pa.table({"key": ["a"]}))
    assert plan_collection(store, NOW).pending == []
    week_ago = time.time() - 8 * 86_400
    for path in (tmp_path / "_pending/recaptions/g0").iterdir():
        os.utime(path, (week_ago, week_ago))
    plan = plan_collection(store, NOW)
    assert [facts.path.split("/")[2] for facts in plan.pending] == ["g0"]
    collect(store, plan, NOW)
    assert store.pending("recaptions", "g0").read() == []
    assert len(store.pending("recaptions", "g1").read()) == 1
