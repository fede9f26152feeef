"""Samples on which a model failed are retried alone, by the real command through real runs."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from orchestration.resources.store import ManifestStore
from orchestration.workspace import Workspace
from tests.end_to_end.conftest import foundry

GROUP = "group-00"


def test_only_the_failed_sample_is_asked_again(smoke: Workspace, store: ManifestStore) -> None:
    good, units = store.require("regions", GROUP), store.require("regions_units", GROUP)
    failed = _as_if_failed(store)
    assert foundry(smoke, "retry-failed", "recaptions").out.startswith("no unit of recaptions has failed")
    done = foundry(smoke, "retry-failed", "regions", "--json")
    assert done.code == 0, done.err
    assert done.rows() == [
        {"asset": "regions", "partition": GROUP, "retried": 1, "still_failing": 0, "first_error": ""}
    ]
    assert store.require("regions", GROUP).digest == good.digest
    after = {row["key"]: row for row in store.read_table("regions_units", GROUP).to_pylist()}
    before = {row["key"]: row for row in store.read_version(units).to_pylist()}
    assert after[failed] == {**before[failed], "num_attempts": before[failed]["num_attempts"] + 1}
    assert {key: row for key, row in after.items() if key != failed} == {
        key: row for key, row in before.items() if key != failed
    }


def test_an_asset_that_no_model_makes_is_refused(smoke: Workspace) -> None:
    done = foundry(smoke, "retry-failed", "landed_images")
    assert done.code == 1
    assert "'landed_images' is not made sample by sample" in done.err
    assert "regions, recaptions" in done.err


def _as_if_failed(store: ManifestStore) -> str:
    """Store the versions that a failure of the first sample would have left, and return its id."""
    regions, units = store.require("regions", GROUP), store.require("regions_units", GROUP)
    known = store.read_version(units)
    failed = str(known["key"][0].as_py())
    rows = store.read_version(regions)
    store.write_table(
        "regions", rows.filter(pc.not_equal(rows["sample_id"], failed)), regions.provenance, GROUP
    )
    changed = [
        {**row, "num_rows": 0, "error": "ValueError: no"} if row["key"] == failed else row
        for row in known.to_pylist()
    ]
    store.write_table(
        "regions_units", pa.Table.from_pylist(changed, schema=known.schema), units.provenance, GROUP
    )
    return failed
