"""Which samples and which captions a training sees, and in which order."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from types import MappingProxyType
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from training.recipes.section import Fraction, Positive, Section

CAPTION_MIXES: Mapping[str, tuple[float, int]] = MappingProxyType(
    {"paper": (0.5, 5), "top-1": (0.5, 1), "original": (1.0, 0), "recaptioned": (0.0, 5)}
)
"""Mixes by name: the chance of the original alt-text, and how many of the best generated captions share the rest."""


class CaptionMix(Section):
    """Which caption of a sample is drawn: the alt-text, or one of its generated captions uniformly.

    A recipe names its mix (``captions: paper``) or gives both numbers, which makes it ``custom``.
    """

    name: str = Field(default="paper", description="paper, top-1, original, recaptioned or custom")
    original_probability: Fraction = Field(
        default=0.5, description="chance of the original alt-text (caption 0), 0 to 1"
    )
    max_generated: int = Field(
        default=5, ge=0, le=64, description="how many of the best generated captions take part"
    )

    @model_validator(mode="before")
    @classmethod
    def _by_name(cls, value: Any) -> Any:
        if isinstance(value, str):
            value = {"name": value}
        if not isinstance(value, Mapping):
            return value
        name = value.get("name", "paper" if not set(value) - {"name"} else "custom")
        if name == "custom":
            return {**value, "name": name}
        if name not in CAPTION_MIXES:
            allowed = ", ".join([*CAPTION_MIXES, "custom"])
            raise ValueError(f"there is no caption mix '{name}'; allowed are {allowed}")
        original_probability, max_generated = CAPTION_MIXES[name]
        numbers = {"original_probability": original_probability, "max_generated": max_generated}
        wrong = [key for key, number in numbers.items() if value.get(key, number) != number]
        if wrong:
            raise ValueError(
                f"the mix '{name}' has {wrong[0]} {numbers[wrong[0]]}, found {value[wrong[0]]}; "
                "leave the name out, or call it custom"
            )
        return {**value, "name": name, **numbers}


class Stage(Section):
    """From which image on samples of which resolution are seen."""

    images_from: int = Field(ge=0, le=10**12, description="images seen when the stage begins")
    resolution: Positive = Field(
        description="side in pixels of the square with the area of the stage's pictures, as the dataset names it"
    )


class DatasetSelection(Section):
    """Which samples of the training shards take part, and in which order."""

    splits: tuple[str, ...] = Field(
        default=("train",), min_length=1, description="splits of the samples table to train on"
    )
    captions: CaptionMix = CaptionMix()
    max_samples: Positive | None = Field(
        default=None, description="use only the first so many samples; None for all"
    )
    filter: Literal["curated", "raw"] = Field(
        default="curated",
        description="raw: also samples that curation dropped, where the shards hold them",
    )
    max_concepts: Positive | None = Field(
        default=None,
        description="use only samples whose captions name none but the so many commonest nouns; None for all",
    )
    order: Literal["permutation", "blocks"] = Field(
        default="permutation",
        description="permutation: all samples shuffled; blocks: shards shuffled, then the samples of a few shards",
    )
    buffer_shards: int = Field(
        default=8, ge=1, le=4096, description="order 'blocks': shards whose samples are shuffled together"
    )
    stages: tuple[Stage, ...] = Field(
        default=(), description="resolutions one after the other; empty for all samples from the start"
    )

    @field_validator("stages")
    @classmethod
    def _in_turn(cls, stages: tuple[Stage, ...]) -> tuple[Stage, ...]:
        starts = [stage.images_from for stage in stages]
        if starts and (starts[0] != 0 or any(b <= a for a, b in pairwise(starts))):
            raise ValueError(f"images_from must begin at 0 and rise, found {starts}")
        if len({stage.resolution for stage in stages}) < len(stages):
            raise ValueError("each resolution may have one stage only; join those of the same resolution")
        return stages

    def check_batches(self, batch_size: int) -> None:
        """Stages begin where a batch does. Raises ValueError else."""
        for stage in self.stages:
            if stage.images_from % batch_size:
                raise ValueError(
                    f"'dataset.stages' begins one at image {stage.images_from}; it must be a multiple of batch_size "
                    f"{batch_size}, such as {stage.images_from // batch_size * batch_size}"
                )
