"""Tables in pieces: the same bytes however rows arrive, work by row group, memory bounded, journals that survive."""

from __future__ import annotations

import itertools
import multiprocessing
import pickle
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from assets.graph.versions import Provenance
from orchestration.garbage_collection import Rules, collect, plan_collection
from orchestration.resources import parquet_writing
from orchestration.resources.files import StoreError
from orchestration.resources.parquet_writing import cut_rows, row_sizes_bytes
from orchestration.resources.store import ManifestStore

MADE = Provenance("t", 1)
FORM = pa.schema(
    [
        ("key", pa.string()),
        ("image", pa.binary()),
        ("names", pa.list_(pa.string())),
        ("box", pa.list_(pa.float32(), 2)),
        ("about", pa.struct([("flag", pa.bool_()), ("text", pa.string())])),
    ]
)
ROW = st.fixed_dictionaries(
    {
        "key": st.one_of(st.none(), st.text(max_size=4)),
        "image": st.binary(max_size=40),
        "names": st.one_of(st.none(), st.lists(st.one_of(st.none(), st.text(max_size=3)), max_size=3)),
        "box": st.one_of(st.none(), st.just([0.0, 1.0])),
        "about": st.one_of(
            st.none(), st.fixed_dictionaries({"flag": st.booleans(), "text": st.text(max_size=3)})
        ),
    }
)


@pytest.fixture(params=["local", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ManifestStore:
    return ManifestStore(tmp_path / "store" if request.param == "local" else f"memory://{tmp_path.name}")


@pytest.fixture
def small_cuts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of 40 rows or 2000 bytes, row groups of 10 rows or 300 bytes: the same code on tables of a test's size."""
    monkeypatch.setattr(parquet_writing, "ROW_GROUP_ROWS", 10)
    monkeypatch.setattr(parquet_writing, "ROW_GROUP_BYTES", 300)
    monkeypatch.setattr(parquet_writing, "FILE_ROWS", 40)
    monkeypatch.setattr(parquet_writing, "FILE_BYTES", 2000)


def some_rows(num_rows: int, seed: int = 0) -> pa.Table:
    random = np.random.default_rng(seed)
    return pa.table(
        {
            "sample_id": [f"s{index:04d}" for index in range(num_rows)],
            "image": [random.bytes(int(random.integers(0, 60))) for _ in range(num_rows)],
        },
        pa.schema([("sample_id", pa.string()), ("image", pa.binary())]),
    )


def in_pieces(table: pa.Table, cuts: list[int]) -> Iterator[pa.Table]:
    bounds = [0, *sorted(min(cut, table.num_rows) for cut in cuts), table.num_rows]
    for start, end in itertools.pairwise(bounds):
        yield table.slice(start, end - start)


def obvious_size(value: object, kind: pa.DataType) -> int:
    """Bytes of one value, by recursion over Python objects."""
    if pa.types.is_struct(kind):
        fields = value if isinstance(value, dict) else {}
        return sum(obvious_size(fields.get(field.name), field.type) for field in kind)
    if pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind):
        return sum(obvious_size(item, kind.value_type) for item in (value if isinstance(value, list) else []))
    if pa.types.is_string(kind):
        return len(value.encode()) if isinstance(value, str) else 0
    if pa.types.is_binary(kind):
        return len(value) if isinstance(value, bytes) else 0
    return max(kind.bit_width // 8, 1)


@settings(max_examples=60, deadline=None)
@given(st.lists(ROW, max_size=12), st.integers(0, 12))
def test_sizes_of_rows_depend_on_values_alone(rows: list[dict[str, object]], cut: int) -> None:
    table = pa.Table.from_pylist(rows, schema=FORM)
    expected = [sum(obvious_size(row[field.name], field.type) for field in FORM) for row in rows]
    assert row_sizes_bytes(table).tolist() == expected
    again = pa.concat_tables([table.slice(0, min(cut, len(rows))), table.slice(min(cut, len(rows)))])
    assert row_sizes_bytes(again).tolist() == expected, "chunks and slices do not count"


def obvious_cuts(sizes: list[int], max_rows: int, max_bytes: int) -> list[int]:
    """Rows of each piece, one row at a time."""
    pieces, rows, filled = [], 0, 0
    for size in sizes:
        rows, filled = rows + 1, filled + size
        if rows >= max_rows or filled >= max_bytes:
            pieces.append(rows)
            rows, filled = 0, 0
    return [*pieces, rows] if rows else pieces


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 30), max_size=40),
    st.lists(st.integers(0, 40), max_size=6),
    st.integers(1, 12),
    st.integers(1, 90),
)
def test_cuts_are_those_of_a_row_by_row_loop(
    sizes: list[int], cuts: list[int], max_rows: int, max_bytes: int
) -> None:
    table = pa.table({"image": pa.array([b"x" * size for size in sizes], pa.binary())})
    pieces = list(cut_rows(in_pieces(table, cuts), max_rows, max_bytes))
    assert [piece.num_rows for piece, _ in pieces] == obvious_cuts(sizes, max_rows, max_bytes)
    if pieces:
        assert pa.concat_tables(piece for piece, _ in pieces).equals(table)
        assert sum(size for _, size in pieces) == sum(sizes)


