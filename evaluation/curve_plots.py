"""Learning curves of many runs: a thin line a seed under the mean of its cell, over images seen on a log axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from evaluation.plots import COLORS, label_sizes, legend_label, name_axes, new_figure, png_bytes
from training.errors import FoundryError

DASHES = ("-", "--", ":", "-.")


@dataclass(frozen=True)
class CellCurves:
    """Scores of one cell: a row a seed, a column a count."""

    name: str
    images_seen: Int[ndarray, " n"]
    scores: Float[ndarray, "seeds n"]


def learning_curves(cells: Sequence[CellCurves], *, title: str, y_label: str) -> bytes:
    """PNG of all cells' curves. Raises FoundryError for no cells."""
    if not cells:
        raise FoundryError("learning curves: found no cells; score at least one run of the grid first")
    figure, axes = new_figure(7.2, 4.6)
    for number, cell in enumerate(cells):
        color, dash = COLORS[number % len(COLORS)], DASHES[number // len(COLORS) % len(DASHES)]
        for scores in cell.scores:
            axes.plot(cell.images_seen, scores, color=color, alpha=0.25, linewidth=0.8)
        mean = np.mean(cell.scores, axis=0)
        axes.plot(
            cell.images_seen, mean, dash, color=color, linewidth=1.8, marker="o", markersize=3.5,
            label=legend_label(f"{cell.name} ({len(cell.scores)})"),
        )  # fmt: skip
    name_axes(axes, title)
    axes.set(xlabel="images seen", ylabel=y_label, xscale="log")
    label_sizes(axes)
    axes.legend(ncols=2 if len(cells) > 6 else 1, loc="upper right", title="cell (seeds)")
    return png_bytes(figure)
