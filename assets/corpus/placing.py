"""Where a scene's drawings lie: side by side, or one partly behind another."""

from __future__ import annotations

import numpy as np
from jaxtyping import UInt8

from assets.corpus.scene_drawing import BoxPx, Placement, sprite, visible_fractions
from assets.corpus.world import LEAST_VISIBLE, Look, Overlap

_MAX_OVERLAP = 0.2
_PLACEMENT_TRIES = 40
_OVERLAP_TRIES = 200
Sprite = UInt8[np.ndarray, "_ _ 4"]


def place(
    looks: list[Look], size_px: list[int], area: BoxPx, overlap: Overlap, random: np.random.Generator
) -> list[Placement]:
    """Random places inside ``area``, in the order of ``looks``, which is from back to front.

    In the share of scenes that ``overlap`` gives, the most hidden drawing is hidden as far as it says. In all others
    drawings overlap little. A drawing that finds no room is made smaller.
    """
    sprites = _fitting_sprites(looks, size_px, area)
    if len(sprites) > 1 and overlap.share > 0 and random.random() < overlap.share:
        found = _place_behind(sprites, area, overlap, random)
        if found is not None:
            return found
    # Worlds without overlap place as they did before there was any.
    return _place_apart(sprites, area, LEAST_VISIBLE if overlap.share > 0 else 0.0, random)


def _cells(count: int) -> tuple[int, int]:
    """Columns and rows of a grid with room for so many."""
    return min(count, 2), 1 if count <= 2 else 2


def _fitting_sprites(looks: list[Look], size_px: list[int], area: BoxPx) -> list[Sprite]:
    """The drawings, none larger than a grid cell of the area, so that all find room side by side."""
    x1, y1, x2, y2 = area
    columns, rows = _cells(len(looks))
    limit = min((x2 - x1) // columns, (y2 - y1) // rows)
    return [sprite(look.picture, min(size, limit)) for look, size in zip(looks, size_px, strict=True)]


def _place_apart(
    sprites: list[Sprite], area: BoxPx, least_visible: float, random: np.random.Generator
) -> list[Placement]:
    """Random places with little overlap; where none is found, one grid cell each."""
    for _ in range(_PLACEMENT_TRIES):
        placements = [_anywhere(item, area, random) for item in sprites]
        if _largest_overlap(placements) <= _MAX_OVERLAP and (
            least_visible == 0 or min(visible_fractions(placements, max(area))) >= least_visible
        ):
            return placements
    x1, y1, x2, y2 = area
    columns, rows = _cells(len(sprites))
    cell_w, cell_h = (x2 - x1) // columns, (y2 - y1) // rows
    return [
        Placement(item, x1 + cell_w * (index % columns), y1 + cell_h * (index // columns))
        for index, item in enumerate(sprites)
    ]


def _place_behind(
    sprites: list[Sprite], area: BoxPx, overlap: Overlap, random: np.random.Generator
) -> list[Placement] | None:
    """Random places, one drawing moved over another behind it; None where no try hides enough and not too much."""
    smallest, largest = overlap.hidden
    for _ in range(_OVERLAP_TRIES):
        placements = [_anywhere(item, area, random) for item in sprites]
        back, front = sorted(random.choice(len(sprites), 2, replace=False))
        placements[front] = _anywhere(sprites[front], _reach(placements[back], sprites[front], area), random)
        hidden = 1 - min(visible_fractions(placements, max(area)))
        if smallest <= hidden <= largest:
            return placements
    return None


def _reach(behind: Placement, item: Sprite, area: BoxPx) -> BoxPx:
    """The part of an area inside which every place of a drawing meets the box of another."""
    height, width = item.shape[:2]
    left, top, right, bottom = behind.box_px
    x1, y1, x2, y2 = area
    return (
        max(x1, left - width + 1),
        max(y1, top - height + 1),
        min(x2, right + width - 1),
        min(y2, bottom + height - 1),
    )


def _anywhere(item: Sprite, area: BoxPx, random: np.random.Generator) -> Placement:
    x1, y1, x2, y2 = area
    return Placement(
        item,
        int(random.integers(x1, x2 - item.shape[1] + 1)),
        int(random.integers(y1, y2 - item.shape[0] + 1)),
    )


def _largest_overlap(placements: list[Placement]) -> float:
    """Largest intersection of two boxes over the smaller box's area."""
    largest = 0.0
    for index, first in enumerate(placements):
        ax1, ay1, ax2, ay2 = first.box_px
        for second in placements[:index]:
            bx1, by1, bx2, by2 = second.box_px
            shared = max(0, min(ax2, bx2) - max(ax1, bx1)) * max(0, min(ay2, by2) - max(ay1, by1))
            smaller = min((ax2 - ax1) * (ay2 - ay1), (bx2 - bx1) * (by2 - by1))
            largest = max(largest, shared / smaller)
    return largest
