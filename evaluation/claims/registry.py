"""Headline claims as entries: statement, published number, what we measured, and a status.

A claim that fails is shown as failed. An exact claim is checked by arithmetic, now; an empirical one needs runs
and stays ``not run`` until somebody hands in the measurement.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from evaluation.intervals import Interval
from training.errors import FoundryError

Status = Literal["holds", "fails", "inside the noise", "not run"]
SCALABILITY = "Scalability, arXiv 2404.02883"
CREATILAYOUT = "CreatiLayout, arXiv 2412.03859"
TEXT_LAYERS = "Localization of text, arXiv 2502.09935"


@dataclass(frozen=True)
class Claim:
    """What a paper says. ``kind``: exact (arithmetic) or empirical (needs trained models)."""

    name: str
    paper: str
    kind: Literal["exact", "empirical"]
    statement: str
    published: str


@dataclass(frozen=True)
class Measurement:
    """What we found for one claim: at which profile, over how many items and seeds, with which outcome."""

    measured: str
    status: Status
    profile: str
    num_items: int
    num_seeds: int = 0
    interval: Interval | None = None
    remark: str = ""


@dataclass(frozen=True)
class ClaimResult:
    """A claim beside our measurement, None where nobody has measured it."""

    claim: Claim
    measurement: Measurement | None

    @property
    def status(self) -> Status:
        """Outcome, ``not run`` without a measurement."""
        return "not run" if self.measurement is None else self.measurement.status


def _exact(name: str, statement: str, published: str) -> Claim:
    return Claim(name, SCALABILITY, "exact", statement, published)


def _empirical(name: str, statement: str, published: str) -> Claim:
    return Claim(name, SCALABILITY, "empirical", statement, published)


BRANCH_ORDER: Mapping[str, str] = {
    "siam_over_adapter": "SiamLayout is above the Layout Adapter",
    "adapter_over_joint": "the Layout Adapter is above M3-Attention, in which layout loses the competition",
}
MEASURED_OF_LAYOUTS: Mapping[str, str] = {
    "objects_in_box": "objects recognised in their box",
    "spatial": "spatial, by yes-or-no questions",
    "color": "colour, by yes-or-no questions",
    "texture": "texture, by yes-or-no questions",
    "shape": "shape, by yes-or-no questions",
}


def _of_layouts() -> tuple[Claim, ...]:
    """A claim an order of branches and a metric; the paper shows their order in a figure."""
    return tuple(
        Claim(
            f"{name}_{metric}",
            CREATILAYOUT,
            "empirical",
            f"{order}: {title}",
            "SiamLayout > Layout Adapter > M3",
        )
        for name, order in BRANCH_ORDER.items()
        for metric, title in MEASURED_OF_LAYOUTS.items()
    )


CLAIMS: tuple[Claim, ...] = (
    _exact(
        "compute_law", "TIFA follows 0.47 C^0.02 in training GFLOPs", "0.82 at 1.46e12 GFLOPs, by its plot"
    ),
    _exact("parameter_law", "TIFA follows 0.77 N^0.11 in millions of parameters", "TIFA from 0.82 to 0.84"),
    _exact("data_law", "TIFA follows 0.64 D^0.03 in millions of image-noun pairs", "TIFA from 0.80 to 0.84"),
    _exact(
        "compute_formula", "training compute is 3 x FLOPs x batch x steps", "SDXL, 600K steps: 1.46e12 GFLOPs"
    ),
    _exact("unet_sizes", "Table 1: parameters and multiply-adds of 16 U-Nets", "16 rows"),
    _exact(
        "unet_attention", "Table 1: multiply-adds in attention, every linear of the transformers", "16 cells"
    ),
    _exact(
        "size_controls",
        "the table is met by its own conventions only: four others miss it",
        "SDXL 2.39B, IF-XL-C512 2.04B, GMACs of 16 rows",
    ),
    _exact("transformer_sizes", "Table 2: parameters and multiply-adds of PixArt backbones", "5 rows"),
    _exact(
        "td4_4_savings",
        "SDXL-TD4_4 is 45 % smaller and 28 % cheaper than SDXL",
        "45 %, 28 % at a 32 x 32 latent",
    ),
    _exact(
        "attention_share",
        "attention's share of the multiply-adds depends on TD, hardly on C",
        "TD 2, 4, 10, 12, 14: 44, 52, 64, 66, 68 %; C 128 to 384: 63 to 66 %",
    ),
    _exact(
        "nouns_per_image",
        "nouns per image are image-noun pairs over images",
        "7.1, 7.0, 6.0, 6.5, 12.8, 11.6, 12.2",
    ),
    _exact(
        "caption_draws", "the alt-text is drawn half the time, five captions 10 % each", "0.5 and 5 x 0.1"
    ),
    _empirical(
        "larger_is_better", "a larger backbone of the same family does better", "TIFA rises with size"
    ),
    _empirical(
        "depth_beats_width",
        "at equal parameters a deeper backbone beats a wider one",
        "TD2 over C192, TD14 over C384",
    ),
    _empirical(
        "attention_placement",
        "at equal parameters, cross-attention at the coarse level beats the same at the fine one",
        "TIFA rises with transformer blocks at 4x, from 2 to 14",
    ),
    _empirical(
        "unet_beats_transformer", "the SD2 UNet beats PixArt at equal steps", "TIFA 0.80 vs 0.78 at 250K"
    ),
    _empirical("mixed_captions", "mixing in generated captions beats alt-text alone", "TIFA 0.835 vs 0.810"),
    _empirical(
        "filtering_keeps_quality",
        "at equal compute the curated data beat all that landed",
        "filtering 1B pairs to 250M keeps TIFA",
    ),
    _empirical("more_data", "at equal compute more images beat a part of them", "LensArt + SSTK over each"),
    _empirical("td4_4_equals_sdxl", "SDXL-TD4_4 about equals SDXL per step", "the same TIFA curve"),
    *_of_layouts(),
    Claim(
        "text_layers_share",
        TEXT_LAYERS,
        "exact",
        "keys and values of the layers that write are under 1 % of the parameters of SDXL, DeepFloyd IF and SD3",
        "0.61 %, 0.21 %, 0.23 %",
    ),
    Claim(
        "text_layers_few",
        TEXT_LAYERS,
        "empirical",
        "one to three layers write: they bring 90 % of what all layers bring of the other word",
        "SDXL 3 of 70, IF 1 of 22, SD3 1 of 24 layers",
    ),
    Claim(
        "localized_lora_writes",
        TEXT_LAYERS,
        "empirical",
        "adapters on the layers that write alone read better than adapters on all layers, at equal images",
        "F1 .560 against .523, SDXL, epoch 100",
    ),
    Claim(
        "localized_lora_keeps_diversity",
        TEXT_LAYERS,
        "empirical",
        "adapters on the layers that write alone keep more diversity than adapters on all layers",
        "recall .805 against .70, SDXL, epoch 100",
    ),
    Claim(
        "editing_beats_injection",
        TEXT_LAYERS,
        "empirical",
        "patching the layers that write puts in the other word better than injecting the source's attention maps",
        "F1 .34 against .29 SDXL, .70 against .27 IF, .53 against .31 SD3",
    ),
    Claim(
        "guard_beats_negative_prompt",
        TEXT_LAYERS,
        "empirical",
        "a harmless word at the layers that write leaves less of the toxic word than a negative prompt",
        "F1 .20 against .23 SDXL, .32 against .59 IF, .32 against .77 SD3",
    ),
)


def claim_results(measurements: Mapping[str, Measurement]) -> list[ClaimResult]:
    """All claims in order, each beside its measurement. Raises FoundryError for a name nobody claimed."""
    names = [claim.name for claim in CLAIMS]
    for name in measurements:
        if name not in names:
            raise FoundryError(
                f"claims: found '{name}'; known are {', '.join(names)}; register the claim first"
            )
    return [ClaimResult(claim, measurements.get(claim.name)) for claim in CLAIMS]
