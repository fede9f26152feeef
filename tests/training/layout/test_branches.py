"""Layout branches of SD3 and FLUX: the base is not touched, and a branch computes what the paper's equations say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.training.layout.tiny import (
    ALL,
    PHRASE_DIM,
    answer,
    base,
    inputs,
    placed,
    randomised,
    with_layout,
)
from training.errors import FoundryError
from training.layout.attention import Told, Where
from training.recipes.layout import Kind

EVERY = [*ALL, ("SD3", "joint")]
DEAD: dict[Kind, tuple[str, ...]] = {
    "siam": ("add_q_proj",),
    "siam_lora": ("layout_q",),
    "joint": ("layout.to_q",),
    "adapter": (),
    "gated": (),
    "none": (),
}


@pytest.mark.parametrize(("family", "kind"), ALL)
@pytest.mark.parametrize("aligned", [False, True])
def test_before_training_and_at_strength_0_the_base_answers_bit_for_bit(
    family: str, kind: Kind, aligned: bool
) -> None:
    stock = base(family)
    model = with_layout(stock, kind, box_aligned=aligned)
    wanted = answer(stock)
    assert torch.equal(answer(model), wanted)
    assert torch.equal(answer(model, placed(model)), wanted)
    trained = randomised(model)
    assert torch.equal(answer(trained, replace(placed(model), strength=0.0)), wanted)
    assert not torch.allclose(answer(trained, placed(model)), wanted, atol=1e-3)


def test_joint_attention_answers_otherwise_from_the_start_and_as_the_base_at_strength_0() -> None:
    stock = base()
    model = with_layout(stock, "joint")
    assert torch.equal(answer(model), answer(stock))
    assert torch.equal(answer(model, replace(placed(model), strength=0.0)), answer(stock))
    assert not torch.allclose(answer(model, placed(model)), answer(stock), atol=1e-3)


@pytest.mark.parametrize(("family", "kind"), EVERY)
@pytest.mark.parametrize("options", [{}, {"box_aligned": True, "attend_inside": True}])
def test_a_picture_is_the_same_alone_and_beside_others(
    family: str, kind: Kind, options: dict[str, bool]
) -> None:
    model = randomised(with_layout(base(family), kind, **options))
    together = answer(model, placed(model))
    for row in range(2):
        given = {
            name: value if name.endswith("_ids") else value[row : row + 1]
            for name, value in inputs(model).items()
        }
        own = placed(model)
        one = replace(
            own,
            boxes_xyxy_norm=own.boxes_xyxy_norm[row : row + 1],
            phrases=own.phrases[row : row + 1],
            there=own.there[row : row + 1],
        )
        alone = answer(model, one, given)
        torch.testing.assert_close(alone, together[row : row + 1], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("family", "kind"), EVERY)
def test_what_is_not_there_says_nothing(family: str, kind: Kind) -> None:
    model = randomised(with_layout(base(family), kind, box_aligned=True, attend_inside=True))
    layout = placed(model)
    other = replace(
        layout,
        boxes_xyxy_norm=torch.where(
            layout.there[..., None], layout.boxes_xyxy_norm, torch.tensor([0.2, 0.2, 0.9, 0.9])
        ),
        phrases=torch.where(layout.there[..., None, None], layout.phrases, torch.randn(PHRASE_DIM)),
    )
    torch.testing.assert_close(answer(model, other), answer(model, layout))


@pytest.mark.parametrize(("family", "kind"), EVERY)
def test_gradients_reach_all_of_a_branch(family: str, kind: Kind) -> None:
    model = randomised(with_layout(base(family), kind, box_aligned=True)).train()
    model(**inputs(model), layout=placed(model), return_dict=False)[0].square().mean().backward()
    for name, parameter in model.named_parameters():
        # Nobody hears what the last block's layout tokens hear: their queries are there for the released weights alone.
        is_dead = name.startswith("transformer_blocks.2.") and any(part in name for part in DEAD[kind])
        if "layout" in name and not is_dead:
            assert parameter.grad is not None, name
            assert parameter.grad.any(), name


@pytest.mark.parametrize(("family", "kind"), EVERY)
def test_recomputing_blocks_gives_the_same_gradients(family: str, kind: Kind) -> None:
    found = []
    for checkpointing in (False, True):
        model = randomised(with_layout(base(family), kind, box_aligned=True)).train()
        if checkpointing:
            model.enable_gradient_checkpointing()
        model(**inputs(model), layout=placed(model), return_dict=False)[0].square().mean().backward()
        found.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    plain, again = found
    assert plain.keys() == again.keys()
    for name, gradient in plain.items():
        torch.testing.assert_close(again[name], gradient, atol=1e-6, rtol=1e-5, msg=name)


def test_the_models_of_stable_diffusion_3_5_take_it_too() -> None:
    stock = base(qk_norm="rms_norm", dual_attention_layers=(0, 1))
    model = with_layout(stock, "siam")
    assert torch.equal(answer(model, placed(model)), answer(stock))
    assert not torch.allclose(answer(randomised(model), placed(model)), answer(stock), atol=1e-3)


@pytest.mark.parametrize("family", ["SD3", "FLUX"])
def test_a_folder_comes_back_as_it_was(family: str, tmp_path: Path) -> None:
    model = randomised(with_layout(base(family), "siam", box_aligned=True))
    model.save_pretrained(tmp_path)
    again = type(model).from_pretrained(tmp_path)
    assert again.layout_options == model.layout_options
    assert torch.equal(answer(again.eval(), placed(model)), answer(model, placed(model)))


@pytest.mark.parametrize("family", ["SD3", "FLUX"])
def test_a_layout_of_another_shape_is_an_error_by_name(family: str) -> None:
    model = with_layout(base(family), "siam")
    layout = placed(model)
    with pytest.raises(FoundryError, match="3 entities found, this model takes 4"):
        answer(model, layout.each(lambda tensor: tensor[:, :3]))
    with pytest.raises(FoundryError, match="5 width of phrases found"):
        answer(model, replace(layout, phrases=layout.phrases[..., :5]))
    if family == "SD3":
        with pytest.raises(FoundryError, match="1 pictures found, this model takes 2"):
            answer(model, layout.each(lambda tensor: tensor[:1]))


@pytest.mark.parametrize("family", ["SD3", "FLUX"])
def test_fused_projections_are_refused(family: str) -> None:
    model = with_layout(base(family), "siam")
    for block in model.transformer_blocks:
        block.attn.fused_projections = True
    with pytest.raises(FoundryError, match="unfuse_qkv_projections"):
        answer(model, placed(model))


def softmax_attention(query: Tensor, key: Tensor, value: Tensor, heads: int) -> Tensor:
    """One head and one query at a time."""
    width = query.shape[-1] // heads
    out = torch.zeros(query.shape[0], query.shape[1], heads * width)
    for head in range(heads):
        part = slice(head * width, (head + 1) * width)
        for place in range(query.shape[1]):
            score = (key[..., part] * query[:, place : place + 1, part]).sum(-1) / width**0.5
            out[:, place, part] = (score.softmax(-1)[..., None] * value[..., part]).sum(1)
    return out


def test_a_siam_block_is_the_papers_equations() -> None:
    block = randomised(with_layout(base(), "siam")).transformer_blocks[0]
    branch, own = block.layout, block.layout.attention
    torch.manual_seed(5)
    x, c, layout, temb = (torch.randn(2, *shape) for shape in ((7, 16), (5, 16), (4, 16), (16,)))
    with torch.no_grad():
        text, image = block(x, c, temb, {"layout": Told(layout, Where(), None, 0.7)})
        x_, g1, s2, c2, g2 = block.norm1(x, emb=temb)
        c_ = block.norm1_context(c, emb=temb)[0]
        l_, lg1, ls2, lc2, lg2 = branch.norm1(layout, emb=temb)
        heard, _ = block.attn(hidden_states=x_, encoder_hidden_states=c_)  # a_I
        query = torch.cat([own.to_q(x_), own.add_q_proj(l_)], dim=1)
        key = torch.cat([own.to_k(x_), own.add_k_proj(l_)], dim=1)
        value = torch.cat([own.to_v(x_), own.add_v_proj(l_)], dim=1)
        mixed = softmax_attention(query, key, value, heads=2)
        b_image, b_layout = own.to_out(mixed[:, :7]), own.to_add_out(mixed[:, 7:])
        x = x + g1[:, None] * heard + 0.7 * branch.output(b_image)
        wanted = x + g2[:, None] * block.ff(block.norm2(x) * (1 + c2[:, None]) + s2[:, None])
        layout = layout + lg1[:, None] * b_layout
        wanted_l = layout + lg2[:, None] * branch.ff(branch.norm2(layout) * (1 + lc2[:, None]) + ls2[:, None])
    torch.testing.assert_close(image, wanted, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(text[:, 5:], wanted_l, atol=1e-5, rtol=1e-5)


def test_flux_has_no_rivals() -> None:
    with pytest.raises(FoundryError, match="layout kind is 'adapter', which is there for SD3 alone"):
        with_layout(base("FLUX"), "adapter")
