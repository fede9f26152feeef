"""The renderer of UNets: one cross-attention for each text, merged by where instances are (3DIS, arXiv 2410.12669, section 3.3).

The public renderer merges with a softmax over the constant 1 of the global text and 10 times the mask of each instance: where an
instance is, its own words count e^9 times as much as the scene's; elsewhere all others are left with a share of 1 in e.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from training.backbones import attentions, bare, family_of
from training.conditioning import Condition
from training.depth.detail_rendering.processors import in_place_of
from training.depth.detail_rendering.regions import Regions, padded
from training.depth.detail_rendering.texts import GLOBAL, TokenLayout
from training.errors import FoundryError
from training.sampling.control import ALL_STEPS, Window

GLOBAL_WEIGHT, INSTANCE_WEIGHT = 1.0, 10.0
RegionsAt = Callable[[tuple[int, int]], Sequence[Regions]]
"""Regions of every picture on a grid of (height, width) tokens: a UNet attends on several."""


def merging_weights(
    inside: Bool[Tensor, "b instances image"], there: Bool[Tensor, "b instances"]
) -> Float[Tensor, "b texts image"]:
    """Share of the global text, first, and of each instance's at every image token: softmax over [1, 10 mask_i] of the texts
    there are."""
    logits = torch.cat(
        [torch.ones_like(inside[:, :1], dtype=torch.float32), INSTANCE_WEIGHT * inside.float()], dim=1
    )
    logits[:, 0] = GLOBAL_WEIGHT
    logits[:, 1:].masked_fill_(~there[..., None], -torch.inf)
    return logits.softmax(dim=1)


@dataclass(frozen=True)
class RegionCrossAttention:
    """A control of the sampler for UNets. ``texts``: rows of :func:`training.depth.detail_rendering.control.texts_with_instances`, whose
    tokens belong to ``owner``. ``latent_size``: height and width, which a UNet halves. In ``window`` every cross-attention is
    merged; 3DIS does so at all steps."""

    texts: Condition
    owner: Int[Tensor, "b text"]
    regions_at: RegionsAt
    latent_size: tuple[int, int]
    window: Window = ALL_STEPS

    def condition(self, given: Condition, step: int, num_steps: int) -> Condition:
        """See :class:`training.sampling.control.Control`."""
        if not self.window.holds(step, num_steps):
            return given
        return replace(given, states=self.texts.states, mask=self.texts.mask)

    def around(self, backbone: Any, step: int, num_steps: int) -> AbstractContextManager[None]:
        """See :class:`training.sampling.control.Control`. Raises FoundryError for a model that is no UNet."""
        if not self.window.holds(step, num_steps):
            return nullcontext()
        layers = cross_attentions(bare(backbone))
        return in_place_of(layers, [_Merged(self)] * len(layers))

    def part(self, start: int, stop: int) -> RegionCrossAttention:
        """See :class:`training.sampling.control.Control`."""
        return replace(
            self,
            texts=self.texts.part(start, stop),
            owner=self.owner[start:stop],
            regions_at=lambda grid: self.regions_at(grid)[start:stop],
        )

    def layout_of(self, rows: int, tokens: int) -> TokenLayout:
        """Owners and regions of a forward pass with so many rows and image tokens, kept from the first time on."""
        if (rows, tokens) not in self._layouts:
            inside = padded(self.regions_at(grid_of(tokens, self.latent_size)))
            self._layouts[rows, tokens] = TokenLayout(inside, self.owner).of_rows(rows)
        return self._layouts[rows, tokens]

    @cached_property
    def _layouts(self) -> dict[tuple[int, int], TokenLayout]:
        return {}


def cross_attentions(model: nn.Module) -> list[Any]:
    """Every attention of a UNet through which its picture sees text. Raises FoundryError for another model."""
    row = family_of(model)
    found = [layer for _, layer in attentions(model) if getattr(layer, "is_cross_attention", False)]
    if row.part != "unet" or not found:
        raise FoundryError(
            f"a {type(model).__name__} of family {row.name} is no UNet with cross-attention; render with the joint rules"
        )
    for layer in found:
        if getattr(layer, "fused_projections", False):
            raise FoundryError(
                "the UNet's projections are fused; call unfuse_qkv_projections() before rendering"
            )
    return found


class _Merged:
    """One attention for each text, merged."""

    def __init__(self, told: RegionCrossAttention) -> None:
        self.told = told

    def __call__(
        self,
        attn: Any,
        hidden_states: Float[Tensor, "b image width"],
        encoder_hidden_states: Float[Tensor, "b text dim"],
        attention_mask: None = None,
        temb: None = None,
    ) -> Float[Tensor, "b image width"]:
        """As the stock processor's. Raises FoundryError where pictures and layouts differ in number."""
        layout = self.told.layout_of(*hidden_states.shape[:2])
        owner, inside = layout.owner, layout.inside
        texts = (
            encoder_hidden_states
            if attn.norm_cross is None
            else attn.norm_encoder_hidden_states(encoder_hidden_states)
        )
        query = _by_head(attn, attn.to_q(hidden_states))
        key, value = (_by_head(attn, layer(texts)) for layer in (attn.to_k, attn.to_v))
        own = (
            owner[:, None] == torch.arange(-1, inside.shape[1], device=owner.device)[:, None]
        )  # T_g, T_1 ... T_n
        assert GLOBAL == -1
        weights = merging_weights(inside, own[:, 1:].any(dim=2)).to(query.dtype)
        merged = torch.zeros_like(query)
        for number in range(own.shape[1]):
            there = own[:, number].any(dim=1)[:, None]
            mask = (own[:, number] | ~there)[
                :, None, None
            ]  # a text that is not there counts nothing, but needs keys
            heard = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
            merged = merged + weights[:, number, None, :, None] * heard
        linear, dropout = attn.to_out
        out: Tensor = dropout(linear(merged.transpose(1, 2).flatten(2)))
        return out / attn.rescale_output_factor


def grid_of(tokens: int, latent_size: tuple[int, int]) -> tuple[int, int]:
    """Height and width of so many image tokens in a UNet that halves latents, rounding up. Raises FoundryError for none such."""
    height, width = latent_size
    while height * width > tokens and max(height, width) > 1:
        height, width = -(-height // 2), -(-width // 2)
    if height * width != tokens:
        raise FoundryError(
            f"{tokens} image tokens attend, which latents of {latent_size[0]} x {latent_size[1]} halved do not give; tell the size "
            "that is drawn"
        )
    return height, width


def _by_head(attn: Any, states: Tensor) -> Float[Tensor, "b heads n head_width"]:
    return states.unflatten(-1, (attn.heads, -1)).transpose(1, 2)
