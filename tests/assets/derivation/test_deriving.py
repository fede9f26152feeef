"""Derivations: what is asked of a model and what is not, failing units, unfinished runs, accepted versions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assets.derivation.deriving import Derived, derive, refresh_table
from assets.derivation.nested_rows import nest, unnest
from assets.derivation.units import Derivation, Units, plan_units
from assets.derivation.work_items import table_items
from assets.graph.interfaces import BatchWorker, Model, Resources, WorkItem
from assets.graph.schemas import UNITS
from assets.graph.versions import Provenance
from evaluation.tables.perception import CAPTIONS
from orchestration.resources.compute import InlineCompute
from orchestration.resources.store import ManifestStore
from tests.assets.workers import asked, counting_model
from training.errors import FoundryError

NAMES = [f"s{index}" for index in range(10)]
PROVENANCE = Provenance("recaptions", 1)


def _units(digests: Mapping[str, str] | Sequence[str], also_keep: Sequence[str] = ()) -> Units:
    known = dict(digests) if isinstance(digests, Mapping) else dict.fromkeys(digests, "")
    return Units(known, lambda todo: table_items(pa.table({"sample_id": list(todo)}), 4), also_keep)


def _derivation(model: Model, version: int = 1) -> Derivation:
    return Derivation(
        "recaptions", "recaptions", model, "sample_id", CAPTIONS, ["sample_id", "caption_index"], version
    )


def _refresh(
    store: ManifestStore, model: Model, units: Units, version: int = 1, *, retry_failed: bool = False
) -> Any:
    return refresh_table(
        store, InlineCompute(), _derivation(model, version), units, PROVENANCE, "group-00", lambda _: None,
        retry_failed=retry_failed,
    )  # fmt: skip


@pytest.fixture
def store(tmp_path: Path) -> ManifestStore:
    return ManifestStore(tmp_path / "store")


@pytest.fixture
def calls(tmp_path: Path) -> Path:
    return tmp_path / "calls"


def test_every_unit_is_asked_once_and_never_again(store: ManifestStore, calls: Path) -> None:
    model = counting_model(calls, none=("s3",))
    first = _refresh(store, model, _units(NAMES))
    assert sorted(asked(calls)) == NAMES
    assert first.table["sample_id"].to_pylist() == [name for name in NAMES if name != "s3" for _ in range(2)]
    assert set(first.table["model_digest"].to_pylist()) == {"model-1"}
    again = _refresh(store, model, _units(NAMES))
    assert sorted(asked(calls)) == NAMES, "a unit without rows is done too"
    assert again.manifest.digest == first.manifest.digest
    assert again.counts == {
        "units_reused": 10, "units_new": 0, "units_stale": 0, "units_failed": 0, "units_computed": 0,
    }  # fmt: skip


def test_only_new_changed_and_outdated_units_are_asked(store: ManifestStore, calls: Path) -> None:
    _refresh(store, counting_model(calls), _units(dict.fromkeys(NAMES[:6], "a")))
    calls.unlink()
    wanted = {**dict.fromkeys(NAMES[:8], "a"), "s1": "changed"}
    second = _refresh(store, counting_model(calls), _units(wanted))
    assert sorted(asked(calls)) == ["s1", "s6", "s7"]
    assert (second.counts["units_new"], second.counts["units_stale"], second.counts["units_reused"]) == (
        2,
        1,
        5,
    )
    calls.unlink()
    _refresh(store, counting_model(calls, digest="model-2"), _units(wanted))
    assert sorted(asked(calls)) == NAMES[:8]


def test_an_increment_equals_a_full_build(store: ManifestStore, calls: Path, tmp_path: Path) -> None:
    _refresh(store, counting_model(calls), _units(NAMES[::2]))
    step_by_step = _refresh(store, counting_model(calls), _units(NAMES))
    at_once = _refresh(ManifestStore(tmp_path / "other"), counting_model(calls), _units(NAMES))
    assert step_by_step.manifest.digest == at_once.manifest.digest


def test_units_that_are_gone_go_unless_they_are_kept(store: ManifestStore, calls: Path) -> None:
    _refresh(store, counting_model(calls), _units(NAMES))
    fewer = _refresh(store, counting_model(calls), _units(NAMES[:2], also_keep=NAMES[:5]))
    assert set(fewer.table["sample_id"].to_pylist()) == set(NAMES[:5])
    calls.unlink()
    _refresh(store, counting_model(calls), _units(NAMES[:5]))
    assert asked(calls) == [], "moved there and back costs no call"


def test_a_failing_unit_is_recorded_and_retried_alone(store: ManifestStore, calls: Path) -> None:
    broken = counting_model(calls, broken=("s4",))
    first = _refresh(store, broken, _units(NAMES))
    units = store.read_table("recaptions_units", "group-00").to_pylist()
    failed = {row["key"]: row for row in units if row["error"]}
    assert list(failed) == ["s4"]
    assert failed["s4"]["error"] == "ValueError: cannot look at s4"
    assert first.counts["units_failed"] == 1
    assert set(first.table["sample_id"].to_pylist()) == set(NAMES) - {"s4"}
    calls.unlink()
    _refresh(store, broken, _units(NAMES))
    assert asked(calls) == [], "a known failure is not tried again by itself"
    mended = _refresh(store, counting_model(calls), _units(NAMES), retry_failed=True)
    assert asked(calls) == ["s4"]
    assert mended.counts["units_failed"] == 0
    attempts = {
        row["key"]: row["num_attempts"]
        for row in store.read_table("recaptions_units", "group-00").to_pylist()
    }
    assert attempts == {**dict.fromkeys(NAMES, 1), "s4": 2}


def test_a_broken_model_stops_and_keeps_what_was_answered(store: ManifestStore, calls: Path) -> None:
    names = [f"s{index:03d}" for index in range(60)]
    broken = counting_model(calls, broken=tuple(names[20:]))
    with pytest.raises(FoundryError, match=r"counting failed on \d+ of \d+ units.*cannot look at"):
        _refresh(store, broken, _units(names))
    assert store.current("recaptions", "group-00") is None
    calls.unlink()
    _refresh(store, counting_model(calls), _units(names))
    assert sorted(set(asked(calls))) == names[20:]


class _StopsAfter(InlineCompute):
    """Dies, like a process that is killed, after some results."""

    def __init__(self, count: int) -> None:
        self._count = count

    def map_shards(
        self, worker: BatchWorker, items: Sequence[WorkItem], resources: Resources, log: Callable[[str], None]
    ) -> Iterator[pa.Table]:
        for number, result in enumerate(super().map_shards(worker, items, resources, log)):
            if number == self._count:
                raise KeyboardInterrupt
            yield result


def test_an_interrupted_run_goes_on(store: ManifestStore, calls: Path) -> None:
    model = counting_model(calls)
    with pytest.raises(KeyboardInterrupt):
        derive(store, _StopsAfter(2), _derivation(model), "group-00", None, _units(NAMES), lambda _: None)
    assert store.current("recaptions", "group-00") is None, "a journal is never read as a version"
    before = asked(calls)
    calls.unlink()
    done = _refresh(store, model, _units(NAMES))
    assert sorted(asked(calls)) == sorted(set(NAMES) - set(before[:8]))
    assert sorted(set(done.table["sample_id"].to_pylist())) == NAMES
    calls.unlink()
    _refresh(store, counting_model(calls), _units([*NAMES, "s10"]))
    assert asked(calls) == ["s10"], "the journal is cleared once its rows are stored"


def test_rows_that_vanished_are_made_again(store: ManifestStore, calls: Path) -> None:
    model = counting_model(calls)
    done = _refresh(store, model, _units(NAMES))
    store.write_table("recaptions", done.table.slice(3), PROVENANCE, "group-00")
    calls.unlink()
    mended = _refresh(store, model, _units(NAMES))
    assert sorted(asked(calls)) == ["s0", "s1"]
    assert mended.table.equals(done.table)


def test_a_raised_version_computes_again_unless_it_was_accepted(calls: Path) -> None:
    model = counting_model(calls)
    known = pa.table(
        {
            "key": NAMES, "input_digest": [""] * 10, "num_rows": pa.array([1] * 10, pa.int32()),
            "num_attempts": pa.array([1] * 10, pa.int32()), "error": [""] * 10, "model": ["counting"] * 10,
            "model_digest": ["model-1"] * 10, "function_version": pa.array([1] * 10, pa.int32()),
        },
        schema=UNITS,
    )  # fmt: skip
    assert plan_units(known, _units(NAMES), _derivation(model, 2)).stale == tuple(NAMES)
    accepted = plan_units(known, _units(NAMES), _derivation(model, 2), accepted={1})
    assert (accepted.todo, accepted.kept.num_rows) == ((), 10)


def test_a_worker_that_loses_rows_is_noticed(store: ManifestStore, calls: Path) -> None:
    units = Units(
        dict.fromkeys(NAMES, ""), lambda todo: table_items(pa.table({"sample_id": list(todo)[1:]}), 4)
    )
    with pytest.raises(FoundryError, match="1 of them missing"):
        _refresh(store, counting_model(calls), units)


def test_derived_rows_are_recorded_only_when_finished(store: ManifestStore, calls: Path) -> None:
    model = counting_model(calls)
    derived = derive(
        store, InlineCompute(), _derivation(model), "group-00", None, _units(NAMES), lambda _: None
    )
    assert isinstance(derived, Derived)
    assert store.current("recaptions_units", "group-00") is None
    derived.finish(PROVENANCE)
    assert store.read_table("recaptions_units", "group-00").num_rows == 10


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 9)), max_size=12))
def test_nesting_and_back(pairs: list[tuple[str, int]]) -> None:
    schema = pa.schema([pa.field("key", pa.string(), False), pa.field("value", pa.int64(), False)])
    rows = pa.Table.from_pylist([{"key": key, "value": value} for key, value in pairs], schema=schema)
    nested = nest(rows, "key", list("abcd"), "rows")
    assert {row["key"]: [item["value"] for item in row["rows"]] for row in nested.to_pylist()} == {
        key: [value for own, value in pairs if own == key] for key in "abcd"
    }
    back = unnest(nested, "key", "rows", schema)
    assert back.to_pylist() == sorted(rows.to_pylist(), key=lambda row: row["key"])


def test_a_row_nobody_asked_for_is_refused() -> None:
    rows = pa.table({"key": ["x"], "value": [1]})
    with pytest.raises(ValueError, match="'x', which was not asked for"):
        nest(rows, "key", ["a"], "rows")
