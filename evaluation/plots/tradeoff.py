"""Score over size: one line a method, its points with intervals, the whole model as a level."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evaluation.intervals import Interval
from evaluation.plots.basic import COLORS, INK, legend_label, name_axes, new_figure, png_bytes
from training.errors import FoundryError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MARKERS = ("o", "s", "^", "D")
"""Told apart where there are more methods than colours."""
SIDESTEP_PERCENT = 0.35
"""Methods are compared at equal size: their points stand beside each other instead of on top."""


@dataclass(frozen=True)
class TradeOff:
    """A smaller model: share of the whole model's parameters that is left, and its score relative to the whole's (0: equal)."""

    method: str
    parameters_left: float
    relative: Interval


def tradeoff_plot(points: Sequence[TradeOff], *, title: str, margin: float | None = None) -> bytes:
    """Relative score over parameters left. ``margin`` draws the loss that is still allowed. Raises FoundryError for no points."""
    if not points:
        raise FoundryError(f"{title}: found no smaller model; at least one is needed")
    figure, axes = new_figure(9.4, 4.2)
    axes.axhline(0, color=INK, linewidth=0.9)
    if margin is not None:
        axes.axhline(-100 * margin, color=INK, linewidth=0.8, linestyle=":")
        axes.annotate(
            f"{margin:.0%} margin", (1, -100 * margin), (-4, 3), xycoords=("axes fraction", "data"),
            textcoords="offset points", ha="right", fontsize=8, color=INK,
        )  # fmt: skip
    methods = list(dict.fromkeys(point.method for point in points))
    for number, method in enumerate(methods):
        sidestep = SIDESTEP_PERCENT * (number - (len(methods) - 1) / 2)
        _draw(axes, number, sidestep, [point for point in points if point.method == method])
    name_axes(axes, title)
    axes.set(xlabel="parameters left, % of the whole model", ylabel="change of the judge's cosine, %")
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
    return png_bytes(figure)


def style_of(number: int) -> tuple[str, str]:
    """Colour and marker of the so-manyth method; no two are equal before there are 4 for every colour."""
    return COLORS[number % len(COLORS)], MARKERS[number // len(COLORS) % len(MARKERS)]


def _draw(axes: Axes, number: int, sidestep: float, points: Sequence[TradeOff]) -> None:
    own = sorted(points, key=lambda point: point.parameters_left)
    x = [100 * point.parameters_left + sidestep for point in own]
    y = [100 * point.relative.value for point in own]
    below = [100 * (point.relative.value - point.relative.low) for point in own]
    above = [100 * (point.relative.high - point.relative.value) for point in own]
    colour, marker = style_of(number)
    axes.errorbar(
        x, y, yerr=[below, above], color=colour, marker=marker, markersize=4.5, linewidth=1.4, capsize=2,
        label=legend_label(own[0].method),
    )  # fmt: skip
