"""FLUX's transformer with SiamLayout in its double and single blocks.

As in :mod:`training.layout.sd3` a subclass of the stock class whose layout tokens travel behind those of the text. A phrase is
its first token states, put through the base's own, frozen ``context_embedder``; all layout tokens stand at the place (-1, -1, -1).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from diffusers import FluxTransformer2DModel
from diffusers import ModelMixin as ModelMixin  # pipelines look here for the class whose methods load ours
from diffusers.models.normalization import AdaLayerNormZeroSingle
from diffusers.models.transformers.transformer_flux import FluxSingleTransformerBlock, FluxTransformerBlock
from jaxtyping import Float
from torch import Tensor, nn

from training.backbones.own_options import constructor_with
from training.conditioning import Placed
from training.errors import FoundryError
from training.layout.attention import (
    TOLD,
    Told,
    Where,
    allowed_between,
    apart,
    attend,
    by_head,
    refuse_fused,
    split_behind,
)
from training.layout.box_aligned import BoxAligned, Grid, told_of_boxes
from training.layout.branches import SiamBranch, modulated, zeroed
from training.layout.tokens import LayoutTokens, require_fit
from training.recipes.layout import LayoutOptions

PLACE = -1.0
"""Of layout tokens, in all three axes."""
KINDS = ("siam", "none")


class LayoutFluxTransformerBlock(FluxTransformerBlock):
    """A double block with a branch, which is left aside where no layout is told."""

    def __init__(
        self, options: LayoutOptions, width: int, heads: int, head_width: int, *, is_first: bool
    ) -> None:
        super().__init__(width, heads, head_width)
        self.is_first = is_first
        self.layout = (
            SiamBranch(width, heads, head_width, is_last=False, qk_norm=True)
            if options.kind == "siam"
            else None
        )

    def forward(
        self,
        hidden_states: Float[Tensor, "b image width"],
        encoder_hidden_states: Float[Tensor, "b before width"],
        temb: Float[Tensor, "b width"],
        image_rotary_emb: Any = None,
        joint_attention_kwargs: dict[str, Any] | None = None,
    ) -> tuple[Float[Tensor, "b after width"], Float[Tensor, "b image width"]]:
        """As the stock block's. With a layout its tokens stand behind those of the text, from the first block on."""
        told, others = apart(joint_attention_kwargs)
        if told is None:
            return super().forward(
                hidden_states, encoder_hidden_states, temb, image_rotary_emb, joint_attention_kwargs
            )
        refuse_fused(self.attn)
        image, text, layout = hidden_states, encoder_hidden_states, told.tokens
        if self.is_first:
            image = image if told.aligned is None else image + told.aligned
        else:
            text, layout = split_behind(encoder_hidden_states, told)
        normed, gate1, shift2, scale2, gate2 = self.norm1(image, emb=temb)
        normed_t, *rest = self.norm1_context(text, emb=temb)
        heard, heard_t = self.attn(
            hidden_states=normed, encoder_hidden_states=normed_t, image_rotary_emb=image_rotary_emb, **others
        )
        image = image + gate1.unsqueeze(1) * heard
        if self.layout is not None:
            where = told.where._replace(image_rotary=_of_image(image_rotary_emb, text.shape[1]))
            added, layout = self.layout(self, normed, image, layout, temb, where)
            image = image + told.strength * added
        image = image + gate2.unsqueeze(1) * self.ff(modulated(self.norm2(image), scale2, shift2))
        return torch.cat([self._text(text, heard_t, *rest), layout], dim=1), image

    def _text(
        self, text: Tensor, heard: Tensor, gate1: Tensor, shift2: Tensor, scale2: Tensor, gate2: Tensor
    ) -> Tensor:
        text = text + gate1.unsqueeze(1) * heard
        text = text + gate2.unsqueeze(1) * self.ff_context(
            modulated(self.norm2_context(text), scale2, shift2)
        )
        return text.clip(-65504, 65504) if text.dtype == torch.float16 else text


class SingleBranch(nn.Module):
    """SiamLayout beside a single block: o = gate proj_out([Attn(z~), gelu(mlp z~)]) of z = [l ; x]; x gets W0 o_x, l gets o_l."""

    def __init__(self, width: int, heads: int, head_width: int, mlp_ratio: float = 4.0) -> None:
        super().__init__()
        inner, hidden = heads * head_width, int(width * mlp_ratio)
        self.heads = heads
        self.norm = AdaLayerNormZeroSingle(width)
        self.to_q, self.to_k, self.to_v = (nn.Linear(width, inner) for _ in range(3))
        self.norm_q, self.norm_k = (nn.RMSNorm(head_width, eps=1e-6) for _ in range(2))
        self.proj_mlp = nn.Linear(width, hidden)
        self.proj_out = nn.Linear(inner + hidden, width)
        self.output = zeroed(nn.Linear(width, width))  # W0

    def forward(
        self,
        image: Float[Tensor, "b image width"],
        layout: Float[Tensor, "b layout width"],
        temb: Float[Tensor, "b width"],
        where: Where,
    ) -> tuple[Float[Tensor, "b image width"], Float[Tensor, "b layout width"]]:
        """What is added to the image tokens at strength 1, and the layout tokens for the next block."""
        sizes = [image.shape[1], layout.shape[1]]
        normed, gate = self.norm(torch.cat([image, layout], dim=1), emb=temb)
        query, key, value = (
            by_head(layer(normed), self.heads) for layer in (self.to_q, self.to_k, self.to_v)
        )
        query, key = self.norm_q(query), self.norm_k(key)
        heard = attend(
            where.turned(*query.split(sizes, dim=2)),
            where.turned(*key.split(sizes, dim=2)),
            value,
            allowed_between(where.inside),
        )
        inner = nn.functional.gelu(self.proj_mlp(normed), approximate="tanh")
        out_image, out_layout = (gate[:, None] * self.proj_out(torch.cat([heard, inner], dim=2))).split(
            sizes, dim=1
        )
        return self.output(out_image), layout + out_layout


