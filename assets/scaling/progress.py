"""Where every point of the grid stands: waiting, running, done or failed, how far, how long still, and its score."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal

import pyarrow.compute as pc

from assets.graph.interfaces import Models, Store
from assets.scaling.learning import CURVE_METRIC
from assets.scaling.points import grid_of, input_digests, planned, run_folder_of
from training.run_folder import RunFolder

PointState = Literal["waiting", "running", "stopped", "trained", "done", "failed"]
SILENT_SECONDS = 120.0
"""A run that has said nothing for so long is not running any more: its machine or process went away."""


@dataclass(frozen=True)
class PointRow:
    """One point. ``seconds`` is training time so far; ``seconds_left`` an estimate, None where there is no ground."""

    name: str
    size: str
    state: PointState
    images_seen: int
    images_total: int
    seconds: float | None = None
    seconds_left: float | None = None
    score: float | None = None
    error: str = ""

    def cells(self) -> dict[str, Any]:
        """The row as people read it."""
        return {
            "grid point": self.name,
            "state": self.state,
            "images seen": self.images_seen,
            "of": self.images_total,
            "seconds": None if self.seconds is None else round(self.seconds, 1),
            "seconds left": None if self.seconds_left is None else round(self.seconds_left, 1),
            "denoising error": self.score,
            "error": self.error,
        }


def grid_rows(store: Store, models: Models) -> list[PointRow]:
    """All points in order of the grid. Waiting ones are estimated from runs of the same size that are done."""
    digests = input_digests(store, models.text_encoder)
    rows = [_row(store, models, key, digests) for key in grid_of(models).points]
    return [_estimated(row, rows) for row in rows]


def totals(rows: Iterable[PointRow]) -> dict[str, int]:
    """How many points are in each state, only those that occur."""
    counts: dict[str, int] = {}
    for row in rows:
        counts[row.state] = counts.get(row.state, 0) + 1
    return counts


def _row(store: Store, models: Models, key: str, digests: dict[str, str] | None) -> PointRow:
    plan = planned(models, key)
    total = plan.recipe.images_total
    if digests is None:
        return PointRow(key, plan.point.size, "waiting", 0, total)
    folder = run_folder_of(models, plan.recipe, digests)
    done = folder.read_done() if folder.path.is_dir() else None
    if done is None:
        return _unfinished(key, plan.point.size, total, folder)
    score = _score(store, key, done.model_digest)
    return PointRow(
        key,
        plan.point.size,
        "trained" if score is None else "done",
        done.images_seen,
        total,
        done.train_seconds,
        None if score is None else 0.0,
        score,
    )


def _unfinished(key: str, size: str, total: int, folder: RunFolder) -> PointRow:
    progress = folder.read_progress() if folder.path.is_dir() else None
    if progress is None or progress.state == "waiting":
        return PointRow(key, size, "waiting", 0, total)
    speed = progress.images_per_second
    silent = progress.state == "running" and time.time() - progress.updated_at > SILENT_SECONDS
    state: PointState = "failed" if progress.state == "failed" else "stopped"
    return PointRow(
        key,
        size,
        "running" if progress.state in ("running", "done") and not silent else state,
        progress.images_seen,
        total,
        progress.images_seen / speed if speed else None,
        progress.seconds_left,
        error=progress.error or "",
    )


def _score(store: Store, key: str, model_digest: str) -> float | None:
    """The run's last denoising error; None while this very model has not been scored."""
    if store.current("scaling_scores", key) is None:
        return None
    table = store.read_table("scaling_scores", key, ["metric", "images_seen", "value", "model_digest"])
    rows = table.filter(
        (pc.field("metric") == CURVE_METRIC) & (pc.field("model_digest") == model_digest)
    ).sort_by("images_seen")
    return float(rows["value"][-1].as_py()) if rows.num_rows else None


def _estimated(row: PointRow, rows: list[PointRow]) -> PointRow:
    if row.seconds_left is not None or row.state == "failed":
        return row
    known = [r.seconds for r in rows if r.size == row.size and r.state in ("trained", "done") and r.seconds]
    if not known or row.state == "trained":
        return row
    left = sum(known) / len(known) * (1 - row.images_seen / row.images_total)
    return replace(row, seconds_left=left)
