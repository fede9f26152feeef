"""The rules inside models: an instance sees its own words alone, no rule is the stock model, blocks are the dense mask."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.training.pretrained_pipelines import POOLED, TEXT, flux, sd3, unet
from training.backbones import denoise
from training.conditioning import Condition
from training.depth.detail_rendering import (
    RegionMasks,
    Rules,
    TokenLayout,
    allowed_pairs,
    in_boxes,
    region_attention,
)
from training.depth.detail_rendering.masks import kinds_of
from training.errors import FoundryError

GLOBAL_TOKENS, OWN_TOKENS, SIDE = 3, 2, 8
GRID = (SIDE // 2, SIDE // 2)
BOXES = [(0.0, 0.0, 0.5, 0.5), (0.5, 0.5, 1.0, 1.0)]
MODELS: dict[str, Callable[[], nn.Module]] = {
    "FLUX": lambda: flux(num_layers=2, num_single_layers=2),
    "SD3": lambda: sd3(num_layers=3),
    "SD3.5": lambda: sd3(num_layers=3, dual_attention_layers=(0, 1), qk_norm="rms_norm"),
}
models = pytest.mark.parametrize("name", list(MODELS))


def made(name: str) -> nn.Module:
    torch.manual_seed(0)
    model = MODELS[name]().eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.2)  # zeros of fresh modulations would hide everything
    return model


def layout_of(name: str, boxes: list[tuple[float, float, float, float]] = BOXES) -> TokenLayout:
    regions = [in_boxes(boxes, GRID)]
    return TokenLayout.of(regions, GLOBAL_TOKENS, OWN_TOKENS, image_first=name != "FLUX")


def given(rows: int = 1, tokens: int = GLOBAL_TOKENS + 2 * OWN_TOKENS) -> tuple[Tensor, Condition]:
    random = torch.Generator().manual_seed(1)
    noisy = torch.randn(rows, 4, SIDE, SIDE, generator=random)
    states = torch.randn(rows, tokens, TEXT, generator=random)
    pooled = torch.randn(rows, POOLED, generator=random)
    return noisy, Condition(states, torch.ones(rows, tokens, dtype=torch.bool), pooled)


def answer(model: nn.Module, noisy: Tensor, told: Condition) -> Tensor:
    with torch.no_grad():
        return denoise(model, noisy, torch.full((len(noisy),), 500.0), told)


def under(
    model: nn.Module, layout: TokenLayout, rules: Rules, step: int = 0, *, blockwise: bool = False
) -> Any:
    return region_attention(model, RegionMasks(layout, rules), lambda: step, blockwise=blockwise)


@models
def test_without_rules_nothing_changes(name: str) -> None:
    model, (noisy, told) = made(name), given()
    stock = answer(model, noisy, told)
    before = [module.processor for module in model.modules() if hasattr(module, "processor")]
    with under(model, layout_of(name), Rules.named([])):
        torch.testing.assert_close(answer(model, noisy, told), stock)
    assert before == [module.processor for module in model.modules() if hasattr(module, "processor")]
    assert torch.equal(answer(model, noisy, told), stock)


def test_the_stock_models_own_mask_gives_the_same() -> None:
    model, (noisy, told), layout = made("FLUX"), given(), layout_of("FLUX")
    dense = allowed_pairs(layout, Rules(), Rules().mode(0, 0))[:, None]
    handles = [
        block.register_forward_pre_hook(
            lambda _, args, kwargs: (args, {**kwargs, "joint_attention_kwargs": {"attention_mask": dense}}),
            with_kwargs=True,
        )
        for block in (*model.get_submodule("transformer_blocks").children(),
                      *model.get_submodule("single_transformer_blocks").children())
    ]  # fmt: skip
    stock = answer(model, noisy, told)
    for handle in handles:
        handle.remove()
    with under(model, layout, Rules()):
        torch.testing.assert_close(answer(model, noisy, told), stock)


@models
@pytest.mark.parametrize("step", [0, 4])
def test_blocks_of_queries_are_the_dense_mask(name: str, step: int) -> None:
    model, (noisy, told) = made(name), given()
    with under(model, layout_of(name), Rules(), step):
        dense = answer(model, noisy, told)
    with under(model, layout_of(name), Rules(), step, blockwise=True):
        torch.testing.assert_close(answer(model, noisy, told), dense, atol=1e-5, rtol=1e-4)


@models
def test_in_strict_steps_an_instance_depends_on_its_own_words_and_place_alone(name: str) -> None:
    model, (noisy, told), layout = made(name), given(), layout_of(name)
    other_states = told.states.clone()
    other_states[:, :GLOBAL_TOKENS] += 1  # the global text
    other_states[:, GLOBAL_TOKENS + OWN_TOKENS :] -= 1  # the other instance's
    other_noisy = noisy.clone()
    other_noisy[:, :, :, SIDE // 2 :] += 1  # all but the first instance's half, and more
    other_noisy[:, :, SIDE // 2 :] += 1
    own = (slice(None), slice(None), slice(0, SIDE // 2), slice(0, SIDE // 2))
    with under(model, layout, Rules()):
        first = answer(model, noisy, told)
        second = answer(model, other_noisy, replace(told, states=other_states))
    torch.testing.assert_close(first[own], second[own])
    assert not torch.allclose(first, second)
    with under(model, layout, Rules(), step=4):  # now it sees the rest
        assert not torch.allclose(
            answer(model, noisy, told)[own],
            answer(model, other_noisy, replace(told, states=other_states))[own],
            atol=1e-4,
        )


@models
def test_an_instances_words_reach_no_other_instance_at_any_step(name: str) -> None:
    """Directly: with one block's worth of attention. Through the background they may, as published, after several."""
    model, (noisy, told), layout = (
        made(name),
        given(),
        layout_of(name, [(0.0, 0.0, 0.5, 1.0), (0.5, 0.0, 1.0, 1.0)]),
    )
    changed = told.states.clone()
    changed[:, GLOBAL_TOKENS + OWN_TOKENS :] -= 1
    rules = Rules(strict_steps=100)  # no background here, so that nothing is a go-between
    with under(model, layout, rules):
        first, second = (
            answer(model, noisy, replace(told, states=states)) for states in (told.states, changed)
        )
    half = SIDE // 2
    torch.testing.assert_close(first[..., :half], second[..., :half])
    assert not torch.allclose(first[..., half:], second[..., half:])


