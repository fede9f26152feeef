"""The rules inside the joint attention of FLUX- and SD3-shaped models: processors that are in place for as long as something is rendered.

Diffusers' own processor of SD3 drops masks in silence, and no processor knows the step; these are told both. No weight is added.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from diffusers.models.attention_dispatch import AttentionBackendName, dispatch_attention_fn
from diffusers.models.embeddings import apply_rotary_emb
from jaxtyping import Float
from torch import Tensor, nn

from training.backbones import attentions, bare, family_of
from training.depth.detail_rendering.masks import Block, RegionMasks
from training.depth.detail_rendering.processors import in_place_of
from training.depth.detail_rendering.texts import TokenLayout
from training.errors import FoundryError

ByToken = Float[Tensor, "b tokens heads head_width"]
JOINT_FAMILIES = ("FLUX", "SD3")
_MASKLESS = ("flash", "sage", "aiter")


class RegionAttention(NamedTuple):
    """What processors are told: the masks, and how a forward pass tells its step. ``blockwise``: by blocks of queries instead of dense
    masks."""

    masks: RegionMasks
    step: Callable[[], int]
    blockwise: bool

    def __call__(
        self,
        query: ByToken,
        key: ByToken,
        value: ByToken,
        layer: int,
        *,
        of_image: slice | None,
        backend: Any,
    ) -> ByToken:
        """Attention under the rules; ``of_image``: the tokens, where an attention is of image tokens alone."""
        step, masks = self.step(), self.masks.of_rows(len(query))
        if self.blockwise and of_image is None:
            return attend_in_blocks(query, key, value, masks.blocks(step, layer), backend)
        mask = masks.mask(step, layer)
        if of_image is not None:
            mask = mask[..., of_image, of_image]
        return dispatch_attention_fn(query, key, value, attn_mask=mask, backend=backend)


@contextmanager
def region_attention(
    model: nn.Module, masks: RegionMasks, step: Callable[[], int], *, blockwise: bool = True
) -> Iterator[None]:
    """While inside, joint attention follows the rules. ``step`` is asked in every forward pass.

    Raises FoundryError, before anything is drawn, for a family without joint attention, an order of tokens that is not the
    family's, fused projections, and for a backend that cannot mask unless ``blockwise``.
    """
    inner = bare(model)
    layers = joint_attentions(inner, masks.layout, blockwise=blockwise)
    told = RegionAttention(masks, step, blockwise)
    made = _FluxRegions if family_of(inner).name == "FLUX" else _Sd3Regions
    num_image = masks.layout.inside.shape[2]
    processors = [
        made(told, number, num_image, getattr(attention.processor, "_attention_backend", None))
        for number, attention in layers
    ]
    with in_place_of([attention for _, attention in layers], processors):
        yield


def joint_attentions(model: nn.Module, layout: TokenLayout, *, blockwise: bool) -> list[tuple[int, Any]]:
    """Every attention with the number of its block, in the order of execution. Raises FoundryError as above."""
    row = family_of(model)
    if row.name not in JOINT_FAMILIES:
        raise FoundryError(
            f"a {type(model).__name__} of family {row.name} has no joint attention, which the rules are about; render with a "
            f"model of {' or '.join(JOINT_FAMILIES)}"
        )
    if layout.image_first != (row.name == "SD3"):
        raise FoundryError(
            f"'image_first' is {layout.image_first}, but {row.name} has it otherwise; make the layout anew"
        )
    blocks: dict[str, int] = {}
    found = []
    for name, module in attentions(model):
        attention: Any = module
        _require_maskable(name, attention, blockwise=blockwise)
        found.append((blocks.setdefault(name.rpartition(".")[0], len(blocks)), attention))
    return found


def _require_maskable(name: str, attention: Any, *, blockwise: bool) -> None:
    if getattr(attention, "fused_projections", False):
        raise FoundryError(f"'{name}' has fused projections; call unfuse_qkv_projections() before rendering")
    backend = getattr(attention.processor, "_attention_backend", None)
    told = "" if backend is None else str(AttentionBackendName(backend).value)
    if not blockwise and any(part in told for part in _MASKLESS):
        raise FoundryError(
            f"'{name}' attends by '{told}', which takes no mask; call set_attention_backend('native'), or render blockwise"
        )


def attend_in_blocks(
    query: ByToken,
    key: ByToken,
    value: ByToken,
    pictures: Sequence[Sequence[Block]],
    backend: Any = None,
) -> ByToken:
    """Masked attention without a mask: every block's queries over its keys alone. Equal to the dense mask's up to rounding."""
    out = torch.empty_like(query)
    for number, blocks in enumerate(pictures):
        one = slice(number, number + 1)
        for block in blocks:
            out[one, block.queries] = dispatch_attention_fn(
                query[one, block.queries], key[one, block.keys], value[one, block.keys], backend=backend
            )
    return out


class _Regions:
    """What the two processors share."""

    def __init__(self, told: RegionAttention, layer: int, num_image: int, backend: Any) -> None:
        self.told, self.layer, self.num_image = told, layer, num_image
        self._attention_backend = backend

    def attend(
        self, query: ByToken, key: ByToken, value: ByToken, *, of_image: slice | None = None
    ) -> Float[Tensor, "b tokens width"]:
        """Attention under the rules, heads joined again. Raises FoundryError for another number of tokens than the layout's."""
        wanted = self.told.masks.layout.num_tokens if of_image is None else self.num_image
        if query.shape[1] != wanted:
            raise FoundryError(
                f"{query.shape[1]} tokens attend and the layout tells of {wanted}; make it for the picture's size and the texts' length"
            )
        mixed = self.told(query, key, value, self.layer, of_image=of_image, backend=self._attention_backend)
        return mixed.flatten(2, 3).to(query.dtype)


