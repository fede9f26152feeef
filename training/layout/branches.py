"""The branches of an MM-DiT block, by which image tokens learn of layout tokens. Symbols are those of CreatiLayout.

A branch adds ``s W0 b_I`` to the image tokens x beside the block's own, frozen attention; W0 begins at zero, so that the base
answers as it did. x: image tokens; x~: the same after the block's own norm; l: layout tokens; temb: time and text.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from diffusers.models.attention import FeedForward
from diffusers.models.normalization import AdaLayerNormContinuous, AdaLayerNormZero
from jaxtyping import Float
from torch import Tensor, nn

from training.layout.attention import BranchAttention, Where, allowed_between, attend, by_head

Image = Float[Tensor, "b image width"]
Tokens = Float[Tensor, "b layout width"]


def zeroed(linear: nn.Linear) -> nn.Linear:
    """A layer that answers nothing until it is trained."""
    nn.init.zeros_(linear.weight)
    if linear.bias is not None:
        nn.init.zeros_(linear.bias)
    return linear


def modulated(
    tokens: Float[Tensor, "b n width"], scale: Float[Tensor, "b width"], shift: Float[Tensor, "b width"]
) -> Float[Tensor, "b n width"]:
    """Tokens scaled and shifted by what the timestep says."""
    return tokens * (1 + scale[:, None]) + shift[:, None]


class Branch(nn.Module, ABC):
    """Beside a block's own attention."""

    @abstractmethod
    def forward(
        self, block: Any, normed: Image, image: Image, layout: Tokens, temb: Tensor, where: Where
    ) -> tuple[Image, Tokens | None]:
        """What is added to the image tokens at strength 1, and the layout tokens for the next block (None: there is none).

        ``normed`` is x~, ``image`` is x after the block's own attention.
        """


class SiamBranch(Branch):
    """SiamLayout: an attention of image and layout with weights of its own, beside the frozen one (section 3.2).

    (b_I, b_L) = MMAttn_new([x~ ; l~]); x gets W0 b_I, l gets g1 b_L and then g2 FF(...), as text does.
    """

    def __init__(self, width: int, heads: int, head_width: int, *, is_last: bool, qk_norm: bool) -> None:
        super().__init__()
        self.norm1 = (
            AdaLayerNormContinuous(width, width, elementwise_affine=False, eps=1e-6)
            if is_last
            else AdaLayerNormZero(width)
        )
        self.attention = BranchAttention(width, heads, head_width, answers=not is_last, qk_norm=qk_norm)
        self.ff = None if is_last else FeedForward(width, width, activation_fn="gelu-approximate")
        self.norm2 = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.output = zeroed(nn.Linear(width, width))  # W0

    def forward(
        self, block: Any, normed: Image, image: Image, layout: Tokens, temb: Tensor, where: Where
    ) -> tuple[Image, Tokens | None]:
        """See :class:`Branch`."""
        if self.ff is None:
            heard, _ = self.attention(normed, self.norm1(layout, temb), where)
            return self.output(heard), None
        normed_l, gate1, shift2, scale2, gate2 = self.norm1(layout, emb=temb)
        heard, heard_l = self.attention(normed, normed_l, where)
        layout = layout + gate1[:, None] * heard_l
        layout = layout + gate2[:, None] * self.ff(modulated(self.norm2(layout), scale2, shift2))
        return self.output(heard), layout


class LowRank(nn.Module):
    """``up(down(x))``; ``up`` begins at zero, or is drawn as ``down`` is. Alpha is the rank, so that nothing is scaled."""

    def __init__(self, dim_in: int, dim_out: int, rank: int, *, is_silent: bool = True) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(dim_in, rank, bias=False), nn.Linear(rank, dim_out, bias=False)
        nn.init.normal_(self.down.weight, std=1 / rank)
        nn.init.zeros_(self.up.weight) if is_silent else nn.init.normal_(self.up.weight, std=1 / rank)

    def forward(self, inputs: Float[Tensor, "*b dim_in"]) -> Float[Tensor, "*b dim_out"]:
        """The product."""
        return self.up(self.down(inputs))


