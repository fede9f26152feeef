"""The sections of a recipe: which data, which captions, and each objective's own options."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Positive = Annotated[int, Field(ge=1, le=10**12)]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


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


class DiffusionOptions(Section):
    """Options of the diffusion objective."""

    prediction: Literal["flow", "clean", "epsilon", "v"] = Field(
        default="flow", description="what the network predicts"
    )
    time_sampling: Literal["logit_normal", "uniform"] = Field(
        default="logit_normal", description="how noise levels are drawn"
    )
    logit_mean: float = Field(default=0.0, ge=-10, le=10, description="mean of logit(t), t = 1 is pure noise")
    logit_std: float = Field(default=1.0, gt=0, le=10, description="standard deviation of logit(t)")
    caption_dropout: Fraction = Field(
        default=0.1, description="chance of training on the empty caption, for guidance"
    )
    noise_schedule: Literal["scaled_linear", "linear", "cosine"] = Field(
        default="scaled_linear", description="betas of epsilon and v predictions; flow and clean have none"
    )
    zero_terminal_snr: bool = Field(
        default=False, description="rescale the betas so that the last step is pure noise; v prediction only"
    )
    min_snr_gamma: float | None = Field(
        default=None,
        gt=0,
        le=1e6,
        description="weigh the clean latent's error by min(SNR, gamma); None: plain error",
    )

    @model_validator(mode="after")
    def _check_schedule(self) -> DiffusionOptions:
        is_flow_path = self.prediction in ("flow", "clean")
        if is_flow_path and (self.noise_schedule != "scaled_linear" or self.zero_terminal_snr):
            raise ValueError(
                f"prediction '{self.prediction}' mixes noise in along straight lines and has no betas; "
                "leave noise_schedule and zero_terminal_snr out"
            )
        if self.zero_terminal_snr and self.prediction != "v":
            raise ValueError("'zero_terminal_snr' leaves epsilon nothing to tell at the last step; predict v")
        return self


class StepDistillationOptions(Section):
    """Options of step distillation (consistency distillation from the recipe's parent)."""

    intervals: int = Field(
        default=16,
        ge=1,
        le=1000,
        description="steps of the teacher's path; 1000 / intervals timesteps are skipped",
    )
    guidance_min: float = Field(
        default=3.0, ge=1, le=100, description="least guidance built in, in the pipelines' form: 1 is none"
    )
    guidance_max: float = Field(
        default=3.0, ge=1, le=100, description="most guidance built in; drawn evenly between the two"
    )
    target_half_life_images: Positive | None = Field(
        default=500,
        description="half life of the target network's average, at most a 20th of the images seen; None: the student itself",
    )
    huber: float | None = Field(
        default=None, gt=0, le=100, description="scale c of the pseudo-Huber loss; None for the squared error"
    )

    @model_validator(mode="after")
    def _check_together(self) -> StepDistillationOptions:
        if self.guidance_min > self.guidance_max:
            raise ValueError(
                f"'guidance_min' is {self.guidance_min}, above guidance_max {self.guidance_max}; lower it"
            )
        return self


class AutoencoderOptions(Section):
    """Options of the autoencoder objective (diffusers AutoencoderKL)."""

    block_channels: tuple[int, ...] = Field(default=(16, 16, 32, 64), min_length=1, max_length=6)
    layers_per_block: int = Field(default=1, ge=1, le=4)
    latent_channels: int = Field(default=16, ge=1, le=64)
    kl_weight: float = Field(
        default=1e-6, ge=0, le=1, description="weight of the KL term, per latent element"
    )
    squared_weight: float = Field(
        default=0.0, ge=0, le=100, description="weight of the squared pixel error beside L1"
    )
    edge_weight: float = Field(
        default=0.0, ge=0, le=100, description="weight of the L1 error of image gradients"
    )


class ContrastiveOptions(Section):
    """Options of the image-text contrastive objective (open_clip)."""

    embed_dim: int = Field(default=128, ge=8, le=2048)
    image_layers: tuple[int, ...] = Field(
        default=(1, 1, 1, 1), description="four numbers: blocks of a ResNet's stages; one: depth of a ViT"
    )
    image_width: int = Field(default=16, ge=8, le=2048)
    image_head_width: int = Field(default=32, ge=8, le=256)
    image_patch: int = Field(default=8, ge=1, le=64, description="patch side in pixels, ViT only")
    text_width: int = Field(default=128, ge=16, le=2048)
    text_layers: int = Field(default=2, ge=1, le=48)
    text_heads: int = Field(default=4, ge=1, le=64)
    max_tokens: int = Field(
        default=20, ge=4, le=256, description="words kept of a caption, end token included"
    )
    shift_pixels: int = Field(default=4, ge=0, le=64, description="random shift of each picture, 0 for none")
    flip: bool = Field(default=False, description="mirror half of the pictures whose caption allows it")
    no_flip_words: tuple[str, ...] = Field(
        default=("left", "right", "says"), description="captions not to mirror"
    )

    @field_validator("image_layers")
    @classmethod
    def _known_shape(cls, layers: tuple[int, ...]) -> tuple[int, ...]:
        if len(layers) not in (1, 4) or min(layers) < 1:
            raise ValueError("give four positive numbers for a ResNet or one for a ViT")
        return layers
