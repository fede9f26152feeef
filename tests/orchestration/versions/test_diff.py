"""Differences between versions, against a slow comparison of Python rows."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assets.graph.versions import Provenance
from assets.versioning.diff import Difference, diff
from orchestration.resources import parquet_writing
from orchestration.resources.store import ManifestStore
from training.errors import FoundryError

FORM = pa.schema(
    [
        ("sample_id", pa.string()),
        ("caption_index", pa.int32()),
        ("caption", pa.string()),
        ("names", pa.list_(pa.string())),
        ("box", pa.list_(pa.float32(), 2)),
        ("image", pa.binary()),
    ]
)
KEYS = ("sample_id", "caption_index")
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "sample_id": st.one_of(st.none(), st.sampled_from(["a", "b", "c", "d'\""])),
            "caption_index": st.integers(0, 1),
            "caption": st.one_of(st.none(), st.text(max_size=2)),
            "names": st.one_of(st.none(), st.lists(st.sampled_from(["x", "y"]), max_size=2)),
            "box": st.one_of(st.none(), st.sampled_from([[0.0, 1.0], [0.5, float("nan")]])),
            "image": st.one_of(st.none(), st.binary(max_size=2)),
        }
    ),
    max_size=10,
)


def frozen(row: dict[str, Any]) -> tuple[str, ...]:
    return tuple(repr(row[name]) for name in FORM.names)


def slow_counts(old: list[dict[str, Any]], new: list[dict[str, Any]]) -> Counter[str]:
    """Added, removed and changed rows: equal rows of a key cancel out, the rest pairs up."""
    left: dict[tuple[str, ...], list[Counter[tuple[str, ...]]]] = defaultdict(lambda: [Counter(), Counter()])
    for side, rows in enumerate((old, new)):
        for row in rows:
            left[tuple(repr(row[key]) for key in KEYS)][side][frozen(row)] += 1
    counts: Counter[str] = Counter()
    for before, after in left.values():
        gone, come = (before - after).total(), (after - before).total()
        counts["changed"] += min(gone, come)
        counts["removed"] += gone - min(gone, come)
        counts["added"] += come - min(gone, come)
    return counts


@settings(max_examples=25, deadline=None)
@given(ROWS, ROWS, st.booleans())
def test_counts_are_those_of_a_slow_comparison(
    old: list[dict[str, Any]], new: list[dict[str, Any]], shared: bool
) -> None:
    store = ManifestStore("memory://diff")
    new = [*old[:5], *new] if shared else new
    before = store.write_table("recaptions", pa.Table.from_pylist(old, FORM), Provenance("recaptions", 1))
    after = store.write_table("recaptions", pa.Table.from_pylist(new, FORM), Provenance("recaptions", 2))
    found = diff(store, "recaptions", before.digest, after.digest)
    expected = slow_counts(old, new)
    assert {"added": found.added, "removed": found.removed, "changed": found.changed} == {
        kind: expected[kind] for kind in ("added", "removed", "changed")
    }
    assert found.unchanged + found.changed + found.removed == found.num_before == len(old)
    assert found.unchanged + found.changed + found.added == found.num_after == len(new)
    assert len(found.examples) == min(20, found.added + found.removed + found.changed)
    _check_examples(found, old, new)


def _check_examples(found: Difference, old: list[dict[str, Any]], new: list[dict[str, Any]]) -> None:
    """Each example's key is in the table it came from, and a changed row differs in each column that is named."""
    known = [{tuple(row[key] for key in KEYS) for row in rows} for rows in (old, new)]
    for change in found.examples:
        key = tuple(change.key.values())
        assert change.kind == "added" or key in known[0]
        assert change.kind == "removed" or key in known[1]
        if change.kind == "changed":
            assert change.columns
            assert all(repr(before) != repr(after) for before, after in change.columns.values())


def rows_of(**captions: str) -> pa.Table:
    return pa.table(
        {
            "sample_id": list(captions),
            "caption_index": [1] * len(captions),
            "caption": list(captions.values()),
        }
    )


@pytest.mark.parametrize(
    "values", [(None, []), ([], [None]), ([None], [""]), (["a, b"], ["a", "b"]), (["NULL"], [None])]
)
def test_lists_that_look_alike_differ(values: tuple[Any, Any], tmp_path: Path) -> None:
    store = ManifestStore(tmp_path)
    for value in values:
        names = pa.array([value], pa.list_(pa.string()))
        store.write_table(
            "curated_images", pa.table({"sample_id": ["a"], "names": names}), Provenance("curated_images", 1)
        )
    assert diff(store, "curated_images").changed_columns == {"names": 1}


def test_changed_columns_and_reasons_are_named(tmp_path: Path) -> None:
    store = ManifestStore(tmp_path)
    made = Provenance(
        "recaptions", 1, {"k": 2, "filters": {"min": 0.5}}, {"perception": "p" * 20, "landed_images@g0": "a"}
    )
    now = Provenance(
        "recaptions", 2, {"k": 2, "filters": {"min": 0.6}}, {"perception": "q" * 20, "regions@g0": "b"}
    )
    store.write_table("recaptions", rows_of(a="x", b="y", c="z"), made, "g0")
    store.write_table("recaptions", rows_of(a="x", b="yy", d="new"), now, "g0")
    found = diff(store, "recaptions")
    assert (found.added, found.removed, found.changed, found.unchanged) == (1, 1, 1, 1)
    assert found.changed_columns == {"caption": 1}
    assert [(change.kind, change.key["sample_id"]) for change in found.examples] == [
        ("changed", "b"),
        ("removed", "c"),
        ("added", "d"),
    ]
    assert found.examples[0].columns == {"caption": ("y", "yy")}
    assert found.reasons == [
        "function version 1 -> 2",
        "setting filters.min 0.5 -> 0.6",
        "input landed_images@g0 is gone: a",
        "input perception pppppppppppp -> qqqqqqqqqqqq",
        "input regions@g0 is new: b",
    ]


