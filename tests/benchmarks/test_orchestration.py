"""What orchestration costs beside the work: loading the graph, one in-process step, reading a table verified.

Every figure stands beside its floor, measured in the same run; CPU seconds beside wall seconds.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import dagster as dg
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from assets.graph.definitions import materialized
from assets.graph.versions import Provenance
from orchestration.resources.store import ManifestStore
from orchestration.workspace import PROJECT_ROOT

pytestmark = pytest.mark.benchmark
STEPS = 12


def seconds_of(code: str) -> tuple[float, float]:
    """Least wall and CPU seconds of three fresh interpreters that run ``code``."""
    runs = []
    for _ in range(3):
        timed = f"import time; w, c = time.perf_counter(), time.process_time()\n{code}\nprint(time.perf_counter() - w, time.process_time() - c)"
        done = subprocess.run(
            [sys.executable, "-c", timed], cwd=PROJECT_ROOT, capture_output=True, text=True, check=True
        )
        wall, cpu = (float(part) for part in done.stdout.split())
        runs.append((wall, cpu))
    return min(wall for wall, _ in runs), min(cpu for _, cpu in runs)


def test_loading_the_definitions() -> None:
    bare = seconds_of("import dagster")
    graph = seconds_of(
        "import dagster\nfrom orchestration.definitions import build\n"
        "from orchestration.workspace import workspace_from_environment\n"
        "r = build(workspace_from_environment()).get_repository_def(); r.load_all_definitions(); r.get_all_jobs()"
    )
    print(f"\nimport dagster: {bare[0]:.2f} s wall, {bare[1]:.2f} s CPU")
    print(
        f"whole repository: {graph[0]:.2f} s wall, {graph[1]:.2f} s CPU; over the bare import {graph[0] - bare[0]:.2f} s"
    )
    assert graph[1] - bare[1] <= 1.0


def chain(
    length: int, body: Callable[[ManifestStore, int], dg.MaterializeResult], store: ManifestStore
) -> dg.Definitions:
    """A chain of assets that each do next to nothing."""

    def make(index: int) -> dg.AssetsDefinition:
        @dg.asset(name=f"step_{index}", deps=[f"step_{index - 1}"] if index else [])
        def step() -> dg.MaterializeResult:
            return body(store, index)

        return step

    return dg.Definitions(
        [make(index) for index in range(length)],
        jobs=[dg.define_asset_job("chain", "*")],
        executor=dg.in_process_executor,
    )


def seconds_per_step(
    instance: dg.DagsterInstance,
    store: ManifestStore,
    body: Callable[[ManifestStore, int], dg.MaterializeResult],
) -> float:
    """Wall seconds that one more step adds to a run."""
    quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
    times = {}
    for length in (1, STEPS, 1, STEPS):
        job = chain(length, body, store).resolve_job_def("chain")
        start = time.perf_counter()
        assert job.execute_in_process(instance=instance, run_config=quiet).success
        times[length] = time.perf_counter() - start
    return (times[STEPS] - times[1]) / (STEPS - 1)


def test_one_in_process_step(tmp_path: Path) -> None:
    rows = pa.table({"value": list(range(1000))})

    def bare(_: ManifestStore, __: int) -> dg.MaterializeResult:
        return dg.MaterializeResult()

    def ours(store: ManifestStore, index: int) -> dg.MaterializeResult:
        manifest = store.write_table(f"t{index}", rows, Provenance(f"t{index}", 1))
        return materialized(store, manifest, schema=rows.schema)

    store = ManifestStore(tmp_path / "store")
    storage = {"storage": {"sqlite": {"base_dir": str(tmp_path / "dagster")}}}
    with dg.DagsterInstance.from_config(str(_config(tmp_path, storage))) as instance:
        floor = seconds_per_step(instance, store, bare)
        step = seconds_per_step(instance, store, ours)
    print(
        f"\none step: {1e3 * step:.0f} ms with a table written and shown, {1e3 * floor:.0f} ms bare ({step / floor:.2f}x)"
    )
    assert step < 0.2


def _config(tmp_path: Path, config: Mapping[str, object]) -> Path:
    import yaml

    (tmp_path / "dagster.yaml").write_text(yaml.safe_dump({**config, "telemetry": {"enabled": False}}))
    return tmp_path


def test_reading_a_verified_table(tmp_path: Path) -> None:
    store = ManifestStore(tmp_path)
    random = np.random.default_rng(0)
    rows = pa.table({"image": [random.bytes(60_000) for _ in range(1000)]})
    manifest = store.write_table("images", rows, Provenance("images", 1))
    path = tmp_path / manifest.files[0].path

    def timed(read: Callable[[], pa.Table]) -> float:
        start = time.perf_counter()
        assert read().num_rows == 1000
        return time.perf_counter() - start

    floor = min(timed(lambda: pq.read_table(path)) for _ in range(5))
    first = min(timed(lambda: ManifestStore(tmp_path).read_table("images")) for _ in range(5))
    again = min(timed(lambda: store.read_table("images")) for _ in range(5))
    print(
        f"\n60 MB table: {1e3 * floor:.0f} ms plain, {1e3 * first:.0f} ms verified, {1e3 * again:.0f} ms verified before"
    )
    assert again < 2 * floor + 0.01