class LayoutFluxSingleTransformerBlock(FluxSingleTransformerBlock):
    """A single block with a branch, which is left aside where no layout is told."""

    def __init__(self, options: LayoutOptions, width: int, heads: int, head_width: int) -> None:
        super().__init__(width, heads, head_width)
        self.layout = SingleBranch(width, heads, head_width) if options.kind == "siam" else None

    def forward(
        self,
        hidden_states: Float[Tensor, "b image width"],
        encoder_hidden_states: Float[Tensor, "b before width"],
        temb: Float[Tensor, "b width"],
        image_rotary_emb: Any = None,
        joint_attention_kwargs: dict[str, Any] | None = None,
    ) -> tuple[Float[Tensor, "b after width"], Float[Tensor, "b image width"]]:
        """As the stock block's, with layout tokens behind those of the text where there are any."""
        told, others = apart(joint_attention_kwargs)
        if told is None:
            return super().forward(
                hidden_states, encoder_hidden_states, temb, image_rotary_emb, joint_attention_kwargs
            )
        refuse_fused(self.attn)
        text, layout = split_behind(encoder_hidden_states, told)
        text_after, image = super().forward(hidden_states, text, temb, image_rotary_emb, others)
        if self.layout is not None:
            where = told.where._replace(image_rotary=_of_image(image_rotary_emb, text.shape[1]))
            added, layout = self.layout(hidden_states, layout, temb, where)
            image = image + told.strength * added
        return torch.cat([text_after, layout], dim=1), image


def _of_image(rotary: Any, num_text: int) -> Any:
    return None if rotary is None else tuple(part[num_text:] for part in rotary)


def _grow(model: Any, given: Mapping[str, Any] | None) -> None:
    options = LayoutOptions.model_validate(given or {})
    if options.kind not in KINDS:
        raise FoundryError(
            f"layout kind is '{options.kind}', which is there for SD3 alone; FLUX has {', '.join(KINDS)}"
        )
    config, width = model.config, model.inner_dim
    sizes = (width, config.num_attention_heads, config.attention_head_dim)
    model.layout_options = options
    model.transformer_blocks = nn.ModuleList(
        LayoutFluxTransformerBlock(options, *sizes, is_first=number == 0)
        for number in range(config.num_layers)
    )
    model.single_transformer_blocks = nn.ModuleList(
        LayoutFluxSingleTransformerBlock(options, *sizes) for _ in range(config.num_single_layers)
    )
    model.layout_tokens = (
        None
        if options.kind == "none"
        else LayoutTokens(width, width, options.tokens_per_entity, embeds_text=False)
    )
    model.layout_aligned = BoxAligned(options.phrase_dim, width) if options.box_aligned else None


class LayoutFluxTransformer2DModel(FluxTransformer2DModel):
    """FLUX's transformer that may be told where things stand; ``layout`` in its configuration says how
    (:class:`training.recipes.layout.LayoutOptions`)."""

    __init__ = constructor_with(FluxTransformer2DModel, "layout", _grow)

    _no_split_modules: ClassVar[list[str]] = [
        "LayoutFluxTransformerBlock",
        "LayoutFluxSingleTransformerBlock",
    ]

    def forward(
        self,
        hidden_states: Float[Tensor, "b patches channels"],
        *args: Any,
        img_ids: Float[Tensor, "patches 3"] | None = None,
        layout: Placed | None = None,
        joint_attention_kwargs: dict[str, Any] | None = None,
        **stock: Any,
    ) -> Any:
        """The stock forward pass with ``layout``, entities of every picture (None, or strength 0: as the base answers)."""
        told = joint_attention_kwargs
        if layout is not None and layout.strength:
            if img_ids is None:
                raise FoundryError(
                    "'img_ids' is missing; give the places of the image's patches by that name"
                )
            told = {**(joint_attention_kwargs or {}), TOLD: self.tell(layout, img_ids)}
        return super().forward(hidden_states, *args, img_ids=img_ids, joint_attention_kwargs=told, **stock)

    def tell(self, layout: Placed, img_ids: Float[Tensor, "patches 3"]) -> Told:
        """What the blocks are told of a layout. Raises FoundryError for another number of entities than ``max_boxes``."""
        options = self.layout_options
        require_fit(layout, options, len(layout))
        grid = Grid.of_places(*img_ids.to(layout.boxes_xyxy_norm.dtype)[:, 1:].unbind(dim=1))
        inside, aligned = told_of_boxes(layout, options, self.layout_aligned, grid)
        if self.layout_tokens is None:
            empty = layout.phrases.new_zeros(len(layout), 0, self.inner_dim)
            return Told(empty, Where(), aligned, layout.strength)
        states = self.context_embedder(layout.phrases)
        tokens = self.layout_tokens(layout.boxes_xyxy_norm, states, layout.there)
        rotary = self.pos_embed(img_ids.new_full((tokens.shape[1], 3), PLACE))
        return Told(tokens, Where(inside, None, rotary), aligned, layout.strength)
