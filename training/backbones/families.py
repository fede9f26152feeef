"""Backbone families, one row each: what a class is called with, how it is sampled, saved and looked into.

Wherever a family differs from another, its row is asked. A new family is a row here and its layouts in the registry; a
class of ours that descends from a stock one is a name in ``own_classes`` of its row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from training.conditioning import Condition
from training.errors import FoundryError

ANY_SIZE = 2**30
PRUNED_CLASSES = "training.pruning.saving"

Keywords = Callable[[Any, Tensor, Condition], dict[str, Any]]
"""From configuration, noisy latents and condition to what the model is passed beside latents, timestep and states."""


@dataclass(frozen=True)
class StockPipeline:
    """A pipeline of diffusers: its name for many steps and for few, its parts that we do not ship, its settings.

    ``shifts_latents``: it adds the autoencoder's shift, which must be a number. ``shifts_noise``: it asks the scheduler for a
    shift of the noise levels, whatever the scheduler's settings.
    """

    name: str
    few_step_name: str
    absent: tuple[str, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)
    shifts_latents: bool = False
    shifts_noise: bool = False


@dataclass(frozen=True)
class Family:
    """What is different about a family.

    ``class_name``: diffusers' class; ``own_classes``: modules of our classes that descend from it, imported when a folder
    asks for one. ``part``: where a pipeline keeps it. ``blocks``: classes of its transformer blocks; ``attention``: the
    names that attention has in them. ``hidden``: classes whose matrices are hidden ones. ``keywords``: see :data:`Keywords`. ``refused``: places of a condition that its
    forward pass cannot take. ``guidance``: ``extrapolated`` from the null, or ``embedded`` and told to the model.
    ``timesteps``: set plainly, ``shifted`` by the number of patches, or as noise levels that are ``given``. ``is_packed``:
    takes 2x2 patches as rows. ``nominal_size``: latent height and width that plans count with, of a family whose
    configuration names none. ``side``: from a configuration to what another side must be a multiple of, and the longest.
    """

    name: str
    class_name: str
    part: str
    pipeline: StockPipeline
    keywords: Keywords
    blocks: tuple[str, ...]
    attention: tuple[str, ...]
    side: Callable[[Any], tuple[int, int]]
    own_classes: Mapping[str, str] = field(default_factory=dict)
    hidden: tuple[str, ...] = ()  # besides ``blocks``
    refused: tuple[str, ...] = ("layout", "attention_mask", "time_ids")
    takes_mask: bool = False
    guidance: Literal["extrapolated", "embedded"] = "extrapolated"
    timesteps: Literal["plain", "shifted", "given"] = "plain"
    is_packed: bool = False
    nominal_size: int | None = None

    @property
    def stock_class(self) -> Any:
        """The class itself."""
        import diffusers

        return getattr(diffusers, self.class_name)

    @property
    def packed(self) -> int:
        """Latent channels that stand in one channel of what the model takes."""
        return 4 if self.is_packed else 1


def bare(model: nn.Module) -> nn.Module:
    """The diffusers model inside wrappers of torch.compile and DistributedDataParallel."""
    inner: Any = model
    while isinstance(inner, DistributedDataParallel) or hasattr(inner, "_orig_mod"):
        inner = inner.module if isinstance(inner, DistributedDataParallel) else inner._orig_mod
    return inner


def find_family(model: nn.Module) -> Family | None:
    """The row of a model, also of one that descends from a stock class; None for a class that is in no row."""
    inner: Any = bare(model)
    for kind in type(inner).__mro__:
        if kind.__name__ == UNET and kind.__module__.startswith("diffusers."):
            return SDXL if inner.config.addition_embed_type == "text_time" else SD
        if kind.__name__ in _BY_CLASS and kind.__module__.startswith("diffusers."):
            return _BY_CLASS[kind.__name__]
    return None


def family_of(model: nn.Module) -> Family:
    """The row of a model. Raises FoundryError for a class that is in no row."""
    found = find_family(model)
    if found is None:
        raise FoundryError(
            f"the backbone is a {type(bare(model)).__name__}; known are {', '.join(STOCK_CLASSES)} and what descends from them"
        )
    return found


def attentions(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Name and module of every attention in a model's transformer blocks, in the model's order."""
    row, inner = family_of(model), bare(model)
    for name, block in inner.named_modules():
        if type(block).__name__ in row.blocks:
            for own in row.attention:
                if getattr(block, own, None) is not None:
                    yield f"{name}.{own}", getattr(block, own)


