"""Attention masks of the detail renderer: who may look at whom, for a step and a layer, made once a mode and kept.

Tokens of one kind - the same instance's text, image tokens of the same owners - have the same row. So rows are worked out for one
token of each kind, and a mask is that small table spread out; blockwise attention reads the table itself.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from training.depth.detail_rendering.rules import Mode, Rules
from training.depth.detail_rendering.texts import ABSENT, GLOBAL, TokenLayout


class Kinds(NamedTuple):
    """Kinds of a picture's tokens. ``of``: of every token, in the order of attention; ``layout``: one token of each kind."""

    of: Int[Tensor, " tokens"]
    layout: TokenLayout


class Block(NamedTuple):
    """Queries that look at the same keys."""

    queries: Int[Tensor, " queries"]
    keys: Int[Tensor, " keys"]


def kinds_of(layout: TokenLayout, picture: int) -> Kinds:
    """The kinds of tokens in one picture."""
    owners, text = layout.owner[picture].unique(return_inverse=True)
    owned, image = layout.inside[picture].T.unique(dim=0, return_inverse=True)
    few = TokenLayout(owned.T[None], owners[None], layout.image_first)
    parts = [image, text + len(owned)] if layout.image_first else [text, image + len(owners)]
    return Kinds(torch.cat(parts), few)


def allowed_pairs(layout: TokenLayout, rules: Rules, mode: Mode) -> Bool[Tensor, "b queries keys"]:
    """Which query (row) may look at which key (column).

    Image tokens of no instance and the global text look at everything that takes part. What takes no part looks at its own kind,
    so that no row is empty, and nothing looks at it.
    """
    masks = []
    for picture in range(len(layout.owner)):
        kinds = kinds_of(layout, picture)
        masks.append(_between_kinds(kinds.layout, rules, mode)[kinds.of][:, kinds.of])
    return torch.stack(masks)


def blocks_of(layout: TokenLayout, rules: Rules, mode: Mode) -> list[list[Block]]:
    """The same, picture by picture, as queries that look at the same keys: few blocks, and no mask."""
    pictures = []
    for picture in range(len(layout.owner)):
        kinds = kinds_of(layout, picture)
        rows, row_of = _between_kinds(kinds.layout, rules, mode).unique(dim=0, return_inverse=True)
        rows_of_tokens = row_of[kinds.of]
        pictures.append(
            [
                Block((rows_of_tokens == number).nonzero()[:, 0], row[kinds.of].nonzero()[:, 0])
                for number, row in enumerate(rows)
            ]
        )
    return pictures


class RegionMasks:
    """Masks of one batch under one set of rules. Each mode, of which there are at most four, is made when it is first asked for."""

    def __init__(self, layout: TokenLayout, rules: Rules) -> None:
        self.layout, self.rules = layout, rules
        self._masks: dict[Mode, Bool[Tensor, "b 1 queries keys"]] = {}
        self._blocks: dict[Mode, list[list[Block]]] = {}
        self._of_rows: dict[int, RegionMasks] = {}

    def of_rows(self, rows: int) -> RegionMasks:
        """The same for so many rows of a forward pass; see :meth:`TokenLayout.of_rows`."""
        if rows not in self._of_rows:
            layout = self.layout.of_rows(rows)
            self._of_rows[rows] = self if layout is self.layout else RegionMasks(layout, self.rules)
        return self._of_rows[rows]

    def mask(self, step: int, layer: int) -> Bool[Tensor, "b 1 queries keys"]:
        """For attention, heads broadcast: the same tensor as long as the mode is the same."""
        mode = self.rules.mode(step, layer)
        if mode not in self._masks:
            self._masks[mode] = allowed_pairs(self.layout, self.rules, mode)[:, None]
        return self._masks[mode]

    def blocks(self, step: int, layer: int) -> list[list[Block]]:
        """For :func:`training.depth.detail_rendering.attending.attend_in_blocks`."""
        mode = self.rules.mode(step, layer)
        if mode not in self._blocks:
            self._blocks[mode] = blocks_of(self.layout, self.rules, mode)
        return self._blocks[mode]


def _between_kinds(few: TokenLayout, rules: Rules, mode: Mode) -> Bool[Tensor, "kinds kinds"]:
    text, image = _text_rows(few, rules, mode), _image_rows(few, rules, mode)
    allowed = torch.cat([image, text] if few.image_first else [text, image])
    return allowed | torch.eye(len(allowed), dtype=torch.bool, device=allowed.device)


def _image_rows(few: TokenLayout, rules: Rules, mode: Mode) -> Bool[Tensor, "image kinds"]:
    """What image tokens may look at. P_i are the instances' image tokens, T_i their texts, T_g the global text."""
    inside = few.inside[0].T  # [image, instances]
    background = ~inside.any(dim=1, keepdim=True)
    own_text, is_global, there = _text_of(few, mode)
    to_text = torch.ones(len(inside), len(there), dtype=torch.bool, device=inside.device)
    if rules.i2t and mode.controlled:  # T_i of owners, and T_g after the strict steps
        to_text = _share(inside, own_text) | background | (is_global & (not mode.strict))
    to_image = torch.ones(len(inside), len(inside), dtype=torch.bool, device=inside.device)
    if rules.i2i and mode.strict and mode.controlled:  # P_i of owners
        to_image = _share(inside, inside) | background
    return _joined(to_text & there, to_image, few)


def _text_rows(few: TokenLayout, rules: Rules, mode: Mode) -> Bool[Tensor, "text kinds"]:
    """What text tokens may look at: T_g at everything, T_i at T_i and P_i."""
    inside = few.inside[0].T
    own_text, is_global, there = _text_of(few, mode)
    to_text = torch.ones(len(there), len(there), dtype=torch.bool, device=inside.device)
    to_image = torch.ones(len(there), len(inside), dtype=torch.bool, device=inside.device)
    if rules.t2t:
        to_text = _share(own_text, own_text) | is_global[:, None]
    if rules.t2i:
        to_image = _share(own_text, inside) | is_global[:, None]
    return _joined(to_text & there, to_image, few) & there[:, None]


def _text_of(
    few: TokenLayout, mode: Mode
) -> tuple[Bool[Tensor, "text instances"], Bool[Tensor, " text"], Bool[Tensor, " text"]]:
    """Which text is whose, which is global, and which takes part."""
    owner = few.owner[0]
    own = owner[:, None] == torch.arange(few.inside.shape[1], device=owner.device)
    is_global = owner == GLOBAL
    return own, is_global, (owner != ABSENT) if mode.controlled else is_global


def _share(one: Bool[Tensor, "n instances"], other: Bool[Tensor, "m instances"]) -> Bool[Tensor, "n m"]:
    """Which two belong to an instance in common."""
    return (one[:, None] & other[None]).any(dim=2)


def _joined(to_text: Tensor, to_image: Tensor, few: TokenLayout) -> Bool[Tensor, "n kinds"]:
    return torch.cat([to_image, to_text] if few.image_first else [to_text, to_image], dim=1)
