"""Boxes as input of the image tokens that lie in them: our own rival, and an option of every branch.

In a pilot layout tokens alone were ignored for the first 12,000 images; image tokens that are told where in which box they
lie followed within 15,000.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from training.conditioning import Placed
from training.recipes.layout import LayoutOptions

HIDDEN = 256
PLACE_DIM = 16
SMALLEST_SIDE = 0.05
"""Boxes are read as no narrower, so that places in them stay finite."""


class Grid(NamedTuple):
    """Where image tokens lie: x and y of their middles in [0, 1], and half of what one covers to either side."""

    centres: Float[Tensor, "image 2"]
    half: Float[Tensor, " 2"]

    @classmethod
    def of_places(cls, rows: Float[Tensor, " image"], columns: Float[Tensor, " image"]) -> Grid:
        """From the row and column of every token, counted from any first one. Asks nothing of the device."""
        places = torch.stack([columns - columns.min(), rows - rows.min()], dim=-1)
        counts = places.amax(dim=0) + 1
        return cls((places + 0.5) / counts, 0.5 / counts)

    @classmethod
    def of_sides(cls, rows: int, columns: int, like: Tensor) -> Grid:
        """Row by row."""
        numbers = torch.arange(rows * columns, device=like.device)
        return cls.of_places((numbers // columns).to(like.dtype), (numbers % columns).to(like.dtype))


def inside_boxes(
    boxes_xyxy_norm: Float[Tensor, "b n 4"], there: Bool[Tensor, "b n"], grid: Grid
) -> Bool[Tensor, "b image n"]:
    """Which box covers any part of which image token; what is not ``there`` covers none."""
    centres = grid.centres[None, :, None]
    low, high = boxes_xyxy_norm[:, None, :, :2], boxes_xyxy_norm[:, None, :, 2:]
    return ((centres + grid.half > low) & (centres - grid.half < high)).all(dim=-1) & there[:, None]


class BoxAligned(nn.Module):
    """From boxes and phrases to what is added to the image tokens inside them; zero until it is trained.

    Of each box that covers a token: its place in the box (-1 to 1 from edge to edge, with sines and cosines of it at a
    quarter, a half and a whole turn), the box's size and the phrase, through two hidden layers, summed over boxes.
    """

    def __init__(self, phrase_dim: int, width: int) -> None:
        super().__init__()
        self.place = nn.Linear(PLACE_DIM, HIDDEN)
        self.phrase = nn.Linear(phrase_dim, HIDDEN, bias=False)
        self.hidden = nn.Linear(HIDDEN, HIDDEN)
        self.output = nn.Linear(HIDDEN, width)
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)

    def forward(
        self,
        boxes_xyxy_norm: Float[Tensor, "b n 4"],
        phrases: Float[Tensor, "b n phrase_dim"],
        inside: Bool[Tensor, "b image n"],
        grid: Grid,
    ) -> Float[Tensor, "b image width"]:
        """``inside``: of :func:`inside_boxes`."""
        places = places_in_boxes(boxes_xyxy_norm, grid).to(phrases.dtype)
        told = nn.functional.silu(self.place(places) + self.phrase(phrases)[:, None])
        told = nn.functional.silu(self.hidden(told)) * inside[..., None]
        summed = self.output(told.sum(dim=2))
        return summed * inside.any(dim=2, keepdim=True)  # the last bias too is for tokens in a box alone


def places_in_boxes(boxes_xyxy_norm: Float[Tensor, "b n 4"], grid: Grid) -> Float[Tensor, "b image n 16"]:
    """Where each image token lies in each box, and how large the box is."""
    low, high = boxes_xyxy_norm[:, None, :, :2], boxes_xyxy_norm[:, None, :, 2:]
    size = (high - low).clamp(min=SMALLEST_SIDE)
    place = (grid.centres[None, :, None] - (low + high) / 2) / (size / 2)
    turns = place.new_tensor([math.pi / 2, math.pi, 2 * math.pi])
    angles = (place[..., None] * turns).flatten(-2)
    return torch.cat([place, angles.sin(), angles.cos(), size.expand_as(place)], dim=-1)


def told_of_boxes(
    layout: Placed, options: LayoutOptions, aligned: BoxAligned | None, grid: Grid
) -> tuple[Bool[Tensor, "b image tokens"] | None, Float[Tensor, "b image width"] | None]:
    """What attention is limited to, and what image tokens receive; None each where options do not ask for it.

    Nulls are seen from everywhere, so that nobody is left without a key.
    """
    covered = inside_boxes(layout.boxes_xyxy_norm, layout.there, grid)
    inside = (
        (covered | ~layout.there[:, None]).repeat_interleave(options.tokens_per_entity, dim=2)
        if options.attend_inside and options.kind != "none"
        else None
    )
    if aligned is None:
        return inside, None
    phrases = layout.phrases.mean(dim=2)
    return inside, layout.strength * aligned(layout.boxes_xyxy_norm, phrases, covered, grid)
