"""Deriving rows on real Ray: a killed run goes on where it was, failing and deadly samples stand alone."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from assets.derivation.deriving import refresh_table
from assets.derivation.units import Derivation, Units
from assets.derivation.work_items import table_items
from assets.graph.interfaces import BatchWorker, Compute, Model, Resources
from assets.graph.versions import Provenance
from evaluation.tables.perception import CAPTIONS
from orchestration.resources.compute import RayCompute
from orchestration.resources.store import ManifestStore
from orchestration.workspace import PROJECT_ROOT
from tests.assets.workers import asked
from tests.end_to_end.dagster_client import wait_for
from tests.orchestration.pool_workers import SlowCaptioner

NAMES = [f"s{index:04d}" for index in range(600)]


def refreshed(root: Path, compute: Compute, calls: str, names: Sequence[str] = NAMES, **options: Any) -> Any:
    """Captions of all names by a slow model whose calls are noted in the file ``root/calls``."""
    arguments = {"calls": str(root / calls), **options}
    model = Model(
        "slow",
        "digest",
        lambda: BatchWorker(SlowCaptioner, arguments),
        resources=Resources(actors=2, batch_size=4),
    )
    derivation = Derivation(
        "recaptions", "recaptions", model, "sample_id", CAPTIONS, ["sample_id", "caption_index"], 1
    )
    units = Units(dict.fromkeys(names, ""), lambda todo: table_items(pa.table({"sample_id": list(todo)}), 16))
    return refresh_table(
        ManifestStore(root / "store"), compute, derivation, units, Provenance("recaptions", 1), "g", print
    )


DRIVER = """
import sys
from pathlib import Path
import assets.derivation.journal
from orchestration.resources.compute import RayCompute
from tests.orchestration.test_compute_deriving import refreshed
assets.derivation.journal.SECONDS_BETWEEN_FLUSHES = 0.1
refreshed(Path(sys.argv[1]), RayCompute(cpus=2), "calls", seconds=0.1)
"""


def test_a_killed_run_goes_on_and_computes_nothing_again_that_was_kept(
    ray_compute: RayCompute, tmp_path: Path
) -> None:
    pending = ManifestStore(tmp_path / "store").pending("recaptions", "g")
    driver = subprocess.Popen([sys.executable, "-c", DRIVER, str(tmp_path)], cwd=PROJECT_ROOT)
    wait_for(lambda: sum(table.num_rows for table in pending.read()) > 100, 60, "results to be kept")
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    kept = {key for table in pending.read() for key in table["key"].to_pylist()}
    assert ManifestStore(tmp_path / "store").current("recaptions", "g") is None, "it was killed too late"
    result = refreshed(tmp_path, ray_compute, "later")  # the killed run's actors may go on for a moment
    assert sorted(asked(tmp_path / "later")) == sorted(set(NAMES) - kept)
    assert result.table["sample_id"].to_pylist() == [name for name in NAMES for _ in range(2)]
    assert result.counts["units_failed"] == 0
    assert pending.read() == []


def test_samples_that_raise_and_samples_that_kill_are_recorded_and_the_others_done(
    ray_compute: RayCompute, tmp_path: Path
) -> None:
    names = NAMES[:80]
    result = refreshed(tmp_path, ray_compute, "calls", names, broken=("s0013",), deadly=("s0042",))
    units = ManifestStore(tmp_path / "store").read_table("recaptions_units", "g").to_pylist()
    errors = {row["key"]: row["error"] for row in units if row["error"]}
    assert sorted(errors) == ["s0013", "s0042"]
    assert "cannot look at s0013" in errors["s0013"]
    good = [name for name in names if name not in errors]
    assert result.table["sample_id"].to_pylist() == [name for name in good for _ in range(2)]
    refreshed(tmp_path, ray_compute, "later", names, broken=("s0013",), deadly=("s0042",))
    assert asked(tmp_path / "later") == [], "known failures are not tried again by themselves"
    assert set(asked(tmp_path / "calls")) == set(names) - {"s0042"}
