"""SD3's transformer with a layout branch in every block (CreatiLayout's SiamLayout-SD3 and its rivals).

A subclass of the stock class: without a layout, or at strength 0, it is the stock forward pass. Layout tokens travel behind the
text tokens from block to block, so that gradient checkpointing, sharding by block and everything else that the stock class
does holds for them as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from diffusers import ModelMixin as ModelMixin  # pipelines look here for the class whose methods load ours
from diffusers import SD3Transformer2DModel
from diffusers.models.attention import JointTransformerBlock
from jaxtyping import Float
from torch import Tensor, nn

from training.backbones.own_options import constructor_with
from training.conditioning import Placed
from training.layout.attention import TOLD, Told, Where, apart, refuse_fused, split_behind
from training.layout.box_aligned import BoxAligned, Grid, told_of_boxes
from training.layout.branches import (
    AdapterBranch,
    Branch,
    GatedBranch,
    JointBranch,
    SiamBranch,
    SiamLowRankBranch,
    modulated,
)
from training.layout.tokens import LayoutTokens, require_fit
from training.recipes.layout import LayoutOptions


class LayoutJointTransformerBlock(JointTransformerBlock):
    """A block of SD3 with a branch, which is left aside where no layout is told."""

    def __init__(
        self, options: LayoutOptions, width: int, heads: int, head_width: int, *, is_first: bool, **stock: Any
    ) -> None:
        super().__init__(width, heads, head_width, **stock)
        self.is_first = is_first
        self.layout = branch_of(
            options,
            width,
            heads,
            head_width,
            is_last=stock["context_pre_only"],
            qk_norm=stock["qk_norm"] is not None,
        )

    def forward(
        self,
        hidden_states: Float[Tensor, "b image width"],
        encoder_hidden_states: Float[Tensor, "b before width"],
        temb: Float[Tensor, "b width"],
        joint_attention_kwargs: dict[str, Any] | None = None,
    ) -> tuple[Float[Tensor, "b after width"] | None, Float[Tensor, "b image width"]]:
        """As the stock block's. With a layout its tokens stand behind those of the text, from the first block on."""
        told, others = apart(joint_attention_kwargs)
        if told is None:
            return super().forward(hidden_states, encoder_hidden_states, temb, joint_attention_kwargs)
        refuse_fused(self.attn)
        if self.is_first:
            image = hidden_states if told.aligned is None else hidden_states + told.aligned
            return self._told(image, encoder_hidden_states, told.tokens, temb, told, others)
        text, layout = split_behind(encoder_hidden_states, told)
        return self._told(hidden_states, text, layout, temb, told, others)

    def _told(
        self,
        image: Tensor,
        text: Tensor,
        layout: Tensor,
        temb: Tensor,
        told: Told,
        others: dict[str, Any],
    ) -> tuple[Tensor | None, Tensor]:
        normed, gate1, shift2, scale2, gate2, *second = self.norm1(image, emb=temb)
        text_rest: tuple[Tensor, ...] = ()
        if self.context_pre_only:
            normed_t = self.norm1_context(text, temb)
        else:
            normed_t, *rest = self.norm1_context(text, emb=temb)
            text_rest = tuple(rest)
        after: Tensor | None = layout
        if isinstance(self.layout, JointBranch):
            heard, heard_t, after = self.layout(self.attn, normed, normed_t, layout, temb, told.where)
        else:
            heard, heard_t = self.attn(hidden_states=normed, encoder_hidden_states=normed_t, **others)
        image = image + gate1.unsqueeze(1) * heard
        if isinstance(self.layout, Branch):
            added, after = self.layout(self, normed, image, layout, temb, told.where)
            image = image + told.strength * added
        if self.use_dual_attention:
            normed_again, gate_again = second
            image = image + gate_again.unsqueeze(1) * self.attn2(hidden_states=normed_again, **others)
        image = image + gate2.unsqueeze(1) * self.ff(modulated(self.norm2(image), scale2, shift2))
        if self.context_pre_only or after is None:
            return None, image
        return torch.cat([self._text(text, heard_t, *text_rest), after], dim=1), image

    def _text(
        self, text: Tensor, heard: Tensor, gate1: Tensor, shift2: Tensor, scale2: Tensor, gate2: Tensor
    ) -> Tensor:
        text = text + gate1.unsqueeze(1) * heard
        inner = modulated(self.norm2_context(text), scale2, shift2)
        return text + gate2.unsqueeze(1) * self.ff_context(inner)


