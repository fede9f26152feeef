"""Masks by hooks against products written into the formulas, their gradients, and what is left afterwards."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from diffusers import FluxTransformer2DModel
from torch import Tensor, nn
from torch.nn import functional as F

from tests.training.pruning.families import (
    FAMILIES,
    answer,
    groups_of,
    kinds_of,
    model_of,
    random_masks,
)
from training.errors import FoundryError
from training.pruning.masking import masked


def all_kinds(backbone: Any) -> tuple[Any, ...]:
    return kinds_of(isinstance(backbone, FluxTransformer2DModel))


def folded(backbone: Any, masks: dict[Any, Tensor]) -> Any:
    """The slow reference: the masks multiplied into the weights that follow (or, for adaLN, make) the units."""
    with torch.no_grad():
        for (kind, name), mask in masks.items():
            module = backbone.get_submodule(name)
            if kind == "norm":
                module.linear.weight.mul_(mask[:, None])
                module.linear.bias.mul_(mask)
                continue
            for linear, columns, width in _followers(backbone, kind, name, len(mask)):
                linear.weight[:, columns] *= mask.repeat_interleave(width)
    return backbone


def _followers(backbone: Any, kind: str, name: str, units: int) -> list[tuple[Any, slice, int]]:
    module = backbone.get_submodule(name)
    if name.startswith("single_transformer_blocks"):
        output = backbone.get_submodule(name.rpartition(".")[0]).proj_out
        dim = output.out_features
        return [(output, slice(0, dim), dim // units) if kind == "heads" else (output, slice(dim, None), 1)]
    if kind == "ffn":
        return [(module.net[2], slice(None), 1)]
    outputs = [module.to_out[0], getattr(module, "to_add_out", None)]
    return [(each, slice(None), each.in_features // units) for each in outputs if each is not None]


@pytest.mark.parametrize("name", FAMILIES)
def test_masks_do_what_scaled_weights_do(name: str) -> None:
    backbone = model_of(name)
    masks = random_masks(groups_of(backbone))
    with torch.no_grad():
        whole = answer(backbone)
        with masked(backbone, masks.__getitem__, all_kinds(backbone)):
            found = answer(backbone)
        wanted = answer(folded(backbone, masks))
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
    assert (found - whole).abs().max() > 1e-2


@pytest.mark.parametrize("name", FAMILIES)
def test_masks_of_one_change_no_bit_and_nothing_stays_behind(name: str) -> None:
    backbone = model_of(name)
    ones = {group.key: torch.ones(group.num_units) for group in groups_of(backbone)}
    with torch.no_grad():
        whole = answer(backbone)
        with masked(backbone, ones.__getitem__, all_kinds(backbone)):
            assert torch.equal(answer(backbone), whole)
        with pytest.raises(ZeroDivisionError), masked(backbone, lambda key: 1 / 0):  # type: ignore[arg-type,return-value]
            answer(backbone)
        assert torch.equal(answer(backbone), whole)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in backbone.modules())


def test_a_head_is_masked_before_heads_are_joined() -> None:
    """Attention by hand, [b, h, n, d] times [1, h, 1, 1], equals the hooks' product bit for bit."""
    backbone = model_of("pixart")
    attention = backbone.transformer_blocks[0].attn1
    mask = torch.tensor([0.3, 0.7])
    x_bnc = torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        q, k, v = (
            linear(x_bnc).view(2, 5, 2, 8).transpose(1, 2)
            for linear in (attention.to_q, attention.to_k, attention.to_v)
        )
        heads_bhnd = F.scaled_dot_product_attention(q, k, v) * mask[None, :, None, None]
        wanted = attention.to_out[0](heads_bhnd.transpose(1, 2).reshape(2, 5, 16))
        with masked(backbone, lambda key: mask, ("heads",)):
            assert torch.equal(attention(x_bnc), wanted)


@pytest.mark.parametrize("name", ["sd3", "flux"])
def test_masks_are_asked_once_a_call_by_name(name: str) -> None:
    backbone = model_of(name)
    asked: Counter[Any] = Counter()

    def masks(key: Any) -> Tensor:
        asked[key] += 1
        return torch.ones(units[key])

    units = {group.key: group.num_units for group in groups_of(backbone)}
    with torch.no_grad(), masked(backbone, masks, all_kinds(backbone)):
        for calls in (1, 2):
            answer(backbone)
            assert asked == dict.fromkeys(units, calls)


