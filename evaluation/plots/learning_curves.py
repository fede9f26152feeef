"""Learning curves of many runs: a thin line a seed under the mean of its cell, over images seen on a log axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from evaluation.plots.basic import COLORS, label_sizes, legend_label, name_axes, new_figure, png_bytes
from training.errors import FoundryError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DASHES = ("-", "--", ":", "-.")


@dataclass(frozen=True)
class CellCurves:
    """Scores of one cell: a row a seed, a column a count."""

    name: str
    images_seen: Int[ndarray, " n"]
    scores: Float[ndarray, "seeds n"]


def learning_curves(cells: Sequence[CellCurves], *, title: str, y_label: str) -> bytes:
    """PNG of all cells' curves, both axes logarithmic, so that late differences show too. Raises FoundryError for no cells."""
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
    axes.set(xlabel="images seen", ylabel=y_label, xscale="log", yscale="log")
    label_sizes(axes)
    label_scores(axes)
    axes.legend(ncols=2 if len(cells) > 6 else 1, loc="upper right", title="cell (seeds)")
    return png_bytes(figure)


def label_scores(axes: Axes) -> None:
    """Plain numbers at 1 to 9 of every decade of the score, those that matplotlib finds room for."""
    from matplotlib.ticker import LogLocator, NullFormatter

    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0)))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())