# The patched cuts are the same for every example.
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 130), st.lists(st.integers(0, 130), max_size=6))
@pytest.mark.usefixtures("small_cuts")
def test_the_same_rows_have_the_same_files_however_they_arrive(num_rows: int, cuts: list[int]) -> None:
    store, table = ManifestStore("memory://pieces"), some_rows(num_rows)
    whole = store.write_table("whole", table, MADE)
    parts = store.write_batches("parts", in_pieces(table, cuts), MADE)
    assert whole.digest == parts.digest
    assert [file.sha256 for file in whole.files] == [file.sha256 for file in parts.files]
    assert whole.num_rows == num_rows
    assert len(whole.files) > 1 or num_rows < 50
    assert store.read_table("parts").equals(table)
    assert pa.concat_tables(store.iterate_version(parts)).equals(table)


@pytest.mark.usefixtures("small_cuts")
def test_pieces_are_read_in_order_and_bounded(store: ManifestStore) -> None:
    table = some_rows(95)
    made = store.write_table("t", table, MADE, "g0")
    pieces = list(store.iterate_version(made, ["image"]))
    assert max(piece.num_rows for piece in pieces) <= 10
    assert pa.concat_tables(pieces).equals(table.select(["image"]))
    assert store.read_table("t", "g0", ["image", "sample_id"]).column_names == ["image", "sample_id"]


def test_a_table_without_rows_is_a_table(store: ManifestStore) -> None:
    manifest = store.write_batches("t", [some_rows(0)], MADE)
    assert (manifest.num_rows, len(manifest.files)) == (0, 1)
    assert store.read_table("t").schema == some_rows(0).schema
    assert [piece.num_rows for piece in store.iterate_version(manifest)] == [0]
    assert store.work_items("t", None, "sample_id", ["x"], ["image"], 4) == []


def test_pieces_of_nothing_or_of_different_form_are_refused(store: ManifestStore) -> None:
    with pytest.raises(StoreError, match="no rows to write and no form"):
        store.write_batches("t", [], MADE)
    with pytest.raises(
        StoreError, match=r"differ in form: sample_id string, image binary and then image binary"
    ):
        store.write_batches("t", [some_rows(2), some_rows(2).select(["image"])], MADE)
    assert store.current("t") is None


@pytest.mark.usefixtures("small_cuts")
def test_a_write_that_breaks_off_leaves_the_earlier_version(tmp_path: Path) -> None:
    store = ManifestStore(tmp_path)
    before = store.write_table("t", some_rows(5), MADE)

    def broken() -> Iterator[pa.Table]:
        yield some_rows(85, seed=1)
        raise RuntimeError("the model died")

    with pytest.raises(RuntimeError, match="the model died"):
        store.write_batches("t", broken(), MADE)
    assert store.current("t") == before
    assert not list(tmp_path.rglob("*.tmp"))


@pytest.mark.usefixtures("small_cuts")
def test_work_items_hold_the_wanted_rows_once_and_travel(store: ManifestStore) -> None:
    table = some_rows(95)
    store.write_table("t", table, MADE, "g0")
    wanted = [*table["sample_id"].to_pylist()[::3], "unknown"]
    items = store.work_items("t", "g0", "sample_id", wanted, ["image", "sample_id"], 7)
    assert [item.num_rows for item in items] == [7, 7, 7, 7, 4]
    copies = pickle.loads(pickle.dumps(items))
    loaded = [item.load() for item in copies]
    expected = table.filter(pc.is_in(table["sample_id"], value_set=pa.array(wanted)))
    assert pa.concat_tables(loaded).equals(expected.select(["image", "sample_id"]))
    assert copies[0].load().equals(loaded[0]), "an item may be loaded again"


def test_work_items_name_what_is_missing(store: ManifestStore) -> None:
    store.write_table("t", some_rows(3), MADE)
    with pytest.raises(StoreError, match="no column nope; it has sample_id, image"):
        store.work_items("t", None, "nope", ["x"], ["image"], 4)
    (item,) = store.work_items("t", None, "sample_id", ["s0001"], ["caption"], 4)
    with pytest.raises(StoreError, match="no column caption"):
        item.load()
    with pytest.raises(StoreError, match="rows_per_item is 0"):
        store.work_items("t", None, "sample_id", ["s0001"], ["image"], 0)