@pytest.mark.parametrize("name", ["sdxl", "sd3", "flux"])
@pytest.mark.parametrize("reentrant", [False, True])
def test_recomputation_sees_the_same_noise_and_gives_the_same_gradients(name: str, reentrant: bool) -> None:
    backbone = model_of(name).requires_grad_(
        reentrant
    )  # the older checkpointing needs gradients on its inputs
    groups = groups_of(backbone)
    logits = {group.key: torch.zeros(group.num_units, requires_grad=True) for group in groups}

    def noisy_masks(key: Any) -> Tensor:
        logit = logits[key]
        return torch.sigmoid(logit + torch.randn_like(logit))

    def gradients(checkpointing: bool) -> list[Tensor]:
        if checkpointing:
            backbone.enable_gradient_checkpointing(_checkpoint(reentrant))
        torch.manual_seed(5)
        with masked(backbone, noisy_masks, all_kinds(backbone)):
            loss = answer(backbone.train()).square().mean()
            return list(torch.autograd.grad(loss, list(logits.values()))) if not reentrant else _swept(loss)

    def _swept(loss: Tensor) -> list[Tensor]:
        for logit in logits.values():
            logit.grad = None
        loss.backward()
        return [logit.grad.clone() for logit in logits.values() if logit.grad is not None]

    plain, again = gradients(checkpointing=False), gradients(checkpointing=True)
    assert len(plain) == len(again) == len(logits)
    for key, one, other in zip(logits, plain, again, strict=True):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-7), key
        assert one.abs().max() > 0, key


def _checkpoint(reentrant: bool) -> Any:
    from torch.utils.checkpoint import checkpoint

    return lambda module, *args: checkpoint(module.__call__, *args, use_reentrant=reentrant)


def test_gradients_are_those_of_finite_differences() -> None:
    backbone = model_of("pixart").double()  # SD3 and FLUX normalise or turn queries in single precision
    groups = groups_of(backbone)
    masks = {key: value.double().requires_grad_() for key, value in random_masks(groups).items()}

    def loss() -> Tensor:
        with masked(backbone, masks.__getitem__, all_kinds(backbone)):
            return _double_answer(backbone).square().mean()

    found = torch.autograd.grad(loss(), list(masks.values()))
    step = 1e-5
    for (key, mask), gradient in zip(masks.items(), found, strict=True):
        with torch.no_grad():
            mask[0] += step
            above = loss()
            mask[0] -= 2 * step
            below = loss()
            mask[0] += step
        assert float((above - below) / (2 * step)) == pytest.approx(
            float(gradient[0]), rel=1e-4, abs=1e-10
        ), key


def _double_answer(backbone: nn.Module) -> Tensor:
    from training.backbones import denoise
    from training.conditioning import Condition

    random = torch.Generator().manual_seed(3)
    noisy, states, pooled = (
        torch.randn(*shape, generator=random, dtype=torch.float64)
        for shape in ((1, 4, 8, 8), (1, 3, 16), (1, 24))
    )
    timestep, mask = torch.tensor([500.0], dtype=torch.float64), torch.ones(1, 3, dtype=torch.bool)
    return denoise(backbone, noisy, timestep, Condition(states, mask, pooled))


def test_half_precision_stays_half() -> None:
    backbone = model_of("sd3").to(torch.bfloat16)
    masks = random_masks(groups_of(backbone))
    types = []
    hook = (
        backbone.transformer_blocks[0]
        .attn.to_out[0]
        .register_forward_pre_hook(lambda _module, inputs: types.append(inputs[0].dtype))
    )
    with masked(backbone, masks.__getitem__):
        backbone.transformer_blocks[0].attn(torch.ones(1, 2, 24, dtype=torch.bfloat16))
        backbone.transformer_blocks[0].ff(torch.ones(1, 2, 24, dtype=torch.bfloat16))
    hook.remove()
    assert types == [torch.bfloat16]


def test_a_mask_of_another_shape_is_named() -> None:
    backbone = model_of("pixart")
    with (
        pytest.raises(FoundryError, match=r"mask of 'heads/transformer_blocks.0.attn1': shape \[3\], \[2\]"),
        masked(backbone, lambda key: torch.ones(3)),
    ):
        answer(backbone)
