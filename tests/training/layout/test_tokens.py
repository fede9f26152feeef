"""Encodings of boxes and phrases, number by number."""

from __future__ import annotations

import math

import torch

from training.layout.box_aligned import BoxAligned, Grid, inside_boxes, places_in_boxes
from training.layout.tokens import LayoutTokens, fourier_of_boxes


def test_the_encoding_of_a_box_is_the_papers_number_by_number() -> None:
    box = (0.1, 0.25, 0.6, 0.9)
    wanted = [
        wave(100 ** (k / 8) * value) for k in range(8) for wave in (math.sin, math.cos) for value in box
    ]
    found = fourier_of_boxes(torch.tensor([[box]], dtype=torch.float64))
    torch.testing.assert_close(found[0, 0], torch.tensor(wanted, dtype=torch.float64), atol=1e-6, rtol=1e-5)


def test_tokens_of_an_entity_stand_together_and_nulls_replace_phrase_and_box() -> None:
    torch.manual_seed(0)
    tokens = LayoutTokens(6, 8, 2, embeds_text=True)
    boxes, phrases = torch.rand(1, 3, 4), torch.randn(1, 3, 2, 6)
    there = torch.tensor([[True, False, True]])
    with torch.no_grad():
        tokens.null_positive_feature.fill_(0.3)
        tokens.null_position_feature.fill_(-0.2)
        found = tokens(boxes, phrases, there)
        assert found.shape == (1, 6, 8)
        for entity in range(3):
            for place in range(2):
                assert tokens.text_embedder is not None
                text = tokens.text_embedder(phrases[0, entity, place])
                where = fourier_of_boxes(boxes)[0, entity]
                if not there[0, entity]:
                    text, where = torch.full((8,), 0.3), torch.full((64,), -0.2)
                torch.testing.assert_close(
                    found[0, 2 * entity + place], tokens.linears(torch.cat([text, where]))
                )


def test_boxes_cover_the_tokens_that_they_touch() -> None:
    grid = Grid.of_sides(2, 4, torch.zeros(1))
    torch.testing.assert_close(grid.centres[:2], torch.tensor([[0.125, 0.25], [0.375, 0.25]]))
    boxes = torch.tensor([[[0.2, 0.1, 0.5, 0.4], [0.0, 0.5, 1.0, 1.0], [0.0, 0.0, 1.0, 1.0]]])
    found = inside_boxes(boxes, torch.tensor([[True, True, False]]), grid)
    assert found[0, :, 0].tolist() == [True, True, False, False] + [False] * 4
    assert found[0, :, 1].tolist() == [False] * 4 + [True] * 4
    assert not found[0, :, 2].any()
    places = torch.tensor([[0.0, row, column] for row in (3.0, 4.0) for column in (-1.0, 0.0, 1.0, 2.0)])
    same = Grid.of_places(places[:, 1], places[:, 2])
    torch.testing.assert_close(same.centres, grid.centres)
    torch.testing.assert_close(same.half, grid.half)


def test_a_token_is_told_its_place_in_the_box() -> None:
    grid = Grid.of_sides(4, 4, torch.zeros(1))
    found = places_in_boxes(torch.tensor([[[0.0, 0.5, 0.5, 1.0]]]), grid)[0, :, 0]
    # the token in row 2, column 1 has its middle at (.375, .625): half a side right of the box's middle, half above it
    told = found[4 * 2 + 1]
    torch.testing.assert_close(told[:2], torch.tensor([0.5, -0.5]))
    torch.testing.assert_close(told[2], torch.tensor(math.sin(0.5 * math.pi / 2)))
    torch.testing.assert_close(told[-2:], torch.tensor([0.5, 0.5]))


def test_what_lies_in_no_box_receives_nothing() -> None:
    torch.manual_seed(0)
    aligned = BoxAligned(6, 8)
    grid = Grid.of_sides(4, 4, torch.zeros(1))
    boxes, there = torch.tensor([[[0.0, 0.0, 0.4, 0.4], [0.3, 0.3, 0.9, 0.9]]]), torch.tensor([[True, True]])
    with torch.no_grad():
        aligned.output.weight.normal_()
        aligned.output.bias.normal_()
        inside = inside_boxes(boxes, there, grid)
        found = aligned(boxes, torch.randn(1, 2, 6), inside, grid)
    assert torch.equal(found[0].abs().sum(dim=1) > 0, inside[0].any(dim=1))