def hidden_matrices(model: nn.Module, *, convolutions: bool = True) -> list[nn.Parameter]:
    """Trained weights of two or more dimensions inside a model's repeated blocks, in the model's order.

    Without what makes scales and shifts of the timestep (norms, projections of its embedding), and without the first
    and last layers, which stand outside blocks: their inputs or outputs are no hidden states.
    """
    row, inner = family_of(model), bare(model)
    classes, found = {*row.blocks, *row.hidden}, dict[int, nn.Parameter]()
    for block in inner.modules():
        if any(kind.__name__ in classes for kind in type(block).__mro__):  # FSDP2 makes classes of its own
            for name, parameter in block.named_parameters():
                of_time = any(
                    part.startswith(("norm", "time_emb", "scale_shift")) for part in name.split(".")
                )
                wide_enough = parameter.ndim >= 2 and (convolutions or parameter.ndim == 2)
                if parameter.requires_grad and wide_enough and not of_time:
                    found[id(parameter)] = parameter
    return list(found.values())


def pooled_dim(config: Any) -> int | None:
    """Width of the pooled text that a model of this configuration takes, None where it takes none."""
    if getattr(config, "addition_embed_type", None) == "text_time":
        return int(config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim)
    return getattr(config, "pooled_projection_dim", None)


def pooled_of(config: Any, condition: Condition) -> Tensor:
    """Pooled text. Raises FoundryError where there is none."""
    if condition.pooled is None:
        raise FoundryError(
            f"'pooled' is missing; this backbone takes pooled text of width {pooled_dim(config)}; "
            "encode the texts with the encoders that it was trained with"
        )
    return condition.pooled


def _sd_keywords(config: Any, noisy: Tensor, condition: Condition) -> dict[str, Any]:
    return _layout_keyword(condition)


def _sdxl_keywords(config: Any, noisy: Tensor, condition: Condition) -> dict[str, Any]:
    time_ids = _sizes(noisy, condition) if condition.time_ids is None else condition.time_ids
    added = {"text_embeds": pooled_of(config, condition), "time_ids": time_ids}
    return {"added_cond_kwargs": added, **_layout_keyword(condition)}


def _sizes(noisy: Tensor, condition: Condition) -> Tensor:
    """SDXL's size numbers of uncropped pictures, [b, 6]."""
    height, width = (float(condition.pixels_per_latent * side) for side in noisy.shape[-2:])
    return noisy.new_tensor([height, width, 0.0, 0.0, height, width]).repeat(len(noisy), 1)


def _pixart_keywords(config: Any, noisy: Tensor, condition: Condition) -> dict[str, Any]:
    extra: dict[str, Any] = {"encoder_attention_mask": condition.mask}
    if config.use_additional_conditions:
        height, width = (condition.pixels_per_latent * side for side in noisy.shape[-2:])
        size, ratio = noisy.new_tensor([height, width]), noisy.new_tensor([height / width])
        extra["added_cond_kwargs"] = {
            "resolution": size.repeat(len(noisy), 1),
            "aspect_ratio": ratio.repeat(len(noisy), 1),
        }
    return extra


def _sd3_keywords(config: Any, noisy: Tensor, condition: Condition) -> dict[str, Any]:
    return {"pooled_projections": pooled_of(config, condition), **_layout_keyword(condition)}


def _layout_keyword(condition: Condition) -> dict[str, Any]:
    """Placed entities, for classes with a branch for them alone."""
    return {} if condition.layout is None else {"layout": condition.layout}


def _flux_keywords(config: Any, noisy: Tensor, condition: Condition) -> dict[str, Any]:
    guidance = noisy.new_full((len(noisy),), condition.guidance) if config.guidance_embeds else None
    pooled = pooled_of(config, condition)
    return {"pooled_projections": pooled, "guidance": guidance, **_layout_keyword(condition)}


def _levels(config: Any) -> tuple[int, int]:
    """A UNet halves a side once a level and needs whole numbers."""
    return 2 ** (len(config.block_out_channels) - 1), ANY_SIZE


UNET = "UNet2DConditionModel"
_UNET_BLOCKS, _ATTENTION = ("BasicTransformerBlock", "LayoutBasicTransformerBlock"), ("attn1", "attn2")
_UNET_CLASSES: Mapping[str, str] = {f"Pruned{UNET}": PRUNED_CLASSES, f"Layout{UNET}": "training.layout.unet"}
_ONE_TEXT = ("text_encoder", "tokenizer")
_TWO_TEXTS = ("text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2")
_PICTURE_PROMPT = ("image_encoder", "feature_extractor")

