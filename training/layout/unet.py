"""Stable Diffusion's and SDXL's UNet with GLIGEN in every transformer block (arXiv 2301.07093, section 3.2).

As in :mod:`training.layout.sd3` a subclass of the stock class, whose forward pass has the place for it: between a block's
self-attention and its cross-attention. Layout tokens are GLIGEN's, of one pooled phrase each.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar

from diffusers import ModelMixin as ModelMixin  # pipelines look here for the class whose methods load ours
from diffusers import UNet2DConditionModel
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.embeddings import GLIGENTextBoundingboxProjection
from jaxtyping import Float
from torch import Tensor, nn

from training.backbones.own_options import constructor_with
from training.conditioning import Placed
from training.errors import FoundryError
from training.layout.attention import Told, Where
from training.layout.box_aligned import BoxAligned, Grid, told_of_boxes
from training.layout.branches import GatedBranch
from training.layout.tokens import require_fit
from training.recipes.layout import LayoutOptions

KINDS = ("gated", "none")


class LayoutBasicTransformerBlock(BasicTransformerBlock):
    """A UNet's transformer block with GLIGEN's layer, which is left aside where no layout is told."""

    layout: GatedBranch

    def fuser(self, image: Float[Tensor, "b image width"], told: Told) -> Float[Tensor, "b image width"]:
        """Image tokens that heard the layout. The stock forward pass asks for it by this name, after its self-attention."""
        return image + told.strength * self.layout.added(image, told.tokens, told.where)


def _grow(model: Any, given: Mapping[str, Any] | None) -> None:
    options = LayoutOptions.model_validate(given or {})
    blocks = [module for module in model.modules() if type(module) is BasicTransformerBlock]
    _check(options, model.config, len(blocks))
    width, context = model.config.block_out_channels[0], _context_dim(model.config)
    model.layout_options = options
    model.layout_tokens = None
    if options.kind == "gated":
        model.layout_tokens = GLIGENTextBoundingboxProjection(options.phrase_dim, context)
        for block in blocks:
            block.__class__ = LayoutBasicTransformerBlock  # what built it keeps its dozen arguments to itself
            heads = block.num_attention_heads
            block.layout = GatedBranch(block.dim, heads, block.attention_head_dim, context)
    model.layout_aligned = BoxAligned(options.phrase_dim, width) if options.box_aligned else None


def _check(options: LayoutOptions, config: Any, num_blocks: int) -> None:
    """Raise FoundryError for options that UNets have no place for, and for UNets that have none for them."""
    if options.kind not in KINDS:
        raise FoundryError(
            f"layout kind is '{options.kind}', which is there for transformers alone; UNets have {', '.join(KINDS)}"
        )
    if options.attend_inside:
        raise FoundryError(
            "attend_inside is true, but the image tokens of a UNet are others at every level; say false, or take a transformer"
        )
    if options.tokens_per_entity != 1:
        raise FoundryError(
            f"tokens_per_entity is {options.tokens_per_entity}; GLIGEN takes a phrase as its pooled vector, encode layouts with 1"
        )
    if options.kind == "gated" and not num_blocks:
        raise FoundryError(
            "the UNet has no transformer blocks that GLIGEN's layers could stand in; say kind none with box_aligned"
        )
    if config.attention_type != "default":
        raise FoundryError(
            f"attention_type of the UNet is '{config.attention_type}': it has GLIGEN's layers already; load them by "
            "training.layout.released into a model grown on its base"
        )


def _context_dim(config: Any) -> int:
    """Width of layout tokens: that of the text."""
    dim = config.cross_attention_dim
    return int(dim if isinstance(dim, int) else dim[0])


class LayoutUNet2DConditionModel(UNet2DConditionModel):
    """A UNet that may be told where things stand; ``layout`` in its configuration says how
    (:class:`training.recipes.layout.LayoutOptions`)."""

    __init__ = constructor_with(UNet2DConditionModel, "layout", _grow)

    _no_split_modules: ClassVar[list[str]] = [
        "LayoutBasicTransformerBlock",
        *UNet2DConditionModel._no_split_modules,
    ]
    _repeated_blocks: ClassVar[list[str]] = ["LayoutBasicTransformerBlock"]

    def forward(
        self,
        sample: Float[Tensor, "b c h w"],
        *args: Any,
        layout: Placed | None = None,
        cross_attention_kwargs: dict[str, Any] | None = None,
        **stock: Any,
    ) -> Any:
        """The stock forward pass with ``layout``, entities of every picture (None, or strength 0: as the base answers)."""
        told = cross_attention_kwargs
        if layout is None or not layout.strength:
            return super().forward(sample, *args, cross_attention_kwargs=told, **stock)
        own = self.tell(layout, sample)
        if self.layout_tokens is not None:
            told = {**(told or {}), "gligen": {"told": own}}
        with _added_behind(self.conv_in, own.aligned):
            return super().forward(sample, *args, cross_attention_kwargs=told, **stock)

    def position_net(self, told: Told) -> Told:
        """What blocks are told; the stock forward pass asks for it by this name."""
        return told

    def tell(self, layout: Placed, latents: Float[Tensor, "b c h w"]) -> Told:
        """What the blocks are told of a layout. Raises FoundryError for another number of entities than ``max_boxes``."""
        options, boxes = self.layout_options, layout.boxes_xyxy_norm
        require_fit(layout, options, len(latents))
        grid = Grid.of_sides(latents.shape[-2], latents.shape[-1], boxes)
        _, aligned = told_of_boxes(layout, options, self.layout_aligned, grid)
        tokens = (
            latents.new_zeros(len(latents), 0, _context_dim(self.config))
            if self.layout_tokens is None
            else self.layout_tokens(
                boxes, layout.there.to(boxes.dtype), positive_embeddings=layout.phrases[:, :, 0]
            )
        )
        return Told(tokens, Where(), aligned, layout.strength)


@contextmanager
def _added_behind(layer: nn.Module, tokens: Float[Tensor, "b image width"] | None) -> Iterator[None]:
    """Inside, a convolution's answer has ``tokens`` added to it, place by place."""
    if tokens is None:
        yield
        return

    def joined(_: nn.Module, given: Any, answer: Tensor) -> Tensor:
        return answer + tokens.transpose(1, 2).unflatten(2, answer.shape[-2:])

    handle = layer.register_forward_hook(joined)
    try:
        yield
    finally:
        handle.remove()
