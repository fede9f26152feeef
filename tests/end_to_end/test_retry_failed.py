"""Samples on which a model failed are retried alone, by the real command through real runs."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from orchestration.resources.store import ManifestStore
from orchestration.workspace import Workspace
from tests.end_to_end.conftest import copy_of, foundry

GROUP = "group-00"


def test_only_the_failed_sample_is_asked_again(smoke: Workspace, tmp_path: Path) -> None:
    workspace = copy_of(smoke, tmp_path)
    store = ManifestStore(workspace.store)
    good = store.read_table("regions", GROUP)
    units = {row["key"]: row for row in store.read_table("regions_units", GROUP).to_pylist()}
    failed = _as_if_failed(store)
    nothing = foundry(workspace, "retry-failed", "recaptions")
    assert nothing.out.startswith("no unit of recaptions has failed")
    done = foundry(workspace, "retry-failed", "regions", "--json")
    assert done.code == 0, done.err
    assert done.rows() == [
        {"asset": "regions", "partition": GROUP, "retried": 1, "still_failing": 0, "first_error": ""}
    ]
    # Scores may differ in their last digits: a network's sums depend on how many images it looks at at once.
    after, exact = store.read_table("regions", GROUP), [n for n in good.column_names if n != "name_scores"]
    assert after.select(exact).equals(good.select(exact))
    scores = zip(after["name_scores"].to_pylist(), good["name_scores"].to_pylist(), strict=True)
    assert all(found == pytest.approx(known, abs=1e-4) for found, known in scores)
    again = {row["key"]: row for row in store.read_table("regions_units", GROUP).to_pylist()}
    assert again == {**units, failed: {**units[failed], "num_attempts": units[failed]["num_attempts"] + 1}}


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