class SiamLowRankBranch(Branch):
    """SiamLayout with the block's own weights: layout tokens take those of the text, image tokens their own, each with a
    low-rank addition.

    As released: the addition to the norm is LN(l)(1 + scale) + shift, which adds a second LN(l) even before training.
    """

    def __init__(self, width: int, rank: int, *, is_last: bool) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.modulation = LowRank(width, (2 if is_last else 6) * width, rank)
        self.image_q, self.image_k, self.image_v, self.image_out = (
            LowRank(width, width, rank) for _ in range(4)
        )
        self.layout_q, self.layout_k, self.layout_v = (LowRank(width, width, rank) for _ in range(3))
        self.layout_out = None if is_last else LowRank(width, width, rank)
        self.ff_in = None if is_last else LowRank(width, 4 * width, rank, is_silent=False)
        self.ff_out = None if is_last else LowRank(4 * width, width, rank)
        self.output = LowRank(width, width, rank)  # W0

    def forward(
        self, block: Any, normed: Image, image: Image, layout: Tokens, temb: Tensor, where: Where
    ) -> tuple[Image, Tokens | None]:
        """See :class:`Branch`."""
        more = self.modulation(nn.functional.silu(temb))
        if self.layout_out is None or self.ff_in is None or self.ff_out is None:
            scale, shift = more.chunk(2, dim=1)
            normed_l = block.norm1_context(layout, temb) + modulated(self.norm(layout), scale, shift)
            heard, _ = self._attend(block.attn, normed, normed_l, where)
            return self.output(heard), None
        normed_l, gate1, shift2, scale2, gate2 = block.norm1_context(layout, emb=temb)
        shift, scale, *rest = more.chunk(6, dim=1)
        normed_l = normed_l + modulated(self.norm(layout), scale, shift)
        gate1, shift2, scale2, gate2 = (
            own + added for own, added in zip((gate1, shift2, scale2, gate2), rest, strict=True)
        )
        heard, heard_l = self._attend(block.attn, normed, normed_l, where)
        layout = layout + gate1[:, None] * heard_l
        inner = modulated(self.norm(layout), scale2, shift2)
        added = self.ff_out(nn.functional.gelu(self.ff_in(inner), approximate="tanh"))
        return self.output(heard), layout + gate2[:, None] * (block.ff_context(inner) + added)

    def _attend(
        self, attn: Any, normed: Image, normed_l: Tokens, where: Where
    ) -> tuple[Image, Tokens | None]:
        image = zip(
            (attn.to_q, attn.to_k, attn.to_v), (self.image_q, self.image_k, self.image_v), strict=True
        )
        layout = zip(
            (attn.add_q_proj, attn.add_k_proj, attn.add_v_proj),
            (self.layout_q, self.layout_k, self.layout_v),
            strict=True,
        )
        own = [by_head(layer(normed) + added(normed), attn.heads) for layer, added in image]
        more = [by_head(layer(normed_l) + added(normed_l), attn.heads) for layer, added in layout]
        own[:2], more[:2] = normed_heads(attn, own[:2]), normed_added_heads(attn, more[:2])
        query, key, value = (torch.cat(pair, dim=2) for pair in zip(own, more, strict=True))
        mixed = attend(query, key, value, allowed_between(where.inside))
        heard, heard_l = mixed.split([normed.shape[1], normed_l.shape[1]], dim=1)
        answer = attn.to_out[0](heard) + self.image_out(heard)
        if self.layout_out is None:
            return answer, None
        return answer, attn.to_add_out(heard_l) + self.layout_out(heard_l)


class AdapterBranch(Branch):
    """Layout Adapter: the block's own image queries look at keys and values of layout tokens, which stay as they are."""

    def __init__(self, width: int, heads: int, head_width: int) -> None:
        super().__init__()
        inner = heads * head_width
        self.to_k, self.to_v = nn.Linear(width, inner, bias=False), nn.Linear(width, inner, bias=False)
        self.output = zeroed(nn.Linear(inner, width))

    def forward(
        self, block: Any, normed: Image, image: Image, layout: Tokens, temb: Tensor, where: Where
    ) -> tuple[Image, Tokens | None]:
        """See :class:`Branch`."""
        attn = block.attn
        (query,) = normed_heads(attn, [by_head(attn.to_q(normed), attn.heads)])
        key, value = by_head(self.to_k(layout), attn.heads), by_head(self.to_v(layout), attn.heads)
        return self.output(attend(query, key, value, where.inside)), layout