class _FluxRegions(_Regions):
    """FLUX's double and single blocks: text first, turned by its places; a single block has joined both already."""

    def __call__(
        self,
        attn: Any,
        hidden_states: Float[Tensor, "b n width"],
        encoder_hidden_states: Float[Tensor, "b text width"] | None = None,
        attention_mask: None = None,
        image_rotary_emb: Any = None,
    ) -> Any:
        """As the stock processor's."""
        query, key, value = _projected(attn, hidden_states)
        if encoder_hidden_states is not None:
            more = _projected_text(attn, encoder_hidden_states)
            query, key, value = (
                torch.cat(pair, dim=1) for pair in zip(more, (query, key, value), strict=True)
            )
        if image_rotary_emb is not None:
            query, key = (apply_rotary_emb(part, image_rotary_emb, sequence_dim=1) for part in (query, key))
        mixed = self.attend(query, key, value)
        if encoder_hidden_states is None:
            return mixed
        text, image = mixed.split([encoder_hidden_states.shape[1], hidden_states.shape[1]], dim=1)
        return _projected_out(attn, image), attn.to_add_out(text)


class _Sd3Regions(_Regions):
    """SD3's blocks: image first; the second attention of SD3.5's is of image tokens alone."""

    def __call__(
        self,
        attn: Any,
        hidden_states: Float[Tensor, "b image width"],
        encoder_hidden_states: Float[Tensor, "b text width"] | None = None,
        attention_mask: None = None,
    ) -> Any:
        """As the stock processor's."""
        query, key, value = _projected(attn, hidden_states)
        if encoder_hidden_states is None:
            return _projected_out(attn, self.attend(query, key, value, of_image=slice(0, self.num_image)))
        more = _projected_text(attn, encoder_hidden_states)
        query, key, value = (torch.cat(pair, dim=1) for pair in zip((query, key, value), more, strict=True))
        mixed = self.attend(query, key, value)
        image, text = mixed.split([hidden_states.shape[1], encoder_hidden_states.shape[1]], dim=1)
        return _projected_out(attn, image), text if attn.context_pre_only else attn.to_add_out(text)


def _projected(attn: Any, states: Tensor) -> tuple[ByToken, ByToken, ByToken]:
    layers = (attn.to_q, attn.norm_q), (attn.to_k, attn.norm_k), (attn.to_v, None)
    return _through(layers, states, attn.heads)


def _projected_text(attn: Any, states: Tensor) -> tuple[ByToken, ByToken, ByToken]:
    layers = (
        (attn.add_q_proj, attn.norm_added_q),
        (attn.add_k_proj, attn.norm_added_k),
        (attn.add_v_proj, None),
    )
    return _through(layers, states, attn.heads)


def _through(
    layers: Sequence[tuple[Any, Any]], states: Tensor, heads: int
) -> tuple[ByToken, ByToken, ByToken]:
    """Queries, keys and values by token and head, each through its norm where it has one."""
    query, key, value = (
        projected if norm is None else norm(projected)
        for projected, norm in ((layer(states).unflatten(-1, (heads, -1)), norm) for layer, norm in layers)
    )
    return query, key, value


def _projected_out(attn: Any, states: Tensor) -> Tensor:
    linear, dropout = attn.to_out
    out: Tensor = dropout(linear(states))
    return out
