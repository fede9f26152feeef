"""Attention between image and layout tokens: what all branches share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from diffusers.models.embeddings import apply_rotary_emb
from jaxtyping import Bool, Float
from torch import Tensor, nn

from training.errors import FoundryError

Rotary = tuple[Float[Tensor, "n head_width"], Float[Tensor, "n head_width"]]
"""Cosines and sines that turn queries and keys by their places (FLUX)."""


class Where(NamedTuple):
    """Which boxes cover which image tokens (None: attention is not limited to them), and the turns of image and layout tokens
    of a model that has rotary positions."""

    inside: Bool[Tensor, "b image layout"] | None = None
    image_rotary: Rotary | None = None
    layout_rotary: Rotary | None = None

    def turned(
        self,
        image: Float[Tensor, "b heads image head_width"],
        layout: Float[Tensor, "b heads layout head_width"],
    ) -> Float[Tensor, "b heads both head_width"]:
        """Queries, or keys, of image and layout tokens, turned by their places and joined."""
        if self.image_rotary is not None and self.layout_rotary is not None:
            image, layout = (
                apply_rotary_emb(image, self.image_rotary),
                apply_rotary_emb(layout, self.layout_rotary),
            )
        return torch.cat([image, layout], dim=2)


class Told(NamedTuple):
    """What blocks are told of a layout: its tokens as they enter the first block, where they are, what is added to the image
    tokens before the first block, and the branch's strength s."""

    tokens: Float[Tensor, "b layout width"]
    where: Where
    aligned: Float[Tensor, "b image width"] | None
    strength: float


TOLD = "layout"
"""Name in ``joint_attention_kwargs`` under which blocks find :class:`Told`."""


def apart(given: Mapping[str, Any] | None) -> tuple[Told | None, dict[str, Any]]:
    """What blocks are told of a layout, and what their attention is told beside."""
    others = dict(given or {})
    return others.pop(TOLD, None), others


def split_behind(
    behind: Float[Tensor, "b both width"], told: Told
) -> tuple[Float[Tensor, "b text width"], Float[Tensor, "b layout width"]]:
    """Text tokens, and the layout tokens behind them."""
    count = told.tokens.shape[1]
    text, layout = behind.split([behind.shape[1] - count, count], dim=1)
    return text, layout


def refuse_fused(attention: nn.Module) -> None:
    """Raise FoundryError where a base's projections are fused, which branches that read them cannot see."""
    if getattr(attention, "fused_projections", False):
        raise FoundryError(
            "the backbone's projections are fused, which branches cannot read; call unfuse_qkv_projections()"
        )


def by_head(tokens: Float[Tensor, "b n width"], heads: int) -> Float[Tensor, "b heads n head_width"]:
    """Tokens cut into heads."""
    return tokens.unflatten(-1, (heads, -1)).transpose(1, 2)


def attend(
    query: Float[Tensor, "b heads queries head_width"],
    key: Float[Tensor, "b heads keys head_width"],
    value: Float[Tensor, "b heads keys head_width"],
    allowed: Bool[Tensor, "b queries keys"] | None = None,
) -> Float[Tensor, "b queries width"]:
    """Softmax attention, heads joined again. ``allowed`` says which query may look at which key."""
    mask = None if allowed is None else allowed[:, None]
    mixed = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    return mixed.transpose(1, 2).flatten(2)


def allowed_between(
    inside: Bool[Tensor, "b image layout"] | None, num_before: int = 0
) -> Bool[Tensor, "b all all"] | None:
    """The mask of [image ; ``num_before`` others ; layout], which see all of each other but image and layout tokens, who see
    each other where ``inside`` says. None where nothing is limited."""
    if inside is None:
        return None
    batch, image, layout = inside.shape
    total = image + num_before + layout
    allowed = inside.new_ones(batch, total, total)
    allowed[:, :image, total - layout :] = inside
    allowed[:, total - layout :, :image] = inside.transpose(1, 2)
    return allowed


class BranchAttention(nn.Module):
    """Joint attention of image and layout tokens by weights of its own. ``answers``: layout tokens are answered too."""

    def __init__(self, width: int, heads: int, head_width: int, *, answers: bool, qk_norm: bool) -> None:
        super().__init__()
        inner = heads * head_width
        self.heads = heads
        self.to_q, self.to_k, self.to_v = (nn.Linear(width, inner) for _ in range(3))
        self.add_q_proj, self.add_k_proj, self.add_v_proj = (nn.Linear(width, inner) for _ in range(3))
        self.to_out = nn.Linear(inner, width)
        self.to_add_out = nn.Linear(inner, width) if answers else None
        self.norm_q, self.norm_k, self.norm_added_q, self.norm_added_k = (
            nn.RMSNorm(head_width, eps=1e-6) if qk_norm else nn.Identity() for _ in range(4)
        )

    def forward(
        self,
        image: Float[Tensor, "b image width"],
        layout: Float[Tensor, "b layout width"],
        where: Where,
    ) -> tuple[Float[Tensor, "b image width"], Float[Tensor, "b layout width"] | None]:
        """What image tokens and layout tokens hear."""
        query, key, value = (by_head(layer(image), self.heads) for layer in (self.to_q, self.to_k, self.to_v))
        more = (self.add_q_proj, self.add_k_proj, self.add_v_proj)
        query_l, key_l, value_l = (by_head(layer(layout), self.heads) for layer in more)
        mixed = attend(
            where.turned(self.norm_q(query), self.norm_added_q(query_l)),
            where.turned(self.norm_k(key), self.norm_added_k(key_l)),
            torch.cat([value, value_l], dim=2),
            allowed_between(where.inside),
        )
        heard, heard_l = mixed.split([image.shape[1], layout.shape[1]], dim=1)
        return self.to_out(heard), None if self.to_add_out is None else self.to_add_out(heard_l)
