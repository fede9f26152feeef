"""Which image tokens belong to which instance: from boxes, or from masks of any size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from training.errors import FoundryError
from training.layout.boxes import BoxNorm


@dataclass(frozen=True, eq=False)
class Regions:
    """Image tokens of each instance of a picture, row by row. Regions may overlap: a token there may do what any of its owners may."""

    inside: Bool[Tensor, "instances image"]
    grid: tuple[int, int]

    def __len__(self) -> int:
        return len(self.inside)


def padded(regions: Sequence[Regions]) -> Bool[Tensor, "b instances image"]:
    """Regions of a batch, empty ones behind shorter lists; one slot where there is no instance at all."""
    most = max(1, *map(len, regions))
    inside = regions[0].inside.new_zeros(len(regions), most, regions[0].inside.shape[1])
    for number, own in enumerate(regions):
        inside[number, : len(own)] = own.inside
    return inside


def in_boxes(boxes_xyxy_norm: Sequence[BoxNorm], grid: tuple[int, int]) -> Regions:
    """A token belongs to a box that covers any part of it: starts are rounded down and ends up on a grid of (height, width)
    tokens. What boxes cover is never empty."""
    height, width = grid
    inside = torch.zeros(len(boxes_xyxy_norm), height, width, dtype=torch.bool)
    for number, (left, top, right, bottom) in enumerate(boxes_xyxy_norm):
        rows = slice(_first(top, height), math.ceil(bottom * height - ROUNDING))
        columns = slice(_first(left, width), math.ceil(right * width - ROUNDING))
        inside[number, rows, columns] = True
    return Regions(inside.flatten(1), grid)


ROUNDING = 1e-6
"""A box that ends within so much of a token's edge ends there: shares of a picture are rounded numbers."""


def _first(start: float, tokens: int) -> int:
    return min(math.floor(start * tokens + ROUNDING), tokens - 1)


def in_masks(masks: Bool[Tensor, "instances height width"], grid: tuple[int, int]) -> Regions:
    """A token belongs to a mask that is there in any part of what bilinear resizing reads for it, as published (anything above 0).

    Raises FoundryError for a mask that leaves no token.
    """
    values: Float[Tensor, "instances 1 height width"] = masks[:, None].float()
    resized = torch.nn.functional.interpolate(values, size=grid, mode="bilinear", align_corners=False)
    inside = (resized[:, 0] > 0).flatten(1)
    empty = [number for number, found in enumerate(inside.any(dim=1).tolist()) if not found]
    if empty:
        raise FoundryError(
            f"mask of instance {empty[0]}: {int(masks[empty[0]].sum())} pixels leave no token on a grid of {grid[0]} x {grid[1]}; give "
            "a larger mask, or its box"
        )
    return Regions(inside, grid)


def exclusive(regions: Regions, front_to_back: Sequence[int]) -> Regions:
    """Every token to the foremost of its owners alone; an instance that others hide altogether keeps all of its own.

    Raises FoundryError where the order does not name every instance once.
    """
    if sorted(front_to_back) != list(range(len(regions))):
        raise FoundryError(
            f"order of instances: {list(front_to_back)} found; name each of 0 to {len(regions) - 1} once, the foremost first"
        )
    taken = torch.zeros_like(regions.inside[0]) if len(regions) else regions.inside.new_zeros(0)
    inside = regions.inside.clone()
    for number in front_to_back:
        left = regions.inside[number] & ~taken
        inside[number] = left if left.any() else regions.inside[number]
        taken = taken | regions.inside[number]
    return Regions(inside, regions.grid)


def front_to_back(
    depth: Float[Tensor, "height width"], masks: Bool[Tensor, "instances height width"]
) -> list[int]:
    """Instances by the median of their depth, the nearest first; ``depth`` is large where things are near."""
    medians = [float(depth[mask].median()) if mask.any() else -math.inf for mask in masks]
    return sorted(range(len(medians)), key=lambda number: -medians[number])
