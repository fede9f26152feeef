"""GLIGEN on UNets: the base is not touched, and what the branch adds is what diffusers' own gated UNet adds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from tests.training.layout.loops import floor_step, layout_loop
from training.backbones import build_backbone, denoise, is_of_branch
from training.conditioning import Condition, Placed
from training.errors import FoundryError
from training.layout.folders import branch_parameters, freeze_base, grow_branch, load_branch, save_branch
from training.layout.released import load_released, our_name
from training.measuring.steps import fixed_batch
from training.measuring.synthetic import Case
from training.objectives.layout import LayoutObjective
from training.recipes.layout import LayoutOptions

MAX_BOXES, WIDTH = 4, 12
CONFIG: dict[str, Any] = {
    "sample_size": 8, "in_channels": 4, "out_channels": 4, "block_out_channels": (8, 16), "layers_per_block": 1,
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"), "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "attention_head_dim": 2, "cross_attention_dim": WIDTH, "norm_num_groups": 4,
}  # fmt: skip
SDXL: dict[str, Any] = {
    "addition_embed_type": "text_time", "addition_time_embed_dim": 4, "projection_class_embeddings_input_dim": 10 + 24,
}  # fmt: skip


def base(**changed: Any) -> UNet2DConditionModel:
    torch.manual_seed(0)
    return UNet2DConditionModel(**{**CONFIG, **changed}).eval()


def options(**more: Any) -> LayoutOptions:
    return LayoutOptions(**{"kind": "gated", "max_boxes": MAX_BOXES, "phrase_dim": WIDTH, **more})


def opened(model: Any) -> Any:
    """Every zero-initialised part of the branch is given values."""
    torch.manual_seed(6)
    with torch.no_grad():
        for _, parameter in branch_parameters(model):
            if not parameter.any():
                parameter.copy_(torch.randn_like(parameter) * 0.3 + 0.2)
    return model


def placed(counts: tuple[int, ...] = (1, 3)) -> Placed:
    torch.manual_seed(3)
    corner, size = torch.rand(2, MAX_BOXES, 2) * 0.5, torch.rand(2, MAX_BOXES, 2) * 0.4 + 0.1
    there = torch.arange(MAX_BOXES) < torch.tensor(counts)[:, None]
    return Placed(torch.cat([corner, corner + size], dim=-1), torch.randn(2, MAX_BOXES, 1, WIDTH), there)


def answer(model: Any, layout: Placed | None = None, rows: slice = slice(0, 2), **given: Any) -> Tensor:
    torch.manual_seed(2)
    noisy, states, pooled = torch.randn(2, 4, 8, 8), torch.randn(2, 5, WIDTH), torch.randn(2, 10)
    told = Condition(states[rows], torch.ones(2, 5)[rows], pooled[rows], layout=layout)
    with torch.no_grad():
        if given:
            output: Tensor = model(
                noisy[rows], torch.tensor([300.0, 700.0])[rows], states[rows], return_dict=False, **given
            )[0]
            return output
        return denoise(model, noisy[rows], torch.tensor([300.0, 700.0])[rows], told)


VARIANTS: list[dict[str, Any]] = [
    {}, {"box_aligned": True}, {"kind": "none", "box_aligned": True},
]  # fmt: skip


@pytest.mark.parametrize("own", VARIANTS)
@pytest.mark.parametrize("family", [{}, SDXL])
def test_before_training_and_at_strength_0_the_base_answers_bit_for_bit(
    own: dict[str, Any], family: dict[str, Any]
) -> None:
    wanted = answer(base(**family))
    model = grow_branch(base(**family), options(**own)).eval()
    assert torch.equal(answer(model), wanted)
    assert torch.equal(answer(model, placed()), wanted)
    trained = opened(model)
    assert torch.equal(answer(trained, replace(placed(), strength=0.0)), wanted)
    assert not torch.allclose(answer(trained, placed()), wanted, atol=1e-3)
    half = answer(trained, replace(placed(), strength=0.5))
    assert not torch.allclose(half, answer(trained, placed()), atol=1e-4)
    assert torch.equal(answer(trained), wanted)  # nothing of a layout stays behind


def stock_gated() -> Any:
    """GLIGEN as diffusers has it, its gates open."""
    torch.manual_seed(1)
    stock = UNet2DConditionModel(**CONFIG, attention_type="gated").eval()
    with torch.no_grad():
        for name, parameter in stock.named_parameters():
            if name.endswith(("alpha_attn", "alpha_dense")) or "null_" in name:
                parameter.copy_(torch.randn_like(parameter) * 0.5 + 0.3)
    return stock


def test_it_computes_what_the_gated_unet_of_diffusers_does() -> None:
    stock, layout = stock_gated(), placed()
    told = {
        "boxes": layout.boxes_xyxy_norm,
        "positive_embeddings": layout.phrases[:, :, 0],
        "masks": layout.there.float(),
    }
    wanted = answer(stock, cross_attention_kwargs={"gligen": told})
    model = grow_branch(base(), options()).eval()
    load_released(model, stock.state_dict())
    torch.testing.assert_close(answer(model, layout), wanted, atol=1e-6, rtol=1e-5)  # sums in another order
    assert torch.equal(answer(model), answer(stock))
    assert not torch.allclose(answer(model), wanted, atol=1e-2)
    names = {our_name(name) for name in stock.state_dict() if "fuser" in name or "position_net" in name}
    assert names == {name for name, _ in branch_parameters(model)}


@pytest.mark.parametrize("own", VARIANTS)
def test_a_picture_is_the_same_alone_and_what_is_not_there_says_nothing(own: dict[str, Any]) -> None:
    model, layout = opened(grow_branch(base(), options(**own)).eval()), placed()
    together = answer(model, layout)
    for row in range(2):
        rows = slice(row, row + 1)
        alone = answer(model, layout.each(lambda tensor, rows=rows: tensor[rows]), rows)  # type: ignore[misc]
        torch.testing.assert_close(alone, together[rows], atol=1e-5, rtol=1e-5)
    boxes = torch.where(layout.there[..., None], layout.boxes_xyxy_norm, torch.tensor([0.2, 0.2, 0.9, 0.9]))
    phrases = torch.where(layout.there[..., None, None], layout.phrases, torch.randn(WIDTH))
    torch.testing.assert_close(
        answer(model, replace(layout, boxes_xyxy_norm=boxes, phrases=phrases)), together
    )


def test_boxes_that_are_aligned_reach_the_pixels_they_cover_first() -> None:
    """With nothing else told, what is added behind the first convolution is of the box's place alone."""
    model = opened(grow_branch(base(), options(kind="none", box_aligned=True)).eval())
    layout = replace(
        placed((1, 1)), boxes_xyxy_norm=torch.tensor([0.0, 0.0, 0.5, 0.25]).expand(2, MAX_BOXES, 4)
    )
    seen: list[Tensor] = []
    for told in (None, layout):
        handle = model.down_blocks[0].register_forward_pre_hook(
            lambda _, given, kwargs: seen.append(kwargs["hidden_states"]), with_kwargs=True
        )
        answer(model, told)
        handle.remove()
    changed = (seen[0] - seen[1]).abs().sum(dim=1) > 0
    wanted = torch.zeros(2, 8, 8, dtype=torch.bool)
    wanted[:, :2, :4] = True
    assert torch.equal(changed, wanted)


