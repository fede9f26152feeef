"""A sweep as pictures: a bar a layer with those named that write, and a sheet with a row a layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from evaluation.localization.runs import SOURCE, TARGET
from evaluation.localization.sweep import ALL, Localization
from evaluation.plots.basic import COLORS, INK, name_axes, new_figure, png_bytes

if TYPE_CHECKING:
    from PIL.Image import Image

MOST_ROWS = 24
"""Layers that a sheet shows; of more it shows the best."""


def localization_plot(found: Localization, title: str) -> bytes:
    """F1 towards the target by layer in order of execution, chance as a line; chosen layers in another colour, with their names."""
    count = len(found.layers)
    figure, axes = new_figure(max(7.0, 0.16 * count + 3.0), 4.2)
    chosen = set(found.chosen.layers)
    places = np.arange(count)
    values = np.array([row.to_target.value for row in found.layers])
    errors = np.array(
        [
            [row.to_target.value - row.to_target.low, row.to_target.high - row.to_target.value]
            for row in found.layers
        ]
    )
    colors = [COLORS[1] if row.name in chosen else COLORS[0] for row in found.layers]
    axes.bar(places, values, 0.8, color=colors, yerr=errors.T.clip(0), ecolor=INK, capsize=2)
    axes.axhline(found.chance.value, color=INK, linestyle=":", linewidth=1.2, label="unrelated words")
    axes.axhline(
        found.references[ALL].to_target.value,
        color=COLORS[2],
        linestyle="--",
        linewidth=1.2,
        label="all layers",
    )
    axes.axhline(found.chosen.to_target.value, color=COLORS[1], linewidth=1.2, label="chosen layers together")
    for place, row in enumerate(found.layers):
        if row.name in chosen:
            axes.annotate(
                row.name, (place, row.to_target.high), rotation=90, fontsize=7, ha="center", va="bottom",
                xytext=(0, 3), textcoords="offset points",
            )  # fmt: skip
    axes.set_ylim(0, 1.35)
    axes.set_yticks(np.linspace(0, 1, 6))
    axes.set_xlabel("text layer, in order of execution")
    axes.set_ylabel("character F1 towards the target's word")
    axes.legend(loc="upper right", ncols=3)
    name_axes(axes, title)
    return png_bytes(figure)


def localization_sheet(found: Localization, pairs: int = 6, tile: int = 128) -> Image:
    """Rows of pictures of the first pairs: source, target, every layer patched alone, the chosen ones and all of them."""
    from evaluation.plots.contact_sheets import contact_sheet

    place = {row.name: number for number, row in enumerate(found.layers)}
    best = sorted(found.layers, key=lambda row: -row.to_target.value)[:MOST_ROWS]
    names = [SOURCE, TARGET, *sorted((row.name for row in best), key=place.__getitem__)]
    if found.chosen.name not in names:
        names.append(found.chosen.name)
    names.append(ALL)
    shown = min(pairs, len(found.images[SOURCE]))
    images = [image for name in names for image in found.images[name][:shown]]
    captions = [text for name in names for text in [_caption(name, place, found)] + [""] * (shown - 1)]
    return contact_sheet(images, captions, columns=shown, tile=tile)


def _caption(name: str, place: dict[str, int], found: Localization) -> str:
    if name == found.chosen.name:
        return f"chosen: {', '.join(str(place[layer]) for layer in found.chosen.layers)}"
    return f"layer {place[name]}: {name}" if name in place else name