def branch_of(
    options: LayoutOptions, width: int, heads: int, head_width: int, *, is_last: bool, qk_norm: bool
) -> nn.Module | None:
    """The branch that options ask for; None for ``none``."""
    if options.kind == "siam":
        return SiamBranch(width, heads, head_width, is_last=is_last, qk_norm=qk_norm)
    if options.kind == "siam_lora":
        return SiamLowRankBranch(width, options.rank, is_last=is_last)
    if options.kind == "adapter":
        return AdapterBranch(width, heads, head_width)
    if options.kind == "gated":
        return GatedBranch(width, heads, head_width)
    if options.kind == "joint":
        return JointBranch(width, heads, head_width, is_last=is_last, qk_norm=qk_norm)
    return None


def _grow(model: Any, given: Mapping[str, Any] | None) -> None:
    options = LayoutOptions.model_validate(given or {})
    config, width = model.config, model.inner_dim
    dual = config.dual_attention_layers or ()
    model.layout_options = options
    model.transformer_blocks = nn.ModuleList(
        LayoutJointTransformerBlock(
            options,
            width,
            config.num_attention_heads,
            config.attention_head_dim,
            is_first=number == 0,
            context_pre_only=number == config.num_layers - 1,
            qk_norm=config.qk_norm,
            use_dual_attention=number in dual,
        )
        for number in range(config.num_layers)
    )
    model.layout_tokens = (
        None if options.kind == "none" else LayoutTokens(options.phrase_dim, width, options.tokens_per_entity)
    )
    model.layout_aligned = BoxAligned(options.phrase_dim, width) if options.box_aligned else None


class LayoutSD3Transformer2DModel(SD3Transformer2DModel):
    """Stable Diffusion 3's transformer that may be told where things stand; ``layout`` in its configuration says how
    (:class:`training.recipes.layout.LayoutOptions`)."""

    __init__ = constructor_with(SD3Transformer2DModel, "layout", _grow)

    _no_split_modules: ClassVar[list[str]] = ["LayoutJointTransformerBlock"]

    def forward(
        self,
        hidden_states: Float[Tensor, "b c h w"],
        *args: Any,
        layout: Placed | None = None,
        joint_attention_kwargs: dict[str, Any] | None = None,
        **stock: Any,
    ) -> Any:
        """The stock forward pass with ``layout``, entities of every picture (None, or strength 0: as the base answers)."""
        told = joint_attention_kwargs
        if layout is not None and layout.strength:
            told = {**(joint_attention_kwargs or {}), TOLD: self.tell(layout, hidden_states)}
        return super().forward(hidden_states, *args, joint_attention_kwargs=told, **stock)

    def tell(self, layout: Placed, latents: Float[Tensor, "b c h w"]) -> Told:
        """What the blocks are told of a layout. Raises FoundryError for another number of entities than ``max_boxes``."""
        options, patch = self.layout_options, self.config.patch_size
        require_fit(layout, options, len(latents))
        grid = Grid.of_sides(latents.shape[-2] // patch, latents.shape[-1] // patch, layout.boxes_xyxy_norm)
        inside, aligned = told_of_boxes(layout, options, self.layout_aligned, grid)
        tokens = (
            latents.new_zeros(len(latents), 0, self.inner_dim)
            if self.layout_tokens is None
            else self.layout_tokens(layout.boxes_xyxy_norm, layout.phrases, layout.there)
        )
        return Told(tokens, Where(inside), aligned, layout.strength)