def test_a_worker_in_another_process_finds_damage(tmp_path: Path) -> None:
    store = ManifestStore(tmp_path)
    manifest = store.write_table("t", some_rows(50), MADE)
    (item,) = store.work_items("t", None, "sample_id", ["s0001"], ["image"], 4)
    path = tmp_path / manifest.files[0].path
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    spawning = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, spawning) as pool, pytest.raises(StoreError, match="damaged"):
        pool.submit(item.load).result(timeout=120)


def test_a_flipped_byte_in_a_remote_page_is_found(tmp_path: Path) -> None:
    store = ManifestStore(f"memory://{tmp_path.name}")
    manifest = store.write_table("t", some_rows(500), MADE)
    (item,) = store.work_items("t", None, "sample_id", ["s0001"], ["image"], 4)
    path = manifest.files[0].path
    data = bytearray(store.files.read(path))
    chunk = pq.ParquetFile(pa.BufferReader(bytes(data))).metadata.row_group(0).column(1)
    data[(chunk.dictionary_page_offset or chunk.data_page_offset) + chunk.total_compressed_size // 2] ^= 1
    store.files.write(path, bytes(data))
    with pytest.raises(StoreError, match="not readable Parquet"):
        item.load()
    with pytest.raises(StoreError, match="damaged"):
        store.read_table("t", columns=[])


def test_results_of_an_unfinished_run_come_back_and_damage_is_left_out(store: ManifestStore) -> None:
    pending = store.pending("regions", "g0")
    assert pending.read() == []
    tables = [some_rows(3), some_rows(2, seed=1), some_rows(3)]
    for table in tables:
        pending.append(table)
    assert [table.num_rows for table in store.pending("regions", "g0").read()] == [3, 2, 3], "oldest first"
    assert store.pending("regions", "g1").read() == []
    damaged = store.files.walk("_pending/regions/g0")[1].path
    store.files.write(damaged, store.files.read(damaged)[:-3])
    store.files.write("_pending/regions/g0/.half.tmp", b"half")
    assert [table.num_rows for table in pending.read()] == [3, 3]
    assert store.names() == [], "what is pending is not stored"
    pending.clear()
    pending.clear()
    assert pending.read() == []


def test_a_killed_process_leaves_what_it_appended(tmp_path: Path) -> None:
    code = (
        "import os, sys, pyarrow as pa\n"
        "from orchestration.resources.store import ManifestStore\n"
        "ManifestStore(sys.argv[1]).pending('t').append(pa.table({'key': ['a']}))\n"
        "os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False).returncode == -9
    assert [table["key"].to_pylist() for table in ManifestStore(tmp_path).pending("t").read()] == [["a"]]


def test_a_killed_write_leaves_the_earlier_version_and_its_leftovers_are_found(tmp_path: Path) -> None:
    store = ManifestStore(tmp_path)
    store.write_table("t", some_rows(5), MADE)
    code = (
        "import os, sys, pyarrow as pa\n"
        "from assets.graph.interfaces import Provenance\n"
        "from orchestration.resources import parquet_writing\n"
        "from orchestration.resources.store import ManifestStore\n"
        "parquet_writing.ROW_GROUP_ROWS = parquet_writing.FILE_ROWS = 2\n"
        "def rows():\n"
        "    yield pa.table({'value': [1, 2, 3, 4, 5]})\n"
        "    yield pa.table({'value': [6, 7, 8]})\n"
        "    os.kill(os.getpid(), 9)\n"
        "ManifestStore(sys.argv[1]).write_batches('t', rows(), Provenance('t', 1))"
    )
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False).returncode == -9
    assert store.read_table("t").equals(some_rows(5))
    assert len(store.versions("t")) == 1
    rules = Rules(grace_seconds=-1)
    plan = plan_collection(store, rules)
    assert len(plan.orphans) >= 3, "finished files and the one that was being written"
    collect(store, plan, rules)
    assert len(store.files.walk("t/_/files")) == 1
    assert store.read_table("t").equals(some_rows(5))


def _swap_many(root: str, first: int) -> None:
    store = ManifestStore(root)
    for index in range(first, first + 20):
        store.write_table("t", pa.table({"value": [index]}), MADE)


def test_two_processes_lose_no_version(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_swap_many, args=(str(tmp_path), 20 * index)) for index in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    store = ManifestStore(tmp_path)
    values = [store.read_version(version)["value"].to_pylist()[0] for version in store.versions("t")]
    assert sorted(values) == list(range(40))
    current = store.require("t")
    assert current in store.versions("t")