class GatedBranch(Branch):
    """GLIGEN: self-attention of [image ; layout] and a feed-forward, each under tanh of a gate that begins at zero.

    ``context``: width of layout tokens where that is not the image tokens'.
    """

    def __init__(self, width: int, heads: int, head_width: int, context: int | None = None) -> None:
        super().__init__()
        inner = heads * head_width
        self.heads = heads
        self.linear = nn.Linear(context or width, width)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.to_q, self.to_k, self.to_v = (nn.Linear(width, inner, bias=False) for _ in range(3))
        self.to_out = nn.Linear(inner, width)
        self.ff = FeedForward(width, activation_fn="geglu")
        self.alpha_attn, self.alpha_dense = nn.Parameter(torch.zeros(())), nn.Parameter(torch.zeros(()))

    def forward(
        self, block: Any, normed: Image, image: Image, layout: Tokens, temb: Tensor, where: Where
    ) -> tuple[Image, Tokens | None]:
        """See :class:`Branch`."""
        return self.added(image, layout, where), layout

    def added(self, image: Image, layout: Float[Tensor, "b layout context"], where: Where) -> Image:
        """What is added to the image tokens at strength 1."""
        both = self.norm1(torch.cat([image, self.linear(layout)], dim=1))
        query, key, value = (by_head(layer(both), self.heads) for layer in (self.to_q, self.to_k, self.to_v))
        heard = self.to_out(attend(query, key, value, allowed_between(where.inside)))[:, : image.shape[1]]
        first = self.alpha_attn.tanh() * heard
        return first + self.alpha_dense.tanh() * self.ff(self.norm2(image + first))


class JointBranch(nn.Module):
    """M3-Attention: layout tokens, by weights of their own, take part in the block's attention beside image and text.

    They compete with both in one softmax, so that the base answers otherwise from the first step on.
    """

    def __init__(self, width: int, heads: int, head_width: int, *, is_last: bool, qk_norm: bool) -> None:
        super().__init__()
        inner = heads * head_width
        self.norm1 = (
            AdaLayerNormContinuous(width, width, elementwise_affine=False, eps=1e-6)
            if is_last
            else AdaLayerNormZero(width)
        )
        self.to_q, self.to_k, self.to_v = (nn.Linear(width, inner) for _ in range(3))
        self.norm_q, self.norm_k = (
            nn.RMSNorm(head_width, eps=1e-6) if qk_norm else nn.Identity() for _ in range(2)
        )
        self.to_out = None if is_last else nn.Linear(inner, width)
        self.norm2 = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.ff = None if is_last else FeedForward(width, width, activation_fn="gelu-approximate")

    def forward(
        self, attn: Any, normed: Image, text: Tensor, layout: Tokens, temb: Tensor, where: Where
    ) -> tuple[Image, Tensor | None, Tokens | None]:
        """What image and text hear by the block's ``attn``, and the layout tokens for the next block."""
        rest: tuple[Tensor, ...] = ()
        if self.ff is None:
            normed_l = self.norm1(layout, temb)
        else:
            normed_l, *others = self.norm1(layout, emb=temb)
            rest = tuple(others)
        image_heads = [by_head(layer(normed), attn.heads) for layer in (attn.to_q, attn.to_k, attn.to_v)]
        of_text = (attn.add_q_proj, attn.add_k_proj, attn.add_v_proj)
        text_heads = [by_head(layer(text), attn.heads) for layer in of_text]
        query_l, key_l, value_l = (
            by_head(layer(normed_l), attn.heads) for layer in (self.to_q, self.to_k, self.to_v)
        )
        image_heads[:2] = normed_heads(attn, image_heads[:2])
        text_heads[:2] = normed_added_heads(attn, text_heads[:2])
        more = [self.norm_q(query_l), self.norm_k(key_l), value_l]
        parts = zip(image_heads, text_heads, more, strict=True)
        query, key, value = (torch.cat(part, dim=2) for part in parts)
        mixed = attend(query, key, value, allowed_between(where.inside, text.shape[1]))
        sizes = [normed.shape[1], text.shape[1], layout.shape[1]]
        heard, heard_t, heard_l = mixed.split(sizes, dim=1)
        told = None if attn.context_pre_only else attn.to_add_out(heard_t)
        if self.ff is None or self.to_out is None:
            return attn.to_out[0](heard), told, None
        gate1, shift2, scale2, gate2 = rest
        layout = layout + gate1[:, None] * self.to_out(heard_l)
        layout = layout + gate2[:, None] * self.ff(modulated(self.norm2(layout), scale2, shift2))
        return attn.to_out[0](heard), told, layout


def normed_heads(attn: Any, heads: list[Tensor]) -> list[Tensor]:
    """Queries (and keys) of image tokens as the block's attention norms them, if it does."""
    norms = (attn.norm_q, attn.norm_k)
    return [head if norm is None else norm(head) for head, norm in zip(heads, norms, strict=False)]


def normed_added_heads(attn: Any, heads: list[Tensor]) -> list[Tensor]:
    """The same of text tokens."""
    norms = (attn.norm_added_q, attn.norm_added_k)
    return [head if norm is None else norm(head) for head, norm in zip(heads, norms, strict=False)]
