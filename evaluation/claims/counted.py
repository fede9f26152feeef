"""Claims that counting the registered backbones settles: sizes, their controls, savings, attention's share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from types import MappingProxyType

from evaluation.analysis.printed import PRINTED_SIZES
from evaluation.analysis.sizes import BackboneSize, agreement, backbone_size
from evaluation.claims.registry import Measurement, Status
from training.backbones import (
    LayerCost,
    blueprint,
    build_on_meta,
    count_parameters,
    model_parameters,
    variant,
    variant_costs,
)

PROFILE = "counting"

UNETS = tuple(name for name in PRINTED_SIZES if not name.startswith("PixArt"))
TRANSFORMERS = tuple(name for name in PRINTED_SIZES if name.startswith("PixArt"))
OVER_WIDTH = ("SDXL-C128", "SDXL-C192", "SDXL", "SDXL-C384")
OVER_DEPTH = ("SDXL-TD2", "SDXL-TD4", "SDXL", "SDXL-TD12", "SDXL-TD14")
DEPTH_SHARES = (44, 52, 64, 66, 68)  # percent, from the printed GMACs
LATENTS = (32, 64, 128)
LAYERS_THAT_WRITE: Mapping[str, tuple[tuple[str, ...], tuple[str, str]]] = {
    "SDXL-stock": (
        tuple(f"up_blocks.0.attentions.2.transformer_blocks.{number}.attn2" for number in (1, 2, 3)),
        ("to_k", "to_v"),
    ),
    "IF-I-XL": (("up_blocks.1.attentions.3",), ("add_k_proj", "add_v_proj")),
    "SD3-medium": (("transformer_blocks.10.attn",), ("add_k_proj", "add_v_proj")),
}
"""By registered shape the attentions that the paper located (arXiv 2502.09935), and their projections of text."""
ORIGINAL_TOKENS = 120  # of PixArt-alpha's T5


@lru_cache(maxsize=1)
def counted_measurements() -> Mapping[str, Measurement]:
    """Measurements by claim name; counted once in a process."""
    return MappingProxyType(
        {
            "unet_sizes": _sizes(UNETS, ("params_b", "gmacs")),
            "unet_attention": _sizes(UNETS, ("attention_gmacs",)),
            "size_controls": _controls(),
            "transformer_sizes": _transformers(),
            "td4_4_savings": _savings(),
            "attention_share": _attention_share(),
            "text_layers_share": _text_layers_share(),
        }
    )


def control_parameters() -> dict[str, int]:
    """Parameters of layouts that the paper did not build, although its words allow them.

    SDXL with one layer in the mid block instead of ten; IF-XL with attention at 2x, 4x, 8x instead of 1x, 2x, 4x.
    """
    blocks = blueprint("SDXL").mid_block.attentions[0].transformer_blocks
    upper = sum(parameter.numel() for block in blocks[1:] for parameter in block.parameters())
    return {
        "SDXL with mid depth 1": count_parameters("SDXL") - upper,
        "IF-XL-C512 with attention at 2x, 4x, 8x": _lower_attention("IF-XL-C512"),
    }


def _lower_attention(name: str) -> int:
    original = variant(name)
    config = {
        **original.config,
        "down_block_types": ("ResnetDownsampleBlock2D", *("SimpleCrossAttnDownBlock2D",) * 3),
        "up_block_types": (*("SimpleCrossAttnUpBlock2D",) * 3, "ResnetUpsampleBlock2D"),
    }
    moved = build_on_meta(replace(original, config=config))
    return sum(parameter.numel() for parameter in moved.parameters())


def _sizes(names: tuple[str, ...], figures: tuple[str, ...]) -> Measurement:
    """Whether each row meets the printed figures; rows that do not are remarked by name."""
    missed = [name for name in names if not _met(backbone_size(name), figures)]
    remark = "; ".join(f"{name}: {PRINTED_SIZES[name].remark or 'not met'}" for name in missed)
    text = f"{len(names) - len(missed)} of {len(names)} met"
    return Measurement(text, _outcome(not missed), PROFILE, len(names), remark=remark)


def _met(size: BackboneSize, figures: tuple[str, ...]) -> bool:
    found = agreement(size, PRINTED_SIZES[size.name])
    return all(found[figure] for figure in figures)


def _controls() -> Measurement:
    """Every row or total that another convention still meets would say that the conventions are not told apart."""
    sizes = [backbone_size(name) for name in UNETS]
    with_products = sum(_met(replace(size, macs=size.macs_with_attention), ("gmacs",)) for size in sizes)
    stock = [replace(backbone_size(name), params=count_parameters(name, "stock")) for name in OVER_WIDTH]
    with_stock = sum(_met(size, ("params_b",)) for size in stock)
    totals = control_parameters()
    met_totals = [
        name
        for name, params in totals.items()
        if _met(replace(_control_size(name), params=params), ("params_b",))
    ]
    found = ", ".join(f"{name} {params / 1e9:.2f}B" for name, params in totals.items())
    text = f"met with QK^T and AV {with_products} of {len(sizes)}, with stock conditioning {with_stock} of {len(stock)}; {found}"
    holds = not (with_products or with_stock or met_totals)
    return Measurement(text, _outcome(holds), PROFILE, len(sizes) + len(stock) + len(totals))


def _control_size(control: str) -> BackboneSize:
    return backbone_size(control.split(" ", 1)[0])


def _transformers() -> Measurement:
    found = _sizes(TRANSFORMERS, ("params_b", "gmacs"))
    costs = variant_costs("PixArt-XL-2", LATENTS[0], ORIGINAL_TOKENS)
    gmacs = sum(costs.values(), LayerCost()).macs / 1e9
    remark = f"the original's 139 needs 77 tokens; with its own {ORIGINAL_TOKENS} it is {gmacs:.1f}"
    return replace(found, remark="; ".join(filter(None, [found.remark, remark])))


def savings(latent: int, *, products: bool) -> float:
    """Multiply-adds that TD4_4 saves against SDXL, as a fraction, with or without QK^T and AV."""
    sizes = [backbone_size(name, latent) for name in ("SDXL", "SDXL-TD4_4")]
    macs = [size.macs_with_attention if products else size.macs for size in sizes]
    return 1 - macs[1] / macs[0]


def _savings() -> Measurement:
    parameters = 1 - count_parameters("SDXL-TD4_4") / count_parameters("SDXL")
    macs = savings(LATENTS[0], products=False)
    holds = round(100 * parameters) == 45 and round(100 * macs) == 28
    larger = "; ".join(
        f"{side} x {side}: {savings(side, products=False):.1%}, with QK^T and AV {savings(side, products=True):.1%}"
        for side in LATENTS[1:]
    )
    remark = f"of multiply-adds: a count, not a latency; {larger}"
    return Measurement(f"{parameters:.2%}, {macs:.2%}", _outcome(holds), PROFILE, 2, remark=remark)


def _attention_share() -> Measurement:
    widths, depths = (
        [100 * backbone_size(name).attention_share for name in names] for names in (OVER_WIDTH, OVER_DEPTH)
    )
    holds = tuple(round(share) for share in depths) == DEPTH_SHARES
    holds &= all(63 <= share <= 66 for share in widths)
    texts = [", ".join(f"{share:.1f}" for share in shares) for shares in (depths, widths)]
    return Measurement(
        f"over TD {texts[0]} %; over C {texts[1]} %", _outcome(holds), PROFILE, len(widths) + len(depths)
    )


def text_layers_share(name: str) -> float:
    """Keys and values of the layers that the paper located, over all parameters of a registered shape."""
    modules, projections = LAYERS_THAT_WRITE[name]
    model = blueprint(name)
    parts = [model.get_submodule(f"{module}.{part}") for module in modules for part in projections]
    return sum(weight.numel() for part in parts for weight in part.parameters()) / model_parameters(model)


def _text_layers_share() -> Measurement:
    found = {name: text_layers_share(name) for name in LAYERS_THAT_WRITE}
    text = ", ".join(f"{name} {share:.2%}" for name, share in found.items())
    remark = (
        "of DeepFloyd IF the paper counts the image's own projections; with those of the text it is 0.28 %"
    )
    return Measurement(text, _outcome(max(found.values()) < 0.01), PROFILE, len(found), remark=remark)


def _outcome(holds: bool) -> Status:
    return "holds" if holds else "fails"