SD = Family(
    "SD",
    UNET,
    "unet",
    StockPipeline(
        "StableDiffusionPipeline",
        "StableDiffusionPipeline",
        (*_ONE_TEXT, "safety_checker", "feature_extractor", "image_encoder"),
        {"requires_safety_checker": False},
    ),
    _sd_keywords,
    _UNET_BLOCKS,
    _ATTENTION,
    _levels,
    _UNET_CLASSES,
    hidden=("Transformer2DModel", "ResnetBlock2D"),
)
"""Stable Diffusion 1 and 2, and every UNet that is told token states alone."""

SDXL = Family(
    "SDXL",
    UNET,
    "unet",
    StockPipeline(
        "StableDiffusionXLPipeline",
        "StableDiffusionXLPipeline",
        (*_TWO_TEXTS, *_PICTURE_PROMPT),
        {"force_zeros_for_empty_prompt": False},
    ),
    _sdxl_keywords,
    _UNET_BLOCKS,
    _ATTENTION,
    _levels,
    _UNET_CLASSES,
    hidden=("Transformer2DModel", "ResnetBlock2D"),
    refused=("layout", "attention_mask"),
)
"""UNets that are told pooled text and sizes."""

PIXART = Family(
    "PixArt",
    "PixArtTransformer2DModel",
    "transformer",
    # PixArtAlpha's asks a single step for a second result, which DPM-Solver does not give.
    StockPipeline("PixArtAlphaPipeline", "PixArtSigmaPipeline", _ONE_TEXT),
    _pixart_keywords,
    ("BasicTransformerBlock",),
    _ATTENTION,
    lambda config: (config.patch_size, ANY_SIZE),  # sine positions are interpolated
    {"PrunedPixArtTransformer2DModel": PRUNED_CLASSES},
    takes_mask=True,
)

SD3 = Family(
    "SD3",
    "SD3Transformer2DModel",
    "transformer",
    StockPipeline(
        "StableDiffusion3Pipeline",
        "StableDiffusion3Pipeline",
        (*_TWO_TEXTS, "text_encoder_3", "tokenizer_3", *_PICTURE_PROMPT),
        shifts_latents=True,
    ),
    _sd3_keywords,
    ("JointTransformerBlock", "LayoutJointTransformerBlock"),
    ("attn", "attn2"),
    lambda config: (
        config.patch_size,
        config.patch_size * config.pos_embed_max_size,
    ),  # positions are cropped
    {"PrunedSD3Transformer2DModel": PRUNED_CLASSES, "LayoutSD3Transformer2DModel": "training.layout.sd3"},
    timesteps="shifted",
)

FLUX = Family(
    "FLUX",
    "FluxTransformer2DModel",
    "transformer",
    StockPipeline(
        "FluxPipeline",
        "FluxPipeline",
        (*_TWO_TEXTS, *_PICTURE_PROMPT),
        shifts_latents=True,
        shifts_noise=True,
    ),
    _flux_keywords,
    (
        "FluxTransformerBlock",
        "FluxSingleTransformerBlock",
        "LayoutFluxTransformerBlock",
        "LayoutFluxSingleTransformerBlock",
    ),
    ("attn",),
    lambda config: (2, ANY_SIZE),  # positions rotate with the place
    {"PrunedFluxTransformer2DModel": PRUNED_CLASSES, "LayoutFluxTransformer2DModel": "training.layout.flux"},
    guidance="embedded",
    timesteps="given",
    is_packed=True,
    nominal_size=32,
)

FAMILIES: Mapping[str, Family] = {row.name: row for row in (SD, SDXL, PIXART, SD3, FLUX)}
_BY_CLASS: Mapping[str, Family] = {row.class_name: row for row in FAMILIES.values() if row.class_name != UNET}

STOCK_CLASSES: tuple[str, ...] = tuple(dict.fromkeys(row.class_name for row in FAMILIES.values()))
BACKBONE_CLASSES: Mapping[str, str] = {
    **dict.fromkeys(STOCK_CLASSES, "diffusers"),
    **{name: module for row in FAMILIES.values() for name, module in row.own_classes.items()},
}
"""Module of every class that a saved backbone may be of; it is imported when a folder asks for it."""

TRANSFORMER_BLOCKS: tuple[str, ...] = tuple(
    sorted({name for row in FAMILIES.values() for name in row.blocks})
)
"""Classes of transformer blocks of all families: what is counted, simulated and compared once where it repeats."""
