"""Heat maps of unit scores: which heads, neurons and channels a mask keeps, module by module.

A row is a module in the model's order, a panel a kind of unit. Beside each row: the share of its units that stays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Bool, Float64
from numpy import ndarray
from torch import Tensor

from evaluation.plots.basic import COLORS, GRID, INK, STYLE
from training.errors import FoundryError
from training.pruning import KINDS, Kind, UnitKey

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

MOST_COLUMNS = 128
WIDTH_INCHES = 9.0
MOST_INCHES, LEAST_ROW, MOST_ROW = 16.0, 0.07, 0.17  # of the rows together, and of each
PANEL_INCHES = 0.75  # title and axis of a panel
TITLES: Mapping[Kind, str] = {
    "heads": "attention heads",
    "ffn": "feed-forward neurons",
    "norm": "adaLN channels",
}
REMOVED = "#9ca3af"


@dataclass(frozen=True)
class Row:
    """One module as it is drawn: a score and a share of removed units for each column, NaN where it has none."""

    name: str
    scores: Float64[ndarray, " columns"]
    removed: Float64[ndarray, " columns"]
    kept_share: float


def mask_heat_map(
    scores: Mapping[UnitKey, Tensor], keep: Mapping[UnitKey, Tensor] | None, title: str = "Scores of units"
) -> Figure:
    """Scores as colours, removed units hatched, and the kept share of each module as a bar.

    Modules of up to 128 units show every unit at its place. Where a kind has wider ones, its units are sorted, the best
    on the left, and drawn as the means of at most 128 equal parts; a part is hatched where at least half of it goes.
    Colours span the middle 98 % of a kind's scores. ``keep`` is True for units that stay; modules that it leaves out
    stay whole; None draws scores alone.

    Raises FoundryError for no scores, and for scores and masks that do not fit each other.
    """
    _check(scores, keep or {})
    panels = {kind: _rows(kind, scores, keep) for kind in KINDS if any(key[0] == kind for key in scores)}
    heights = [len(rows) for rows in panels.values()]
    row_inches = min(max(MOST_INCHES / sum(heights), LEAST_ROW), MOST_ROW)
    figure, axes = _panels(heights, row_inches, with_bars=keep is not None)
    for (kind, rows), (left, colors, *right) in zip(panels.items(), axes, strict=True):
        _draw_scores(left, colors, rows, row_inches, is_sorted=_is_wide(kind, scores))
        left.set_title(TITLES[kind], loc="left", fontsize=10)
        for each in right:
            _draw_shares(each, rows, row_inches)
    figure.suptitle(title, fontweight="bold")
    if keep is not None:
        figure.legend(handles=[_removed_handle()], loc="outside lower left", fontsize=8, frameon=False)
    return figure


def short_name(name: str) -> str:
    """A module's name in three parts: stage, block and what it is, such as ``down1/0.1/attn2``."""
    parts = name.split(".")
    blocks = [part for part in parts[1:-1] if part.isdigit()]
    stage = parts[0].removesuffix("_blocks").removesuffix("_block")
    if stage in ("down", "up") and blocks:
        stage += blocks.pop(0)
    stage = {"transformer": "block", "single_transformer": "single"}.get(stage, stage)
    short = "/".join(part for part in (stage, ".".join(blocks), *parts[1:][-1:]) if part)
    return short if len(short) <= 28 else f"…{short[-27:]}"


def _check(scores: Mapping[UnitKey, Tensor], keep: Mapping[UnitKey, Tensor]) -> None:
    if not scores:
        raise FoundryError("heat map: found no scores; give one vector a module")
    for key, value in scores.items():
        if value.ndim != 1 or not len(value) or not bool(torch.isfinite(value).all()):
            raise FoundryError(
                f"heat map: scores of {'/'.join(key)} have shape {list(value.shape)}; one finite number a unit is needed"
            )
    for key, mask in keep.items():
        if key not in scores or mask.shape != scores[key].shape or mask.dtype != torch.bool:
            wanted = list(scores[key].shape) if key in scores else "scores, of which there are none"
            raise FoundryError(
                f"heat map: keep of {'/'.join(key)} is {mask.dtype} of shape {list(mask.shape)}; torch.bool is needed "
                f"as its scores are: {wanted}"
            )


def _is_wide(kind: Kind, scores: Mapping[UnitKey, Tensor]) -> bool:
    return any(len(value) > MOST_COLUMNS for key, value in scores.items() if key[0] == kind)


def _rows(kind: Kind, scores: Mapping[UnitKey, Tensor], keep: Mapping[UnitKey, Tensor] | None) -> list[Row]:
    values = {key: value.detach().double().cpu().numpy() for key, value in scores.items() if key[0] == kind}
    is_wide, widest = _is_wide(kind, scores), max(len(value) for value in values.values())
    rows = []
    for key, value in values.items():
        mask = (keep or {}).get(key)
        kept = np.ones(len(value), bool) if mask is None else mask.cpu().numpy()
        drawn = _binned(value, kept) if is_wide else _padded(value, kept, widest)
        rows.append(Row(short_name(key[1]), *drawn, float(kept.mean())))
    return rows


