"""Names that a person types, and SQL over any state there ever was."""

from __future__ import annotations

import datetime
from pathlib import Path

import pyarrow as pa
import pytest

from assets.graph.versions import Manifest, Provenance
from assets.versioning.naming import find, known_versions, parse_time, resolve
from orchestration.resources.store import ManifestStore
from orchestration.sql import parse_versions, query
from training.errors import FoundryError


@pytest.fixture
def store(tmp_path: Path) -> ManifestStore:
    return ManifestStore(tmp_path)


def write(store: ManifestStore, value: int, partition: str | None = None) -> Manifest:
    return store.write_table("t", pa.table({"value": [value]}), Provenance("t", 1), partition)


def test_every_swap_is_kept_and_can_be_named(store: ManifestStore) -> None:
    one, two, again = write(store, 1), write(store, 2), write(store, 1)
    assert [version.created_at for version in store.versions("t")] == [
        one.created_at,
        two.created_at,
        again.created_at,
    ]
    assert resolve(store, "t", None, "current") == again
    assert resolve(store, "t", None, "previous") == two
    assert resolve(store, "t", None, "first") == one
    assert resolve(store, "t", None, two.digest[:6]) == two
    assert resolve(store, "t", None, one.digest).digest == again.digest


def test_a_time_means_what_was_current_then(store: ManifestStore) -> None:
    made = [write(store, value) for value in range(4)]
    for manifest in made:
        assert resolve(store, "t", None, manifest.created_at) == manifest
        just_before = datetime.datetime.fromisoformat(manifest.created_at) - datetime.timedelta(
            microseconds=1
        )
        assert find(store, "t", None, just_before.isoformat()) == (
            made[made.index(manifest) - 1] if manifest != made[0] else None
        )
    assert parse_time("2026-01-31") == datetime.datetime(2026, 1, 31, tzinfo=datetime.UTC)


def test_previous_leaves_out_what_only_ran_again(store: ManifestStore) -> None:
    one = write(store, 1)
    write(store, 2)
    write(store, 2)
    assert resolve(store, "t", None, "previous") == one


@pytest.mark.parametrize("reference", ["", "abc", "zzzzzz", "yesterday", "1999-01-01", "0" * 64])
def test_what_is_no_version_is_refused_with_what_there_is(store: ManifestStore, reference: str) -> None:
    digest = write(store, 1).digest[:12]
    with pytest.raises(
        FoundryError, match=rf"'{reference}' is no version of 't'. Give current, .*: {digest}\."
    ):
        resolve(store, "t", None, reference)


def test_an_ambiguous_digest_is_refused(store: ManifestStore) -> None:
    manifests = [write(store, value) for value in range(3)]
    for index, manifest in enumerate(manifests):
        text = store.files.read(f"t/_/versions/{store.files.children('t/_/versions')[index]}").decode()
        name = store.files.children("t/_/versions")[index]
        store.files.write(
            f"t/_/versions/{name}", text.replace(manifest.digest, f"abcdef{manifest.digest[6:]}").encode()
        )
    with pytest.raises(
        FoundryError, match="'abcdef' is the beginning of 3 versions of 't'.*Give more digits"
    ):
        resolve(store, "t", None, "abcdef")


def test_the_list_says_what_is_there(store: ManifestStore) -> None:
    for group, value in (("g0", 1), ("g0", 2), ("g1", 3)):
        write(store, value, group)
    found = [(known.manifest.partition, known.state, known.words) for known in known_versions(store, "t")]
    assert found == [
        ("g1", "current", ("current", "first")),
        ("g0", "current", ("current",)),
        ("g0", "stored", ("previous", "first")),
    ]
    assert len(known_versions(store, "t", "g1")) == 1


def test_sql_reads_any_state(store: ManifestStore) -> None:
    one = write(store, 1)
    write(store, 2)
    assert query(store, "SELECT value FROM t")[1] == [(2,)]
    assert query(store, "SELECT value FROM t", as_of=one.created_at)[1] == [(1,)]
    assert query(store, "SELECT value FROM t", versions={"t": one.digest[:8]})[1] == [(1,)]
    assert query(store, "SELECT value FROM t", versions=parse_versions(["t=previous"]))[1] == [(1,)]
    with pytest.raises(FoundryError, match="nothing was stored yet"):
        query(store, "SELECT value FROM t", as_of="1999-01-01")
    with pytest.raises(FoundryError, match="--as-of is 'noon', which is no time"):
        query(store, "SELECT value FROM t", as_of="noon")
    with pytest.raises(FoundryError, match="--version names 'u', but the tables are: t"):
        query(store, "SELECT 1", versions={"u": "first"})
    with pytest.raises(FoundryError, match="'ffffff' is no version of the table 't'"):
        query(store, "SELECT 1", versions={"t": "ffffff"})
    with pytest.raises(FoundryError, match="write TABLE=VERSION"):
        parse_versions(["recaptions"])


def test_sql_reads_one_partition_by_digest_and_only_what_it_names(
    store: ManifestStore, tmp_path: Path
) -> None:
    old = write(store, 1, "g0")
    write(store, 2, "g0")
    write(store, 3, "g1")
    other = store.write_table("other", pa.table({"value": [9]}), Provenance("other", 1))
    (tmp_path / other.files[0].path).write_bytes(b"damaged")
    assert query(store, "SELECT partition, value FROM t ORDER BY ALL")[1] == [("g0", 2), ("g1", 3)]
    assert query(store, "SELECT partition, value FROM t", versions={"t": old.digest})[1] == [("g0", 1)]
    with pytest.raises(FoundryError, match="damaged"):
        query(store, "SELECT * FROM other")


@pytest.mark.parametrize(
    "text",
    [
        "WITH sums AS (SELECT value, count(*) AS n FROM t GROUP BY value) SELECT * FROM T JOIN sums USING (value)",
        "SELECT * FROM (SELECT value FROM t WHERE value IN (SELECT value FROM t)) ORDER BY 1",
        "SUMMARIZE t",
        "DESCRIBE t",
        "SHOW TABLES",
        "FROM t",
    ],
)
def test_sql_knows_its_tables_in_any_statement(store: ManifestStore, text: str) -> None:
    write(store, 1)
    assert query(store, text)[1]
