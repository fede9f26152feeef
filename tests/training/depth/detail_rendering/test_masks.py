"""Masks against the published table, pair by pair, for every mode, in batches, and in blocks."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import Bool
from torch import Tensor

from training.depth.detail_rendering import (
    Mode,
    RegionMasks,
    Regions,
    Rules,
    TokenLayout,
    allowed_pairs,
    exclusive,
    in_boxes,
    in_masks,
    strict_steps_of,
)
from training.depth.detail_rendering.attending import attend_in_blocks
from training.depth.detail_rendering.regions import front_to_back
from training.depth.detail_rendering.rules import RULES
from training.depth.detail_rendering.texts import ABSENT, GLOBAL
from training.errors import FoundryError

MODES = [Mode(*values) for values in product((True, False), repeat=2)]
GRID = (4, 5)
Token = tuple[str, int | frozenset[int]]
"""Text with its owner, or an image token with its owners."""
layouts = st.lists(
    st.lists(st.lists(st.booleans(), min_size=20, max_size=20), max_size=3), min_size=1, max_size=3
)


def _regions(rows: list[list[bool]]) -> Regions:
    inside = torch.tensor(rows, dtype=torch.bool).reshape(len(rows), 20)
    return Regions(inside, GRID)


def _slowly(layout: TokenLayout, rules: Rules, mode: Mode) -> Bool[Tensor, "b queries keys"]:
    """The published table, asked for every pair of tokens."""
    found = torch.zeros(len(layout.owner), layout.num_tokens, layout.num_tokens, dtype=torch.bool)
    for picture in range(len(layout.owner)):
        text: list[Token] = [("text", int(owner)) for owner in layout.owner[picture]]
        image: list[Token] = [
            ("image", frozenset(torch.nonzero(column)[:, 0].tolist())) for column in layout.inside[picture].T
        ]
        tokens = [*image, *text] if layout.image_first else [*text, *image]
        for (i, query), (j, key) in product(enumerate(tokens), repeat=2):
            found[picture, i, j] = _may(query, key, rules, mode)
    return found


def _may(query: Token, key: Token, rules: Rules, mode: Mode) -> bool:
    who, whose = query[1], key[1]
    for owner in (who, whose):
        if owner == ABSENT or (isinstance(owner, int) and owner >= 0 and not mode.controlled):
            return query == key  # takes no part
    if not mode.controlled or who == GLOBAL or who == frozenset():
        return True  # only the global text is left, T_g, or background: everything
    if isinstance(who, int):  # T_i
        if isinstance(whose, int):
            return whose == who or not rules.t2t
        return who in whose or not rules.t2i
    if isinstance(whose, frozenset):
        return bool(who & whose) or not (rules.i2i and mode.strict)
    if not rules.i2t:
        return True
    return not mode.strict if whose == GLOBAL else whose in who


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("off", [(), *[(rule,) for rule in RULES], RULES])
@given(rows=layouts, image_first=st.booleans())
@settings(max_examples=12, deadline=None)
def test_every_pair_is_as_the_table_says(
    mode: Mode, off: tuple[str, ...], rows: list[list[list[bool]]], image_first: bool
) -> None:
    layout = TokenLayout.of([_regions(row) for row in rows], 2, 3, image_first=image_first)
    rules = Rules.named([rule for rule in RULES if rule not in off])
    assert torch.equal(allowed_pairs(layout, rules, mode), _slowly(layout, rules, mode))


@given(rows=layouts, image_first=st.booleans())
@settings(max_examples=20, deadline=None)
def test_blocks_are_the_dense_mask(rows: list[list[list[bool]]], image_first: bool) -> None:
    layout = TokenLayout.of([_regions(row) for row in rows], 2, 3, image_first=image_first)
    masks = RegionMasks(layout, Rules(strict_steps=1, controlled_steps=2))
    shape = (len(rows), 2, layout.num_tokens, 4)
    query, key, value = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0))
    for step in range(3):
        dense = torch.nn.functional.scaled_dot_product_attention(
            query, key, value, attn_mask=masks.mask(step, 0)
        )
        by_token = [part.transpose(1, 2) for part in (query, key, value)]
        in_blocks = attend_in_blocks(by_token[0], by_token[1], by_token[2], masks.blocks(step, 0))
        torch.testing.assert_close(in_blocks.transpose(1, 2), dense)


def test_a_picture_is_the_same_alone_and_in_a_batch() -> None:
    first = in_boxes([(0.0, 0.0, 0.4, 1.0)], GRID)
    second = in_boxes([(0.0, 0.0, 0.4, 0.5), (0.4, 0.0, 1.0, 1.0), (0.2, 0.2, 0.8, 0.8)], GRID)
    budgets = [[4], [2, 3, 1]]
    batch = allowed_pairs(TokenLayout.of([first, second], 2, budgets), Rules(), Mode(True, True))
    alone = allowed_pairs(TokenLayout.of([first], 2, budgets[:1]), Rules(), Mode(True, True))[0]
    own = [*range(6), *range(8, 28)]  # 2 global, 4 of its own, 2 padding, 20 of the image
    assert torch.equal(batch[0][own][:, own], alone)
    assert not batch[0][own][:, [6, 7]].any()


def test_nulls_are_told_of_no_instance() -> None:
    layout = TokenLayout.of([in_boxes([(0.0, 0.0, 0.4, 1.0)], GRID)], 2, 3).beside_nulls()
    null, told = allowed_pairs(layout, Rules(), Mode(True, True))
    assert null[:2, :2].all()
    assert null[5:, 5:].all()
    assert not null[5:, 2:5].any()
    assert not told[5:, 5:].all()


def test_a_mode_is_made_once_and_follows_step_and_layer_alone() -> None:
    layout = TokenLayout.of([in_boxes([(0.0, 0.0, 0.4, 1.0)], GRID)], 2, 3)
    masks = RegionMasks(layout, Rules(strict_steps=2))
    assert masks.mask(0, 0) is masks.mask(1, 56)
    assert masks.mask(2, 0) is masks.mask(19, 3)
    assert masks.mask(0, 0) is not masks.mask(2, 0)
    as_published = Rules(strict_steps=2, one_step_longer=True)
    strict = [
        (step, layer) for step in range(4) for layer in range(3) if as_published.mode(step, layer).strict
    ]
    assert strict == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (2, 0)]
    in_some = Rules(strict_layers=frozenset({1}))
    assert [in_some.mode(0, layer).strict for layer in range(3)] == [False, True, False]


def test_gamma_is_the_papers_and_goes_with_size_and_steps() -> None:
    assert [strict_steps_of((side, side), 20) for side in (512, 768, 1024)] == [4, 3, 2]
    assert strict_steps_of((64, 64), 20) == 4
    assert strict_steps_of((2048, 2048), 20) == 2
    assert strict_steps_of((512, 512), 40) == 8
    assert strict_steps_of((1024, 1024), 4) == 1
    assert strict_steps_of((512, 1152), 20) == 3  # as large as 768 x 768


def test_boxes_cover_every_token_that_they_touch() -> None:
    regions = in_boxes([(0.21, 0.0, 0.61, 0.26), (0.999, 0.999, 1.0, 1.0), (0.2, 0.25, 0.4, 0.5)], GRID)
    first, last, exact = regions.inside.unflatten(1, GRID)
    assert first.nonzero().tolist() == [[0, 1], [0, 2], [0, 3], [1, 1], [1, 2], [1, 3]]
    assert last.nonzero().tolist() == [[3, 4]]
    assert exact.nonzero().tolist() == [[1, 1]]


def test_masks_of_any_size_are_read_by_their_parts() -> None:
    mask = torch.zeros(1, 16, 20, dtype=torch.bool)
    mask[0, 0:4, 4:8] = True
    assert in_masks(mask, GRID).inside.reshape(GRID).nonzero().tolist() == [[0, 1]]
    with pytest.raises(FoundryError, match="mask of instance 1: 0 pixels leave no token on a grid of 4 x 5"):
        in_masks(torch.cat([mask, torch.zeros_like(mask)]), GRID)


def test_overlaps_go_to_the_foremost() -> None:
    regions = in_boxes([(0.0, 0.0, 0.6, 1.0), (0.4, 0.0, 1.0, 1.0)], GRID)
    assert (regions.inside[0] & regions.inside[1]).sum() == 4
    split = exclusive(regions, [1, 0])
    assert not (split.inside[0] & split.inside[1]).any()
    assert torch.equal(split.inside[1], regions.inside[1])
    hidden = exclusive(in_boxes([(0.2, 0.0, 0.4, 0.5), (0.0, 0.0, 1.0, 1.0)], GRID), [1, 0])
    assert hidden.inside.any(dim=1).all()
    depth = torch.zeros(16, 20)
    masks = torch.zeros(2, 16, 20, dtype=torch.bool)
    masks[0, :, :10] = masks[1, :, 10:] = True
    depth[:, 10:] = 0.8
    assert front_to_back(depth, masks) == [1, 0]
    with pytest.raises(FoundryError, match="name each of 0 to 1 once"):
        exclusive(regions, [0, 0])


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (lambda: Rules.named(["i2j"]), "'i2j' found; did you mean 'i2t'"),
        (lambda: Rules(strict_steps=-1), "'strict_steps' is -1"),
        (
            lambda: TokenLayout.of([in_boxes([(0.0, 0.0, 1.0, 1.0)], GRID)], 2, [[1, 2]]),
            "2 text budgets for 1 instances",
        ),
        (lambda: TokenLayout.of([in_boxes([(0.0, 0.0, 1.0, 1.0)], GRID)], 2, 0), "give 1 token or more"),
        (
            lambda: TokenLayout.of([in_boxes([], GRID), in_boxes([], (2, 2))], 2, 1),
            r"grids \[\(2, 2\), \(4, 5\)\] found",
        ),
    ],
)
def test_what_cannot_be_is_told(wrong: Callable[[], object], told: str) -> None:
    with pytest.raises(FoundryError, match=told):
        wrong()
