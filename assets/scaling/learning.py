"""What the scores of a grid say: learning curves by cell, images to reach a score, and the claims it was made for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from assets.scaling.points import macs_of
from assets.scaling.scoring import FALLING
from evaluation.claims.contrasts import ContrastedCell, contrast_measurement
from evaluation.claims.registry import Measurement
from evaluation.intervals import Interval
from evaluation.scaling.efficiency import Efficiency, LearningCurve, learning_efficiency, shared_targets
from evaluation.tables.scaling import SCALING_EFFICIENCY
from training.recipes.grid import Cell, Grid, shared_cells

CURVE_METRIC = "denoising_error"
REMARK = "denoising error of the clean latent, not TIFA; small models on small data"


def curves_by_cell(scores: pa.Table, metric: str = CURVE_METRIC) -> dict[Cell, dict[int, LearningCurve]]:
    """Learning curves by cell and seed, cells in the order of their names."""
    rows = scores.filter(pc.equal(scores["metric"], metric)).sort_by("images_seen").to_pylist()
    found: dict[Cell, dict[int, list[tuple[int, float]]]] = {}
    for row in rows:
        cell = (row["size"], row["data"], row["mix"])
        found.setdefault(cell, {}).setdefault(row["seed"], []).append((row["images_seen"], row["value"]))
    return {
        cell: {seed: _curve(points, metric) for seed, points in sorted(by_seed.items())}
        for cell, by_seed in sorted(found.items())
    }


def efficiency_of(scores: pa.Table, grid: Grid, metric: str = CURVE_METRIC) -> dict[Cell, list[Efficiency]]:
    """Images and compute that each cell needs to reach two scores: the worst cell's last one, and the middle cell's."""
    curves = curves_by_cell(scores, metric)
    finals = [float(np.mean([c.score[-1] for c in by_seed.values()])) for by_seed in curves.values()]
    return {
        cell: [
            learning_efficiency(
                list(by_seed.values()),
                target,
                gflops_per_image=6e-9 * macs_of(grid.sizes[cell[0]].backbone),
            )
            for target in shared_targets(finals, falling=FALLING[metric])
        ]
        for cell, by_seed in curves.items()
        if cell[0] in grid.sizes
    }


def efficiency_table(found: dict[Cell, list[Efficiency]], metric: str = CURVE_METRIC) -> pa.Table:
    """Rows of SCALING_EFFICIENCY."""
    rows = [_efficiency_row(cell, metric, item) for cell, items in found.items() for item in items]
    return pa.Table.from_pylist(rows, schema=SCALING_EFFICIENCY)


def grid_claims(scores: pa.Table, grid: Grid, profile: str) -> dict[str, Measurement]:
    """Measurements of the claims that the grid's pairs and contrasts name, from the runs that are scored.

    Both sides are compared after equal compute where the grid's budgets are compute, else after equal images, the
    largest count that both were scored at. A claim whose runs are not all scored is left out: it is not run.
    """
    sides = [(pair.claim, "size", pair.left, pair.right) for pair in grid.pairs if pair.claim]
    sides += [(contrast.claim, contrast.axis, contrast.left, contrast.right) for contrast in grid.contrasts]
    found = {}
    for claim, axis, left, right in sides:
        cells = [
            _contrasted(scores, grid, one, other) for one, other in shared_cells(grid, axis, left, right)
        ]
        complete = [cell for cell in cells if cell is not None]
        if claim and complete and len(complete) == len(cells):
            found[claim] = contrast_measurement(complete, profile=profile, names=(left, right), remark=REMARK)
    return found


def _contrasted(scores: pa.Table, grid: Grid, left: Cell, right: Cell) -> ContrastedCell | None:
    """Errors by seed and sample of two cells where they are comparable; None when a run is not scored there."""
    rows = [_errors_of(scores, grid, cell) for cell in (left, right)]
    if not all(rows):
        return None
    budgets = [grid.sizes[cell[0]].budgets or grid.budgets for cell in (left, right)]
    if all(budget.gflops for budget in budgets):
        counts, where = [max(by_count) for by_count in rows], "equal compute"
    else:
        last = max(set(rows[0]) & set(rows[1]), default=None)
        if last is None:
            return None
        counts, where = [last, last], f"{last:,} images"
    name = f"{'.'.join(dict.fromkeys((*left, *right)))} at {where}"
    return ContrastedCell(
        name, *(np.array(by_count[count]) for by_count, count in zip(rows, counts, strict=True))
    )


def _errors_of(scores: pa.Table, grid: Grid, cell: Cell) -> dict[int, list[list[float]]]:
    """Errors by count, a row a seed, at counts where every planned seed of the cell is scored."""
    size, data, mix = cell
    planned = grid.seeds_of(*cell)
    chosen = scores.filter(
        (pc.field("size") == size)
        & (pc.field("data") == data)
        & (pc.field("mix") == mix)
        & (pc.field("metric") == CURVE_METRIC)
        & pc.field("seed").isin(sorted(planned))
    )
    found: dict[int, list[list[float]]] = {}
    for row in chosen.sort_by("seed").to_pylist():
        found.setdefault(row["images_seen"], []).append(row["by_sample"])
    return {count: values for count, values in found.items() if len(values) == len(planned)}


def _curve(points: list[tuple[int, float]], metric: str) -> LearningCurve:
    counts, values = zip(*points, strict=True)
    return LearningCurve(np.array(counts), np.array(values), FALLING[metric])


def _efficiency_row(cell: Cell, metric: str, item: Efficiency) -> dict[str, Any]:
    def part(interval: Interval | None, name: str) -> float | None:
        return None if interval is None else float(getattr(interval, name))

    return {
        "size": cell[0],
        "data": cell[1],
        "mix": cell[2],
        "metric": metric,
        "target": item.target,
        "seeds": item.seeds,
        "reached": item.reached,
        "images": part(item.images, "value"),
        "images_low": part(item.images, "low"),
        "images_high": part(item.images, "high"),
        "gflops": part(item.gflops, "value"),
        "at_most": item.at_most,
        "outcome": item.text,
    }
