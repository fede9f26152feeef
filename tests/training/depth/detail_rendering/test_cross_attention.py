"""The UNet's renderer against one stock attention for each text, weighed by hand, and its independence of other words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler
from torch import Tensor, nn

from tests.training.pretrained_pipelines import TEXT, sd3, unet
from tests.training.pruning.stand_ins import FakeDenoiser
from training.conditioning import Condition
from training.depth.detail_rendering import Regions, TokenLayout, in_boxes, texts_with_instances
from training.depth.detail_rendering.cross_attention import (
    RegionCrossAttention,
    cross_attentions,
    grid_of,
    merging_weights,
)
from training.errors import FoundryError
from training.layout.boxes import BoxNorm
from training.sampling.control import Window
from training.sampling.denoising_loop import sample_latents

LAYOUTS: list[list[BoxNorm]] = [[(0.0, 0.0, 0.5, 0.5), (0.5, 0.5, 1.0, 1.0)], [(0.0, 0.25, 1.0, 0.75)], []]
SIZE = (8, 8)


def texts(rows: int, tokens: int, seed: int) -> Condition:
    states = torch.randn(rows, tokens, TEXT, generator=torch.Generator().manual_seed(seed))
    return Condition(states, torch.ones(rows, tokens, dtype=torch.bool))


def regions_of(layouts: Sequence[Sequence[BoxNorm]]) -> Any:
    def at(grid: tuple[int, int]) -> list[Regions]:
        return [in_boxes(boxes, grid) for boxes in layouts]

    return at


def control_of(
    layouts: list[list[BoxNorm]], told: Condition, phrases: Condition, **more: Any
) -> RegionCrossAttention:
    counts = [len(boxes) for boxes in layouts]
    owner = TokenLayout.of([in_boxes(boxes, SIZE) for boxes in layouts], 3, 2).owner
    return RegionCrossAttention(
        texts_with_instances(told, phrases, counts), owner, regions_of(layouts), SIZE, **more
    )


def test_each_text_is_attended_to_by_itself_and_weighed_by_the_softmax() -> None:
    torch.manual_seed(0)
    model = unet().eval()
    control = control_of(LAYOUTS[:1], texts(1, 3, 1), texts(2, 2, 2))
    layer = cross_attentions(model)[0]
    image = torch.randn(1, 64, layer.to_q.in_features)
    inside = in_boxes(LAYOUTS[0], SIZE).inside
    stock = layer.processor
    with torch.no_grad():
        each = [stock(layer, image, states) for states in control.texts.states.split([3, 2, 2], dim=1)]
        bias = layer.to_out[0].bias
        weights = torch.tensor(
            [[1.0, *(10.0 * float(inside[number, token]) for number in range(2))] for token in range(64)]
        ).softmax(dim=1)
        slow = sum(weights[:, number, None] * (out - bias) for number, out in enumerate(each)) + bias
        with control.around(model, 0, 4):
            fast = layer(image, control.texts.states)
    torch.testing.assert_close(fast, slow)
    assert layer.processor is stock


def test_an_instances_words_count_where_it_is_and_hardly_elsewhere() -> None:
    weights = merging_weights(torch.tensor([[[True, False]]]), torch.tensor([[True]]))[0]
    assert weights[1, 0] / weights[0, 0] == pytest.approx(8103.08, rel=1e-4)  # e^9
    assert weights[1, 1] / weights[0, 1] == pytest.approx(0.3679, rel=1e-3)  # e^-1
    absent = merging_weights(torch.tensor([[[False, False]]]), torch.tensor([[False]]))[0]
    assert torch.equal(absent, torch.tensor([[1.0, 1.0], [0.0, 0.0]]))


def drawn(control: RegionCrossAttention | None, told: Condition, seeds: list[int], guidance: float) -> Tensor:
    torch.manual_seed(0)
    model: nn.Module = unet().eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.2)
    with torch.no_grad():
        return sample_latents(
            FakeDenoiser(model, DDIMScheduler), told, seeds, 3, guidance, SIZE, control=control
        )


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_pictures_are_rendered_alike_alone_and_among_others(guidance: float) -> None:
    told, phrases = texts(3, 3, 1).with_null(texts(1, 3, 5)), texts(3, 2, 2)
    control = control_of(LAYOUTS, told, phrases)
    both = drawn(control, told, [1, 2, 3], guidance)
    alone = drawn(
        control_of(LAYOUTS[1:2], told.part(1, 2), phrases.part(2, 3)), told.part(1, 2), [2], guidance
    )
    torch.testing.assert_close(both[1:2], alone)
    torch.testing.assert_close(drawn(control.part(1, 2), told.part(1, 2), [2], guidance), alone)
    plain = drawn(None, told, [1, 2, 3], guidance)
    torch.testing.assert_close(both[2], plain[2])  # no instance
    assert not torch.allclose(both[0], plain[0], atol=1e-3)


def test_outside_its_window_nothing_is_changed() -> None:
    told, phrases = texts(1, 3, 1), texts(2, 2, 2)
    never = control_of(LAYOUTS[:1], told, phrases, window=Window(0.0, 0.0))
    assert torch.equal(drawn(never, told, [1], 1.0), drawn(None, told, [1], 1.0))


def test_grids_are_halved_latents() -> None:
    assert [grid_of(tokens, (9, 14)) for tokens in (126, 35, 12, 4)] == [(9, 14), (5, 7), (3, 4), (2, 2)]
    with pytest.raises(FoundryError, match="100 image tokens attend, which latents of 9 x 14 halved"):
        grid_of(100, (9, 14))


def test_other_models_and_other_numbers_of_pictures_are_refused() -> None:
    with pytest.raises(FoundryError, match="is no UNet with cross-attention"):
        cross_attentions(sd3())
    model = unet().eval()
    control = control_of(LAYOUTS[:1], texts(1, 3, 1), texts(2, 2, 2))
    layer = cross_attentions(model)[0]
    with (
        pytest.raises(FoundryError, match="3 rows attend and the layout tells of 1 pictures"),
        control.around(model, 0, 4),
    ):
        layer(torch.randn(3, 64, layer.to_q.in_features), control.texts.states.repeat(3, 1, 1))
