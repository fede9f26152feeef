"""More plots as PNG bytes, in the look of :mod:`evaluation.plots.basic`: panels of bars side by side, and plain lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from evaluation.intervals import Interval
from evaluation.plots.basic import COLORS, INK, STYLE, png_bytes
from training.errors import FoundryError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


LINE_STYLES = ("-", "--", ":", "-.")
"""Told apart where there are more curves than colours."""


@dataclass(frozen=True)
class Line:
    """A named curve."""

    name: str
    x: Float[ndarray, " n"]
    y: Float[ndarray, " n"]


@dataclass(frozen=True)
class Panel:
    """Bars of one panel: for every series a value a group (None is unknown and leaves a gap)."""

    title: str
    series: Mapping[str, Sequence[Interval | float | None]]


def panels_of_bars(panels: Sequence[Panel], groups: Sequence[str]) -> bytes:
    """Panels side by side, each with the same groups along x; several series get a legend.

    Raises FoundryError for no panels, no groups, or a series that has not one value a group.
    """
    if not panels or not groups:
        raise FoundryError(
            f"panels of bars: found {len(panels)} panels and {len(groups)} groups; at least one of each is needed"
        )
    names = list(dict.fromkeys(name for panel in panels for name in panel.series))
    figure, all_axes = _figure(2.6 * len(panels) + 0.6, 3.2, len(panels))
    for axes, panel in zip(all_axes, panels, strict=True):
        for number, (name, values) in enumerate(panel.series.items()):
            if len(values) != len(groups):
                raise FoundryError(
                    f"panel {panel.title!r}: series {name!r} has {len(values)} values; {len(groups)} are needed"
                )
            # A series has its colour in every panel; where there is only one, groups are told apart instead.
            color = COLORS[names.index(name) % len(COLORS)] if len(names) > 1 else None
            _bars(axes, number, len(panel.series), name, values, color)
        axes.set_xticks(range(len(groups)), [group[:24] for group in groups], rotation=30, ha="right")
        axes.set_title(panel.title, loc="left")
        axes.grid(visible=False, axis="x")
        axes.margins(y=0.12)  # room for the figures above the bars
        axes.set_ylim(bottom=0)
    if len(names) > 1:
        found = dict(
            pair for axes in all_axes for pair in zip(*axes.get_legend_handles_labels()[::-1], strict=True)
        )
        figure.legend(found.values(), found.keys(), loc="outside lower center", ncols=min(len(found), 4))
    return png_bytes(figure)


def _bars(
    axes: Axes,
    number: int,
    count: int,
    name: str,
    values: Sequence[Interval | float | None],
    color: str | None,
) -> None:
    width = 0.8 / count
    places = np.arange(len(values)) + (number - (count - 1) / 2) * width
    heights = [value.value if isinstance(value, Interval) else value for value in values]
    colors = [color or COLORS[index % len(COLORS)] for index in range(len(values))]
    axes.bar(
        places, [height or 0.0 for height in heights], width=0.9 * width, color=colors, label=name.lstrip("_")
    )
    for place, value, height in zip(places, values, heights, strict=True):
        if height is None:
            axes.text(place, 0, "?", ha="center", va="bottom", color="#6b7280")
            continue
        top = height
        if isinstance(value, Interval) and np.isfinite([value.low, value.high]).all():
            ends = [[max(0.0, height - value.low)], [max(0.0, value.high - height)]]
            axes.errorbar(place, height, yerr=ends, color=INK, capsize=2, linewidth=0.9)
            top = max(value.high, height)
        if color is None:
            axes.annotate(
                f"{height:,.3g}", (place, top), (0, 3), textcoords="offset points", ha="center", fontsize=8
            )


def lines(curves: Sequence[Line], *, title: str, x_label: str, y_label: str, log_axes: bool = False) -> bytes:
    """Curves in one picture, with a legend where there are several.

    Raises FoundryError for no curves.
    """
    if not curves:
        raise FoundryError(f"{title}: found nothing to draw; at least one curve is needed")
    figure, (axes,) = _figure(6.4, 3.6, 1)
    for number, curve in enumerate(curves):
        axes.plot(
            curve.x,
            curve.y,
            color=COLORS[number % len(COLORS)],
            linestyle=LINE_STYLES[number // len(COLORS) % len(LINE_STYLES)],
            linewidth=1.8,
            label=curve.name.lstrip("_"),
        )
    if log_axes:
        axes.set(xscale="log", yscale="symlog")
        for axis in (
            axes.xaxis,
            axes.yaxis,
        ):  # plain numbers: labels are shown as they are, never as formulas
            axis.set_major_formatter(_plain)
    axes.set_ylim(bottom=0)
    axes.set_title(title, loc="left")
    axes.set(xlabel=x_label, ylabel=y_label)
    if len(curves) > 1:
        axes.legend(loc="best", fontsize="small" if len(curves) > len(COLORS) else None)
    return png_bytes(figure)


def _plain(value: float, position: object = None) -> str:
    return f"{value:,.0f}"


def _figure(width_inches: float, height_inches: float, columns: int) -> tuple[Figure, list[Axes]]:
    """A figure of its own, as in :mod:`evaluation.plots.basic`: pyplot's global state is not touched."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width_inches, height_inches), dpi=130, layout="constrained")
        FigureCanvasAgg(figure)
        return figure, list(figure.subplots(1, columns, squeeze=False)[0])