@models
def test_after_the_controlled_steps_only_the_global_text_is_left(name: str) -> None:
    model, (noisy, told), layout = made(name), given(), layout_of(name)
    alone = replace(told, states=told.states[:, :GLOBAL_TOKENS], mask=told.mask[:, :GLOBAL_TOKENS])
    with under(model, layout, Rules(controlled_steps=2), step=2):
        torch.testing.assert_close(answer(model, noisy, told), answer_outside(model, noisy, alone, name))


def answer_outside(model: nn.Module, noisy: Tensor, told: Condition, name: str) -> Tensor:
    """By another model with the same weights, which no rule touches."""
    other = MODELS[name]().eval()
    other.load_state_dict(model.state_dict())
    return answer(other, noisy, told)


@models
def test_nulls_before_the_pictures_are_told_of_no_instance(name: str) -> None:
    model, (noisy, told), layout = made(name), given(), layout_of(name)
    alone = replace(told, states=told.states[:, :GLOBAL_TOKENS], mask=told.mask[:, :GLOBAL_TOKENS])
    both = told.with_null(alone).doubled()
    with under(model, layout, Rules()):
        null, given_half = answer(model, torch.cat([noisy, noisy]), both).split(1)
        torch.testing.assert_close(given_half, answer(model, noisy, told))
    torch.testing.assert_close(null, answer(model, noisy, alone))


def test_some_layers_alone_may_be_strict() -> None:
    model, (noisy, told), layout = made("FLUX"), given(), layout_of("FLUX")
    found = []
    for layers in (None, frozenset({0, 1, 2, 3}), frozenset({1}), frozenset()):
        with under(model, layout, Rules(strict_layers=layers)):
            found.append(answer(model, noisy, told))
    with under(model, layout, Rules(strict_steps=0)):
        found.append(answer(model, noisy, told))
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[3], found[4])
    assert not torch.allclose(found[1], found[2], atol=1e-4)
    assert not torch.allclose(found[2], found[3], atol=1e-4)


def test_kinds_are_as_many_as_there_are_different_tokens() -> None:
    layout = layout_of("FLUX", [(0.0, 0.0, 0.5, 0.5), (0.25, 0.25, 1.0, 1.0)])
    kinds = kinds_of(layout, 0)
    assert kinds.layout.num_tokens == 3 + 4  # texts; background, first, second, both
    assert len(kinds.of) == layout.num_tokens


def test_processors_come_back_when_drawing_fails() -> None:
    model, (noisy, told) = made("SD3"), given(tokens=4)
    with (
        pytest.raises(FoundryError, match="20 tokens attend and the layout tells of 23"),
        under(model, layout_of("SD3"), Rules()),
    ):
        answer(model, noisy, told)
    assert (
        type(model.get_submodule("transformer_blocks.0.attn").processor).__name__ == "JointAttnProcessor2_0"
    )


@pytest.mark.parametrize(
    ("model", "layout", "told"),
    [
        (unet, "FLUX", "has no joint attention, .* render with a model of FLUX or SD3"),
        (MODELS["SD3"], "FLUX", "'image_first' is False, but SD3 has it otherwise"),
    ],
)
def test_models_that_cannot_are_refused(model: Callable[[], nn.Module], layout: str, told: str) -> None:
    with pytest.raises(FoundryError, match=told), under(model(), layout_of(layout), Rules()):
        pass


def test_fused_projections_and_backends_without_masks_are_refused() -> None:
    model = made("FLUX")
    attention: Any = model.get_submodule("single_transformer_blocks.1.attn")
    attention.processor._attention_backend = "flash"
    with (
        pytest.raises(FoundryError, match="attends by 'flash', which takes no mask"),
        under(model, layout_of("FLUX"), Rules()),
    ):
        pass
    with under(model, layout_of("FLUX"), Rules(), blockwise=True):
        pass  # needs no mask
    attention.processor._attention_backend = None
    attention.fused_projections = True
    with pytest.raises(FoundryError, match="fused projections"), under(model, layout_of("FLUX"), Rules()):
        pass


def test_rows_that_are_no_pictures_of_the_layout_are_refused() -> None:
    model, (noisy, told) = made("FLUX"), given(rows=3)
    with (
        pytest.raises(FoundryError, match="3 rows attend and the layout tells of 1 pictures"),
        under(model, layout_of("FLUX"), Rules()),
    ):
        answer(model, noisy, told)
