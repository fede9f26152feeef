"""A model with the text encoder that it was trained on and the OCR engine that reads its pictures."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from jaxtyping import UInt8

from assets.graph.asking import answer_of, required
from assets.graph.interfaces import Perception
from training.recipes.text_encoder import EncoderSettings

if TYPE_CHECKING:
    from evaluation.localization.runs import Read, Reading
    from training.model_folders.denoiser import Denoiser
    from training.text_encoders import TextEncoder


@dataclass(frozen=True)
class TextModel:
    """What prompts are drawn with.

    ``latent_size``: height and width of latents, None for the backbone's own. ``text_family``: of the text encoder, as recipes
    name it.
    """

    denoiser: Denoiser
    encoder: TextEncoder
    latent_size: tuple[int, int] | None
    text_family: str

    @classmethod
    def load(cls, folder: Path, otherwise: EncoderSettings) -> TextModel:
        """Load a pipeline folder. Prompts are encoded as it tells, or by the encoder of ``otherwise``.

        Raises FoundryError for a model that was made with another text encoder.
        """
        from training.hardware import sampling_device
        from training.model_folders.denoiser import Denoiser
        from training.model_folders.parents import check_text_encoder
        from training.model_folders.text_encoding import read_latent_size, read_text_encoding
        from training.recipes.text_encoder import encoder_digest
        from training.text_encoders import build_encoder

        settings = read_text_encoding(folder) or otherwise
        check_text_encoder(folder, encoder_digest(settings), f"{folder}")
        denoiser = Denoiser.load(folder, sampling_device())
        return cls(denoiser, build_encoder(settings), read_latent_size(folder), settings.family)


@dataclass(frozen=True)
class OcrEngine:
    """A model in perception's role ``ocr``, loaded in this process."""

    name: str
    digest: str
    read: Read


def ocr_of(perception: Perception) -> OcrEngine:
    """The profile's OCR engine. Raises FoundryError where it names none, and for one that is not installed."""
    model = required(perception, "ocr")
    answer = answer_of(model)

    def read(images: UInt8[np.ndarray, "n height width 3"]) -> Sequence[Reading]:
        from evaluation.localization.runs import Reading

        rows = answer(
            pa.table({"sample_id": [str(n) for n in range(len(images))], "image": [_png(i) for i in images]})
        )
        return [
            Reading(text, tuple((x1, y1, x2, y2) for x1, y1, x2, y2 in boxes))
            for text, boxes in zip(rows["text"].to_pylist(), rows["boxes_xyxy_norm"].to_pylist(), strict=True)
        ]

    return OcrEngine(model.name, model.digest, read)


def _png(image: UInt8[np.ndarray, "h w 3"]) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()
