"""Plots as PNG bytes: loss curves, scaling plots, bars. Quiet, readable, the same look everywhere."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from evaluation.intervals import Interval
from evaluation.scaling.laws import Law
from training.errors import FoundryError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLORS = ("#2563eb", "#d97706", "#059669", "#c026d3", "#dc2626", "#0891b2", "#65a30d", "#7c3aed")
INK, GRID = "#374151", "#e5e7eb"
STYLE = {
    "font.size": 10.0,
    "axes.edgecolor": "#9ca3af",
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.titlesize": 11.0,
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": GRID,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "legend.fontsize": 9.0,
    "text.parse_math": False,  # names come from users: a dollar sign is only a dollar sign
}


@dataclass(frozen=True)
class Curve:
    """A series over images seen, such as the loss in one run."""

    name: str
    images_seen: Float[ndarray, " n"]
    value: Float[ndarray, " n"]


@dataclass(frozen=True)
class FamilyPoints:
    """Points of one model family, and the law fitted to them.

    ``error``: standard deviation of each value (over seeds where there are several, else over samples).
    """

    name: str
    x: Float[ndarray, " n"]
    y: Float[ndarray, " n"]
    error: Float[ndarray, " n"] | None
    law: Law


def loss_curves(
    curves: Sequence[Curve],
    *,
    title: str,
    x_label: str = "images seen",
    y_label: str = "training loss",
    smooth: int = 25,
) -> bytes:
    """Loss over images seen: each run as a thin raw line under its running mean of ``smooth`` points.

    Values that are not finite are left out. Raises FoundryError for no runs.
    """
    if not curves:
        raise FoundryError("loss curves: found no runs; at least one is needed; train a recipe first")
    figure, axes = new_figure(7.2, 3.8)
    with_legend = len(curves) > 1
    for number, curve in enumerate(curves):
        color = COLORS[number % len(COLORS)]
        finite = np.isfinite(curve.value)
        x, y = curve.images_seen[finite], curve.value[finite]
        if len(x) == 0:
            continue
        axes.plot(x, y, color=color, alpha=0.22, linewidth=0.8)
        axes.plot(x, _running_mean(y, smooth), color=color, linewidth=1.8, label=legend_label(curve.name))
    values = np.concatenate([curve.value[np.isfinite(curve.value)] for curve in curves])
    if len(values) > 20:  # the first steps would flatten everything that matters
        low, high = float(values.min()), float(np.quantile(values, 0.98))
        if high > low:
            axes.set_ylim(low - 0.05 * (high - low), high + 0.1 * (high - low))
    name_axes(axes, title)
    axes.set(xlabel=x_label, ylabel=y_label)
    axes.xaxis.set_major_formatter(_thousands)
    if with_legend:
        axes.legend(ncols=2 if len(curves) > 4 else 1, loc="upper right")
    return png_bytes(figure)


def scaling_plot(
    families: Sequence[FamilyPoints],
    *,
    title: str,
    x_label: str = "parameters",
    y_label: str = "denoising error",
) -> bytes:
    """Points with their noise for each family; a line with its 95 % band only where a law is identifiable."""
    if not families:
        raise FoundryError(
            "scaling plot: found no families; at least one is needed; train some recipes first"
        )
    figure, axes = new_figure(7.2, 4.4)
    for number, family in enumerate(families):
        color, marker = COLORS[number % len(COLORS)], "osD^v"[number % 5]
        note = "" if family.law.identifiable else " (law not identifiable)"
        label = legend_label(family.name) + note
        axes.errorbar(
            family.x,
            family.y,
            yerr=family.error,
            fmt=marker,
            color=color,
            markersize=5,
            capsize=3,
            label=label,
        )
        if family.law.identifiable:
            x = np.geomspace(family.law.x_min / 1.15, family.law.x_max * 1.15, 120)
            low, high = family.law.band(x)
            axes.plot(x, family.law.curve(x), color=color, linewidth=1.6)
            axes.fill_between(x, low, high, color=color, alpha=0.15, linewidth=0)
    name_axes(axes, title)
    axes.set(xlabel=x_label, ylabel=y_label, xscale="log")
    label_sizes(axes)
    axes.legend(loc="upper right")
    return png_bytes(figure)


def bars(
    values: Mapping[str, Interval | float | None],
    *,
    title: str,
    x_label: str,
    references: Mapping[str, float] | None = None,
) -> bytes:
    """Horizontal bars, first on top, each with its interval and number; ``references`` are dashed lines."""
    if not values:
        raise FoundryError("bars: found nothing to draw; at least one value is needed")
    figure, axes = new_figure(7.2, 0.9 + 0.34 * len(values) + 0.3)
    names = list(values)
    for position, name in enumerate(names):
        _bar(axes, position, values[name])
    axes.set_yticks(range(len(names)), [legend_label(name) for name in names])
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
    axes.margins(x=0.16)
    for number, (name, value) in enumerate((references or {}).items()):
        axes.axvline(
            value, color=COLORS[(number + 1) % len(COLORS)], linestyle="--", linewidth=1.4, label=name
        )
    if references:
        figure.legend(loc="outside lower center", ncols=len(references))
    name_axes(axes, title)
    axes.set(xlabel=x_label)
    return png_bytes(figure)


def _bar(axes: Axes, position: int, value: Interval | float | None) -> None:
    if value is None:
        axes.text(0, position, " unknown", va="center", color="#6b7280")
        return
    middle = value.value if isinstance(value, Interval) else value
    axes.barh(position, middle, color=COLORS[0], height=0.62)
    end = middle
    if isinstance(value, Interval) and np.isfinite([value.low, value.high]).all():
        ends = [[max(0.0, middle - value.low)], [max(0.0, value.high - middle)]]
        axes.errorbar(middle, position, xerr=ends, color=INK, capsize=3, linewidth=1)
        end = value.high
    axes.annotate(f"{middle:.3g}", (max(end, 0.0), position), (5, 0), textcoords="offset points", va="center")


def _running_mean(values: Float[ndarray, " n"], width: int) -> Float[ndarray, " n"]:
    """Mean of the last ``width`` values at each place (fewer at the start): no look into the future."""
    total = np.cumsum(np.concatenate([[0.0], values]))
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - width, 0)
    return (total[ends] - total[starts]) / (ends - starts)


def _thousands(value: float, position: object = None) -> str:
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g}{unit}"
    return f"{value:g}"


def label_sizes(axes: Axes) -> None:
    """Label 1, 2 and 5 of every decade: our sizes span little more than one."""
    from matplotlib.ticker import LogLocator, NullFormatter

    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(_thousands)
    axes.xaxis.set_minor_formatter(NullFormatter())


def name_axes(axes: Axes, title: str) -> None:
    """The title, where all our plots have it."""
    axes.set_title(title, fontweight="bold", loc="left")


def legend_label(name: str) -> str:
    """Names as matplotlib shows them: a leading underscore would hide a legend entry."""
    return (name[:40] or "unnamed").lstrip("_")


def new_figure(width_inches: float, height_inches: float) -> tuple[Figure, Axes]:
    """A figure of its own: pyplot's global state is not touched, so threads do not meet."""
    figure, (axes,) = row_of_axes(width_inches, height_inches, 1)
    return figure, axes


def row_of_axes(width_inches: float, height_inches: float, columns: int) -> tuple[Figure, list[Axes]]:
    """The same with several axes side by side."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width_inches, height_inches), dpi=150, layout="constrained")
        FigureCanvasAgg(figure)
        return figure, list(figure.subplots(1, columns, squeeze=False)[0])


def png_bytes(figure: Figure) -> bytes:
    """A figure in the look of all our plots, as PNG."""
    import matplotlib

    buffer = io.BytesIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