def test_gradients_reach_all_of_a_branch_also_where_blocks_are_computed_again() -> None:
    found = []
    for checkpointing in (False, True):
        model = opened(grow_branch(base(), options(box_aligned=True))).train()
        freeze_base(model)
        if checkpointing:
            model.enable_gradient_checkpointing()
        torch.manual_seed(2)
        told = Condition(torch.randn(2, 5, WIDTH), torch.ones(2, 5), layout=placed())
        denoise(model, torch.randn(2, 4, 8, 8), torch.tensor([3.0, 7.0]), told).square().mean().backward()
        assert all(p.grad is None for name, p in model.named_parameters() if not is_of_branch(name))
        found.append({name: parameter.grad for name, parameter in branch_parameters(model)})
    plain, again = found
    for name, gradient in plain.items():
        assert gradient is not None, name
        assert gradient.any(), name
        torch.testing.assert_close(again[name], gradient, atol=1e-6, rtol=1e-5, msg=name)


def test_a_folder_and_a_branch_come_back(tmp_path: Path) -> None:
    model = opened(grow_branch(base(), options(box_aligned=True)).eval())
    model.save_pretrained(tmp_path / "model")
    again = type(model).from_pretrained(tmp_path / "model").eval()
    assert torch.equal(answer(again, placed()), answer(model, placed()))
    save_branch(model, tmp_path / "branch", "a" * 64)
    other = load_branch(base(), tmp_path / "branch", "a" * 64).eval()
    assert torch.equal(answer(other, placed()), answer(model, placed()))
    with pytest.raises(FoundryError, match=r"its base has block_out_channels \[8, 16\], this one \[16, 16\]"):
        load_branch(base(block_out_channels=(16, 16)), tmp_path / "branch")


@pytest.mark.parametrize(
    ("own", "changed", "says"),
    [
        (
            {"kind": "siam"},
            {},
            "layout kind is 'siam', which is there for transformers alone; UNets have gated, none",
        ),
        ({"attend_inside": True}, {}, "attend_inside is true"),
        ({"tokens_per_entity": 2}, {}, "tokens_per_entity is 2; GLIGEN takes a phrase as its pooled vector"),
        (
            {},
            {
                "down_block_types": ("DownBlock2D", "DownBlock2D"),
                "up_block_types": ("UpBlock2D", "UpBlock2D"),
                "mid_block_type": None,
            },
            "has no transformer blocks",
        ),
        ({}, {"attention_type": "gated"}, "attention_type of the UNet is 'gated'"),
    ],
)
def test_what_a_unet_cannot_take_is_told(own: dict[str, Any], changed: dict[str, Any], says: str) -> None:
    with pytest.raises(FoundryError, match=says):
        grow_branch(base(**changed), options(**own))


def test_training_lowers_the_loss_and_leaves_the_base(tmp_path: Path) -> None:
    case = Case("UNet-tiny", 8, ema=False)
    loop = layout_loop(
        case, {"kind": "gated", "max_boxes": 2, "box_aligned": True}, tmp_path, recipe={"learning_rate": 0.01}
    )
    objective = loop.objective
    assert isinstance(objective, LayoutObjective)
    draw = loop.order.draw(0, 64)
    batch = objective.load(draw)

    def error() -> float:
        with torch.no_grad():
            return float(objective.loss(batch, draw)[0])

    before = error()
    for _ in range(40):
        loop._step()
    assert error() < 0.97 * before
    stock = build_backbone("UNet-tiny", 0).state_dict()
    assert all(torch.equal(loop.module.state_dict()[name], tensor) for name, tensor in stock.items())
    assert len(fixed_batch(loop, 8).latents) == 8
    floor_step(loop, case)()
