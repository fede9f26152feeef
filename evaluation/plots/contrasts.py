"""Contrasts as a picture: one line a contrast, its difference with its interval, and the level of no difference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from evaluation.intervals import Interval, status_of
from evaluation.plots.basic import INK, name_axes, new_figure, png_bytes
from training.errors import FoundryError

STATUS_COLORS = {"holds": "#059669", "inside the noise": "#6b7280", "fails": "#dc2626"}


@dataclass(frozen=True)
class Contrast:
    """What a claim says is better than what, and by how much it was: below 0 where it was not."""

    name: str
    difference: Interval


def contrast_plot(contrasts: Sequence[Contrast], *, title: str, x_label: str) -> bytes:
    """Differences from top to bottom in the order given, coloured by what they say of their claim.

    Raises FoundryError for no contrast.
    """
    if not contrasts:
        raise FoundryError(f"{title}: found no contrast; at least one is needed")
    figure, axes = new_figure(9.4, 1.1 + 0.3 * len(contrasts))
    axes.axvline(0, color=INK, linewidth=0.9)
    for place, contrast in enumerate(contrasts):
        found = contrast.difference
        axes.errorbar(
            [found.value], [place], xerr=[[found.value - found.low], [found.high - found.value]],
            color=STATUS_COLORS[status_of(found)], marker="o", markersize=5, capsize=2.5, linewidth=1.6,
        )  # fmt: skip
    axes.set_yticks(range(len(contrasts)), [contrast.name[:60] for contrast in contrasts])
    axes.set_ylim(len(contrasts) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    for status, color in STATUS_COLORS.items():
        axes.plot([], [], color=color, marker="o", label=status)
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
    name_axes(axes, title)
    axes.set_xlabel(x_label)
    return png_bytes(figure)
