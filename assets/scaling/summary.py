"""The grid at a glance: a page of its own, a figure, and Markdown for the asset page."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from assets.graph.interfaces import Models, Store
from assets.pages.claims import claims_table
from assets.pages.html import write_page
from assets.pages.sections import Figure, Page, Section
from assets.pages.tables import Cell, Column, Table
from assets.scaling.learning import curves_by_cell, efficiency_of, efficiency_table, grid_claims
from assets.scaling.points import check_grid, grid_of
from assets.scaling.progress import PointRow, grid_rows, totals
from evaluation.claims.registry import Measurement, claim_results
from evaluation.tables.scaling import SCALING_EFFICIENCY, SCALING_SCORES

PAGE, FIGURE = "grid.html", "learning_curves.png"


@dataclass(frozen=True)
class GridSummary:
    """Everything that is said of a grid. ``figure`` is a PNG, None while nothing is scored."""

    profile: str
    rows: Sequence[PointRow]
    efficiency: pa.Table
    figure: bytes | None

    @property
    def totals(self) -> dict[str, int]:
        """Points by state."""
        return totals(self.rows)


def read_scores(store: Store, models: Models) -> pa.Table:
    """Rows of SCALING_SCORES of the grid's points, those that are scored."""
    scored = set(store.partitions("scaling_scores"))
    tables = [store.read_table("scaling_scores", key) for key in grid_of(models).points if key in scored]
    return pa.concat_tables(tables) if tables else SCALING_SCORES.empty_table()


def summarise(store: Store, models: Models) -> GridSummary:
    """The grid as it stands now; empty where the profile has none.

    Raises FoundryError for a pair of sizes that are not equal enough.
    """
    if models.grid is None:
        return GridSummary(models.profile, [], SCALING_EFFICIENCY.empty_table(), None)
    grid = check_grid(models)
    scores = read_scores(store, models)
    return GridSummary(
        models.profile,
        grid_rows(store, models),
        efficiency_table(efficiency_of(scores, grid)),
        curves_figure(scores),
    )


def curves_figure(scores: pa.Table) -> bytes | None:
    """PNG of the learning curves, one for each cell; None while nothing is scored."""
    from evaluation.plots.learning_curves import CellCurves, learning_curves

    cells = []
    for cell, by_seed in curves_by_cell(scores).items():
        curves = list(by_seed.values())
        shared = set.intersection(*(set(curve.images_seen.tolist()) for curve in curves))
        kept = [curve.score[np.isin(curve.images_seen, list(shared))] for curve in curves]
        cells.append(CellCurves(".".join(cell), np.array(sorted(shared)), np.stack(kept)))
    if not cells:
        return None
    title = "Held-out denoising error over images seen"
    return learning_curves(cells, title=title, y_label="held-out denoising error")


def grid_measurements(store: Store, models: Models) -> Mapping[str, Measurement]:
    """What the grid says of claims so far; nothing where the profile has none. Sizes are checked by :func:`summarise`."""
    if models.grid is None:
        return {}
    return grid_claims(read_scores(store, models), grid_of(models), models.profile)


def write_grid_page(folder: Path, summary: GridSummary, claims: Mapping[str, Measurement]) -> Path:
    """Write the page, with its figure beside it, and return the page's path."""
    if summary.figure is not None:
        (folder / FIGURE).write_bytes(summary.figure)
    return write_page(folder / PAGE, grid_page(summary, claims))


def grid_page(summary: GridSummary, claims: Mapping[str, Measurement]) -> Page:
    """The grid's page: points, curves, what it takes to reach a score, and the claims that it has measured."""
    states = ", ".join(f"{count} {state}" for state, count in summary.totals.items())
    sentences = [f"{states}."] if states else []
    points = points_table(summary.rows)
    sections = [Section("Points", "points", sentences, [points], missing="The profile has no grid.")]
    if summary.figure is not None:
        about = (
            "Held-out denoising error of the predicted clean latent, the same samples and noise for all; a thin line a "
            "seed, a thick one the mean of the cell."
        )
        figures = [Figure("Learning curves", summary.figure)]
        sections.append(Section("Score over images seen", "curves", [about], figures=figures))
    if summary.efficiency.num_rows:
        about = (
            "Images and training compute to reach a score, interpolated between scored counts; geometric mean over seeds "
            "with its 95 % interval."
        )
        tables = [efficiency_view(summary.efficiency)]
        sections.append(Section("Learning efficiency", "efficiency", [about], tables))
    measured = [result for result in claim_results(claims) if result.measurement is not None]
    if measured:
        sections.append(Section("Claims", "claims", tables=[claims_table(measured)]))
    written = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    lead = f"Profile “{summary.profile}”,"
    return Page("Scaling grid", sections, (lead, "at its own scale."), {"Written": written})


POINT_COLUMNS = (
    Column("Point"),
    Column("State"),
    Column("Images seen", ","),
    Column("Of", ","),
    Column("Seconds", ",.1f"),
    Column("Seconds left", ",.1f"),
    Column("Denoising error", ".4f"),
    Column(""),
)
EFFICIENCY_COLUMNS = (
    Column("Cell"),
    Column("Score to reach", ",.4f"),
    Column("Seeds there", right=True),
    Column("Images"),
    Column("GFLOP", ",.0f", "unknown"),
)


def points_table(rows: Sequence[PointRow]) -> Table:
    """Where every point stands."""
    cells = [
        (
            row.name,
            Cell(row.state, tone=row.state),
            row.images_seen,
            row.images_total,
            row.seconds,
            row.seconds_left,
            row.score,
            row.error,
        )
        for row in rows
    ]
    return Table(POINT_COLUMNS, cells)


def efficiency_view(efficiency: pa.Table) -> Table:
    """What each cell needs to reach a score, from rows of :data:`evaluation.tables.scaling.SCALING_EFFICIENCY`."""
    cells = [
        (
            f"{row['size']}.{row['data']}.{row['mix']}",
            row["target"],
            f"{row['reached']} of {row['seeds']}",
            row["outcome"],
            row["gflops"],
        )
        for row in efficiency.to_pylist()
    ]
    return Table(EFFICIENCY_COLUMNS, cells)
