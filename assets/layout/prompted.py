"""A layout that a person wrote, drawn by a layout model."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import UInt8

from training.errors import FoundryError
from training.layout.entities import Layout
from training.recipes.text_encoder import EncoderSettings

if TYPE_CHECKING:
    from PIL.Image import Image

    from training.model_folders.denoiser import Denoiser
    from training.recipes.layout import LayoutOptions
    from training.sampling.control import Control
    from training.text_encoders import TextEncoder

SMALLEST_TILE_PX = 256
TRUE_GUIDANCE = 3.0
"""Of the released SiamLayout-FLUX, beside the guidance that FLUX embeds."""


@dataclass(frozen=True)
class Asked:
    """How a layout is drawn. ``window``: share of the steps that are told it; ``strength`` 0 is the base."""

    steps: int = 16
    guidance: float = 3.0
    strength: float = 1.0
    window: float = 1.0
    seed: int = 0
    num_images: int = 1


@dataclass(frozen=True)
class Drawn:
    """Pictures of one layout, one a seed; ``cut_phrases`` fill the text encoder, so that their end may be lost."""

    images: UInt8[np.ndarray, "n h w 3"]
    seeds: tuple[int, ...]
    cut_phrases: tuple[str, ...]
    seconds: float

    def sheet(self, layout: Layout) -> Image:
        """Every picture, and beside it the same with the boxes that were told."""
        from evaluation.plots.contact_sheets import NamedBox, contact_sheet

        boxes = [NamedBox(entity.phrase, entity.box_xyxy_norm) for entity in layout.entities]
        pairs = [image for image in self.images for _ in range(2)]
        over = [told for _ in self.images for told in ([], boxes)]
        tile = max(SMALLEST_TILE_PX, *self.images.shape[1:3])
        return contact_sheet(pairs, None, over, columns=2, tile=tile)


@dataclass(frozen=True)
class LayoutModel:
    """A pipeline with a layout branch and the text encoder that it was trained on, loaded once and drawn with many times."""

    denoiser: Denoiser
    options: LayoutOptions
    encoder: TextEncoder

    @classmethod
    def load(cls, folder: Path, settings: EncoderSettings) -> LayoutModel:
        """Load a pipeline folder; texts are encoded by the encoder of ``settings``.

        Raises FoundryError for a model without a branch or made with another text encoder.
        """
        from training.hardware import sampling_device
        from training.model_folders.denoiser import Denoiser
        from training.model_folders.parents import check_text_encoder
        from training.recipes.text_encoder import encoder_digest
        from training.text_encoders import build_encoder

        check_text_encoder(folder, encoder_digest(settings), f"{folder}")
        denoiser = Denoiser.load(folder, sampling_device())
        options: Any = getattr(denoiser.backbone, "layout_options", None)
        if options is None:
            raise FoundryError(
                f"{folder}: its {type(denoiser.backbone).__name__} has no layout branch, so boxes cannot be told; name a model "
                "of the asset layout_model"
            )
        return cls(denoiser, options, build_encoder(settings))

    def draw(self, layout: Layout, asked: Asked, control: Control | None = None) -> Drawn:
        """Draw a layout. ``control`` acts beside what is asked.

        Raises FoundryError, before anything is drawn, for more entities than the model takes and settings out of range.
        """
        from training.backbones import family_of
        from training.layout.shards import placed_of
        from training.model_folders.denoiser import sample_with
        from training.sampling.control import Together
        from training.sampling.layout import layout_window, with_layout

        window, options, encoder = layout_window(asked.window), self.options, self.encoder
        phrases = [entity.phrase for entity in layout.entities]
        began = time.perf_counter()
        placed = placed_of([layout.entities], encoder, options.max_boxes, options.tokens_per_entity)
        told = with_layout(encoder.prompts([layout.caption]), placed, asked.strength)
        seeds = tuple(range(asked.seed, asked.seed + asked.num_images))
        embedded = family_of(self.denoiser.backbone).guidance == "embedded"
        images = sample_with(
            self.denoiser,
            told.repeated(asked.num_images),
            seeds,
            asked.steps,
            asked.guidance,
            true_guidance=TRUE_GUIDANCE if embedded else 1.0,
            control=window if control is None else Together([window, control]),
        )
        cut = tuple(encoder.full([layout.caption, *phrases]))
        return Drawn(images, seeds, cut, time.perf_counter() - began)


def draw_prompted(model: Path, layout: Layout, settings: EncoderSettings, asked: Asked) -> Drawn:
    """Draw a layout once with a pipeline folder. Raises FoundryError as :class:`LayoutModel` does."""
    return LayoutModel.load(model, settings).draw(layout, asked)
