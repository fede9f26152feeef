"""Parameters and multiply-adds of registered backbones beside the figures that the paper prints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from evaluation.analysis.printed import (
    PARAMETER_ROUNDING,
    PRINTED_LATENT,
    PRINTED_SIZES,
    PRINTED_TOKENS,
    PrintedSize,
)
from training.backbones import (
    BACKBONES,
    CONDITIONINGS,
    Conditioning,
    LayerCost,
    count_added_parameters,
    count_parameters,
    variant,
    variant_costs,
)
from training.errors import FoundryError

_SIDE_STEP = 8


@dataclass(frozen=True)
class BackboneSize:
    """What one forward pass of one image costs; multiply-adds at a latent of ``latent`` x ``latent``.

    ``added_params``: of ``params`` those of a layout branch. ``macs``: linears and convolutions. ``macs_with_attention``: with the products QK^T and AV. ``attention_macs``:
    the part of ``macs`` in linears inside the spatial transformers (the paper's "Attention GMACs").
    """

    name: str
    family: str
    latent: int
    params: int
    macs: int
    macs_with_attention: int
    attention_macs: int
    added_params: int = 0

    @property
    def attention_share(self) -> float:
        """``attention_macs`` over ``macs``."""
        return self.attention_macs / self.macs


def backbone_size(
    name: str, latent: int = PRINTED_LATENT, conditioning: Conditioning = "paper"
) -> BackboneSize:
    """Count a registered backbone at 77 tokens, without memory. Raises FoundryError for an unknown name."""
    chosen = variant(name, conditioning)
    costs = variant_costs(name, latent, PRINTED_TOKENS, conditioning)
    total = sum(costs.values(), LayerCost())
    return BackboneSize(
        name=name,
        family=chosen.family,
        latent=latent,
        params=count_parameters(name, conditioning),
        macs=total.macs,
        macs_with_attention=total.macs + total.product_macs,
        attention_macs=sum(
            cost.macs for layer, cost in costs.items() if in_transformer(layer, chosen.family)
        ),
        added_params=count_added_parameters(name, conditioning),
    )


def in_transformer(layer: str, family: str) -> bool:
    """Whether a linear counts as attention: inside a spatial transformer, feed-forward included.

    The rule that fits 14 of the 16 printed cells: the mid block counts for SD2 and IF-XL but not for SDXL. Of the
    pure transformers everything inside their blocks counts.
    """
    if family == "SDXL" and layer.startswith("mid_block."):
        return False
    return ".attentions." in layer or layer.startswith(("transformer_blocks.", "single_transformer_blocks."))


def differences(size: BackboneSize, printed: PrintedSize) -> dict[str, float | None]:
    """Ours minus the printed figure, in the printed unit; None where nothing is printed for this latent."""
    same = size.latent == PRINTED_LATENT
    attention = printed.attention_gmacs
    return {
        "params_b": size.params / 1e9 - printed.params_b,
        "gmacs": size.macs / 1e9 - printed.gmacs if same else None,
        "attention_gmacs": size.attention_macs / 1e9 - attention if same and attention is not None else None,
    }


def agreement(size: BackboneSize, printed: PrintedSize) -> dict[str, bool]:
    """Which printed figures are met: parameters within 0.006B, multiply-adds when rounded as they are printed."""
    found = differences(size, printed)
    return {
        figure: abs(value) <= (PARAMETER_ROUNDING if figure == "params_b" else 0.5)
        for figure, value in found.items()
        if value is not None
    }


def checked_conditioning(value: str) -> Conditioning:
    """A conditioning by name. Raises FoundryError for any but paper and stock."""
    for known in CONDITIONINGS:
        if value == known:
            return known
    raise FoundryError(f"conditioning is '{value}'; allowed are {', '.join(CONDITIONINGS)}; use one of them")


def size_rows(
    names: Sequence[str] = (), latent: int = PRINTED_LATENT, conditioning: Conditioning = "paper"
) -> list[dict[str, Any]]:
    """One row a backbone, all of the registry by default: counts, the printed figures and the difference.

    Raises FoundryError for an unknown name, or a latent side that is no multiple of 8.
    """
    if latent < _SIDE_STEP or latent % _SIDE_STEP:
        raise FoundryError(
            f"latent is {latent}; allowed are multiples of {_SIDE_STEP}, for U-Nets halve it three times; "
            "a 256 px picture has 32"
        )
    chosen = list(names) or list(BACKBONES)
    for name in chosen:  # all names are known before the first is counted
        variant(name, conditioning)
    return [_row(backbone_size(name, latent, conditioning)) for name in chosen]


def _row(size: BackboneSize) -> dict[str, Any]:
    printed = PRINTED_SIZES.get(size.name)
    return {
        "name": size.name,
        "family": size.family,
        "params": size.params,
        "added_params": size.added_params,
        "macs": size.macs,
        "macs_with_attention": size.macs_with_attention,
        "attention_macs": size.attention_macs,
        "attention_share": size.attention_share,
        "printed": _figures(printed) if printed else None,
        "difference": differences(size, printed) if printed else None,
        "agrees": agreement(size, printed) if printed else None,
        "remark": printed.remark if printed else "",
    }


def _figures(printed: PrintedSize) -> dict[str, float | None]:
    kept = ("params_b", "gmacs", "attention_gmacs")
    return {name: value for name, value in asdict(printed).items() if name in kept}