def _padded(
    scores: Float64[ndarray, " units"], kept: Bool[ndarray, " units"], width: int
) -> tuple[ndarray, ndarray]:
    """Units at their places; narrower modules end earlier."""
    empty = np.full(width - len(scores), np.nan)
    return np.concatenate([scores, empty]), np.concatenate([~kept, empty])


def _binned(scores: Float64[ndarray, " units"], kept: Bool[ndarray, " units"]) -> tuple[ndarray, ndarray]:
    """Sorted units in :data:`MOST_COLUMNS` parts, each at its rank in percent of the module; few units are repeated."""
    order = np.argsort(-scores, kind="stable")
    ends = np.linspace(0, len(scores), MOST_COLUMNS + 1)
    first = np.floor(ends[:-1]).astype(int)
    last = np.maximum(np.ceil(ends[1:] - 1e-9).astype(int), first + 1)
    pieces = [order[a:b] for a, b in zip(first, last, strict=True)]
    return np.array([scores[p].mean() for p in pieces]), np.array([(~kept[p]).mean() for p in pieces])


def _panels(heights: Sequence[int], row_inches: float, *, with_bars: bool) -> tuple[Figure, list[list[Axes]]]:
    """A panel a kind, as high as it has rows: axes of scores, of their colours, and of shares."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    inches = [rows * row_inches + PANEL_INCHES for rows in heights]
    widths = (5.0, 0.1, 1.0) if with_bars else (6.0, 0.1)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH_INCHES, sum(inches) + 0.6), dpi=150, layout="constrained")
        FigureCanvasAgg(figure)
        grid = figure.add_gridspec(len(heights), len(widths), height_ratios=inches, width_ratios=widths)
        places = [[grid[row, column] for column in range(len(widths))] for row in range(len(heights))]
        return figure, [[figure.add_subplot(place) for place in row] for row in places]


def _removed_handle() -> Patch:
    from matplotlib.patches import Patch

    return Patch(facecolor="white", edgecolor=REMOVED, hatch="/////", linewidth=0, label="removed")


def _draw_scores(
    axes: Axes, colors: Axes, rows: Sequence[Row], row_inches: float, *, is_sorted: bool
) -> None:
    matrix = np.stack([row.scores for row in rows])
    low, high = np.nanquantile(matrix, (0.01, 0.99))
    width = 100.0 if is_sorted else matrix.shape[1]
    left = 0.0 if is_sorted else -0.5
    image = axes.imshow(
        np.ma.masked_invalid(matrix), cmap="viridis", vmin=low, vmax=max(high, low + 1e-12), aspect="auto",
        interpolation="nearest", extent=(left, left + width, len(rows) - 0.5, -0.5),
    )  # fmt: skip
    for number, row in enumerate(rows):
        step = width / len(row.removed)
        runs = [(left + first * step, (end - first) * step) for first, end in _runs(row.removed >= 0.5)]
        axes.broken_barh(
            runs,
            (number - 0.5, 1.0),
            facecolor=(1.0, 1.0, 1.0, 0.75),
            edgecolor=REMOVED,
            hatch="/////",
            linewidth=0,
        )
    axes.grid(visible=False)
    axes.set_yticks(range(len(rows)), [row.name for row in rows], fontsize=_font_size(row_inches))
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("units, best first, % of the module" if is_sorted else "unit", fontsize=8)
    axes.tick_params(axis="x", labelsize=8)
    if not is_sorted:
        _whole_numbers(axes)
    axes.figure.colorbar(image, cax=colors).set_label("score", fontsize=8)
    colors.tick_params(labelsize=7)


def _whole_numbers(axes: Axes) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _draw_shares(axes: Axes, rows: Sequence[Row], row_inches: float) -> None:
    size = _font_size(row_inches)
    shares = [100 * row.kept_share for row in rows]
    axes.barh(range(len(rows)), [100.0] * len(rows), height=0.8, color=GRID)
    axes.barh(range(len(rows)), shares, height=0.8, color=COLORS[0])
    for number, share in enumerate(shares):
        axes.annotate(
            f"{share:.0f}",
            (100, number),
            (2, 0),
            textcoords="offset points",
            va="center",
            fontsize=size,
            color=INK,
        )
    axes.tick_params(axis="y", labelleft=False, length=0)
    axes.tick_params(axis="x", labelsize=8)
    axes.set(xlim=(0, 118), ylim=(len(rows) - 0.5, -0.5))
    axes.set_xticks([0, 50, 100])
    axes.grid(visible=False)
    axes.set_xlabel("kept, %", fontsize=8)


def _runs(flags: Bool[ndarray, " columns"]) -> list[tuple[int, int]]:
    """First place and end of each stretch of true ones."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flags.astype(np.int8), [0]])))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def _font_size(row_inches: float) -> float:
    """As large as rows allow, in points."""
    return float(min(8.0, 0.85 * 72 * row_inches))
