"""Rows of an old function version declared equivalent: logged, undone, and believed by staleness."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from assets.graph.steps import STEPS, Step
from assets.graph.versions import Provenance
from orchestration.accept_version import accept_version
from orchestration.freshness import difference
from orchestration.resources.records import Acceptance, Records
from orchestration.resources.store import ManifestStore
from training.errors import FoundryError


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ManifestStore:
    monkeypatch.setitem(STEPS, "recaptions", Step("recaptions", "captions", 3))
    made = ManifestStore(tmp_path)
    for group, version in (("g0", 1), ("g1", 2), ("g2", 3)):
        made.write_table("recaptions", pa.table({"value": [1]}), Provenance("recaptions", version), group)
    return made


def test_stored_versions_are_accepted_and_logged(store: ManifestStore) -> None:
    assert store.accepted_versions("recaptions") == frozenset()
    records = accept_version(store, "recaptions", None, "only the log line changed")
    assert [(record.version, record.equivalent_to) for record in records] == [(1, 3), (2, 3)]
    assert store.accepted_versions("recaptions") == {1, 2}
    assert [record.because for record in store.records.acceptances("recaptions")] == [
        "only the log line changed"
    ] * 2
    assert store.accepted_versions("regions") == frozenset()
    old, new = Provenance("recaptions", 1), Provenance("recaptions", 3)
    assert difference(old, new) == "function version 1 is now 3"
    assert difference(old, new, store.accepted_versions("recaptions")) == ""


def test_one_version_can_be_named_and_taken_back(store: ManifestStore) -> None:
    accept_version(store, "recaptions", 2, "equal")
    assert store.accepted_versions("recaptions") == {2}
    accept_version(store, "recaptions", None, "", undo=True)
    assert store.accepted_versions("recaptions") == frozenset()
    assert [record.undo for record in store.records.acceptances("recaptions")] == [False, True]
    accept_version(store, "recaptions", 2, "equal after all")
    assert store.accepted_versions("recaptions") == {2}


def test_what_was_accepted_for_an_older_version_holds_only_through_it(tmp_path: Path) -> None:
    records = Records(ManifestStore(tmp_path).files)
    records.accept(Acceptance("t", 1, 2, "equal", "me", "2026-01-01T00:00:00+00:00"))
    assert records.equivalents("t", 2) == {1}
    assert records.equivalents("t", 3) == frozenset(), "nobody said that 3 equals 2"
    records.accept(Acceptance("t", 2, 3, "equal", "me", "2026-01-02T00:00:00+00:00"))
    assert records.equivalents("t", 3) == {1, 2}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nothing", None, "x"), "no asset 'nothing'. Assets: "),
        (("recaptions", None, " "), "--because is empty"),
        (
            ("recaptions", 3, "x"),
            "--from is 3, but the function of 'recaptions' is at version 3; older versions are 1, 2",
        ),
        (("recaptions", 0, "x"), "--from is 0"),
        (("regions", None, "x"), "nothing to do for 'regions': its rows were made by version"),
    ],
)
def test_what_cannot_be_accepted_is_refused(
    store: ManifestStore, arguments: tuple[str, int | None, str], message: str
) -> None:
    with pytest.raises(FoundryError, match=message):
        accept_version(store, *arguments)
    with pytest.raises(FoundryError, match=r"Version 1 of 'recaptions' is not accepted. Accepted: none"):
        accept_version(store, "recaptions", 1, "", undo=True)
