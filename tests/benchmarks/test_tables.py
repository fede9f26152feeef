"""Entity tables of the size of LayoutSAM: written, joined to their images and summarised, beside Polars and pandas.

10.7 million entities on 2.7 million images; ``FOUNDRY_BENCH_SHARE`` (0 to 1) makes that a share of it. Every
contestant reads the same Parquet files on 2 threads in a process of its own, and all answers must be equal.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from orchestration.workspace import PROJECT_ROOT
from tests.benchmarks.table_contestants import MEMORY_GB, THREADS

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(1800)]
NUM_IMAGES = 2_700_000
MEMORY_CEILING_MB = 24 * 1024


def run(contestant: str, folder: Path, num_images: int) -> dict[str, Any]:
    """One contestant in a fresh process on THREADS threads."""
    threads = {name: str(THREADS) for name in ("POLARS_MAX_THREADS", "OMP_NUM_THREADS", "ARROW_NUM_THREADS")}
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "tests.benchmarks.table_contestants",
            contestant,
            str(folder),
            str(num_images),
        ],
        cwd=PROJECT_ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **threads},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def is_equal(one: Any, other: Any) -> bool:
    """Equal up to the order in which floats were added."""
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(is_equal, one, other))
    if isinstance(one, int | float) and isinstance(other, int | float):
        return math.isclose(one, other, rel_tol=1e-9)
    return bool(one == other)


def show(name: str, found: dict[str, Any], rows: int) -> None:
    print(
        f"{name:<34} {found['seconds']:7.1f} s wall  {found['cpu_seconds']:7.1f} s CPU  "
        f"{rows / found['seconds'] / 1e6:6.2f} M rows/s  {found['peak_mb']:7,.0f} MB peak"
    )


def test_ten_million_entities(tmp_path: Path) -> None:
    num_images = int(NUM_IMAGES * float(os.environ.get("FOUNDRY_BENCH_SHARE", "1")))
    rows_made = run("generate_only", tmp_path, num_images)
    rows = int(rows_made["answer"])
    plain, written = (run(name, tmp_path, num_images) for name in ("write_plain", "write_store"))
    size_mb = sum(path.stat().st_size for path in (tmp_path / "store").rglob("*.parquet")) / 1e6
    print(f"\n{rows:,} entities on {num_images:,} images, {size_mb:,.0f} MB of Parquet, {THREADS} threads")
    show("making the rows, not writing", rows_made, rows)
    show("plain Parquet writer (floor)", plain, rows)
    show("store, in files by content", written, rows)
    assert written["answer"] == rows
    # The store makes the rows twice, once for each of the two tables.
    floor, ours = (plain["seconds"] - rows_made["seconds"]), (written["seconds"] - 2 * rows_made["seconds"])
    print(f"writing alone: {ours:.1f} s, {ours / floor:.2f}x the floor")
    found = {name: run(name, tmp_path, num_images) for name in ("foundry", "polars", "pandas")}
    for name, taken in found.items():
        show(f"join and summarise, {name}", taken, rows)
    for name in ("polars", "pandas"):
        assert is_equal(found["foundry"]["answer"], found[name]["answer"]), name
        print(f"foundry takes {found['foundry']['seconds'] / found[name]['seconds']:.2f}x the time of {name}")
    # Memory stays bounded whatever the size: one row group when writing, DuckDB's limit and a little when reading.
    assert written["peak_mb"] < 1500
    assert found["foundry"]["peak_mb"] < 1024 * MEMORY_GB + 1024
    assert max(taken["peak_mb"] for taken in found.values()) < MEMORY_CEILING_MB