def test_partitions_are_compared_together(tmp_path: Path) -> None:
    store = ManifestStore(tmp_path)
    for group, rows in (("g0", rows_of(a="x")), ("g1", rows_of(b="y"))):
        store.write_table("recaptions", rows, Provenance("recaptions", 1, {"k": 1}), group)
    then = store.require("recaptions", "g1").created_at
    store.write_table("recaptions", rows_of(b="y"), Provenance("recaptions", 1, {"k": 2}), "g0")
    store.write_table("recaptions", rows_of(a="x", c="z"), Provenance("recaptions", 1, {"k": 2}), "g1")
    found = diff(store, "recaptions")
    assert (found.added, found.removed, found.changed, found.unchanged) == (1, 0, 0, 2), (
        "rows that moved are no change"
    )
    assert found.reasons == ["setting k 1 -> 2 (2 partitions)"]
    assert diff(store, "recaptions", then).added == 1
    assert diff(store, "recaptions", "first", partition="g1").removed == 1
    one = diff(
        store,
        "recaptions",
        store.versions("recaptions", "g1")[0].digest[:8],
        store.require("recaptions", "g1").digest,
    )
    assert list(one.before) == ["g1"]


def test_a_partition_without_an_earlier_version_is_unchanged_unless_a_time_is_given(tmp_path: Path) -> None:
    store = ManifestStore(tmp_path)
    for caption in ("x", "y"):
        manifest = store.write_table("recaptions", rows_of(a=caption), Provenance("recaptions", 1), "g0")
    store.write_table("recaptions", rows_of(b="y"), Provenance("recaptions", 1), "g1")
    assert (diff(store, "recaptions").changed, diff(store, "recaptions").added) == (1, 0)
    assert diff(store, "recaptions", manifest.created_at).added == 1, "g1 was not there then"


def test_a_table_of_another_form_is_compared_by_what_both_have(tmp_path: Path) -> None:
    store = ManifestStore(tmp_path)
    store.write_table(
        "recaptions", rows_of(a="x").append_column("score", pa.array([0.5])), Provenance("recaptions", 1)
    )
    store.write_table(
        "recaptions", rows_of(a="x").append_column("keep", pa.array([True])), Provenance("recaptions", 1)
    )
    found = diff(store, "recaptions")
    assert (found.new_columns, found.gone_columns) == (("keep",), ("score",))
    assert found.unchanged == 1
    assert found.reasons == ["made from the same inputs, settings and function version, and yet different"]


def test_a_table_without_declared_keys_has_rows_that_stand_for_themselves(tmp_path: Path) -> None:
    store = ManifestStore(tmp_path)
    for value in (1, 2):
        store.write_table("strange", pa.table({"value": [0, 0, value]}), Provenance("strange", 1))
    found = diff(store, "strange")
    assert (found.added, found.removed, found.changed) == (1, 1, 0)


def test_files_that_both_share_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet_writing, "FILE_ROWS", 2)
    monkeypatch.setattr(parquet_writing, "ROW_GROUP_ROWS", 2)
    store = ManifestStore(tmp_path)
    before = store.write_table("recaptions", rows_of(a="1", b="2", c="3", d="4"), Provenance("recaptions", 1))
    store.write_table("recaptions", rows_of(a="1", b="2", c="3", d="5"), Provenance("recaptions", 1))
    (tmp_path / before.files[0].path).write_bytes(b"damaged, and nobody looks")
    found = diff(store, "recaptions")
    assert (found.changed, found.unchanged) == (1, 3)


def test_folders_are_compared_by_file(tmp_path: Path) -> None:
    store = ManifestStore(tmp_path / "store")
    for name, files in (("one", {"a": "1", "b": "2"}), ("two", {"a": "1", "b": "3", "c/d": "4"})):
        for path, text in files.items():
            (tmp_path / name / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name / path).write_text(text)
        store.publish_folder("backbone", tmp_path / name, Provenance("backbone", 1, {"seed": name}), "xs")
    found = diff(store, "backbone", partition="xs")
    assert (found.added, found.removed, found.changed, found.unchanged) == (1, 0, 1, 1)
    assert [(change.kind, change.key) for change in found.examples] == [
        ("changed", {"file": "b"}),
        ("added", {"file": "c/d"}),
    ]
    assert found.reasons == ["setting seed 'one' -> 'two'"]


def test_versions_that_cannot_be_compared_are_named(tmp_path: Path) -> None:
    store = ManifestStore(tmp_path)
    store.write_table("recaptions", rows_of(a="x"), Provenance("recaptions", 1), "g0")
    with pytest.raises(
        FoundryError,
        match=r"'previous' is no version of 'recaptions@g0'. Give current, previous, first, an ISO time",
    ):
        diff(store, "recaptions")
    with pytest.raises(FoundryError, match="no partition 'g9'; it has: g0"):
        diff(store, "recaptions", partition="g9")
    with pytest.raises(FoundryError, match=r"no table or folder 'captions' in the store. Known: recaptions"):
        diff(store, "captions")
