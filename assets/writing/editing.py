"""Another word in a picture: the source's prompt drawn with the target's keys and values at the layers that write."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import UInt8

from assets.writing.localizing import localize_model, prompts_for
from assets.writing.prompt_sets import PROMPT_SETS
from assets.writing.text_model import OcrEngine, TextModel
from evaluation.localization.prompts import WordPair, with_word
from evaluation.localization.runs import SOURCE, PairRuns
from evaluation.localization.sweep import SweepSettings
from evaluation.metrics.written_words import shared_characters
from training.localization.lockstep import Variant

if TYPE_CHECKING:
    from PIL.Image import Image

TILE_PX = 384
PAIRS_OF_A_SWEEP = 12
EDITED = "edited"


@dataclass(frozen=True)
class EditedPicture:
    """A picture before and after, what OCR read in both, and how much else stayed."""

    pair: WordPair
    before: UInt8[np.ndarray, "h w 3"]
    after: UInt8[np.ndarray, "h w 3"]
    read_before: str
    read_after: str
    layers: tuple[str, ...]
    ssim: float
    psnr_db: float
    seconds: float
    read_by: str

    def sheet(self) -> Image:
        """Both side by side."""
        from evaluation.plots.contact_sheets import contact_sheet

        captions = [
            f"{self.pair.source_word}: read '{self.read_before}'",
            f"{self.pair.target_word}: read '{self.read_after}'",
        ]
        return contact_sheet([self.before, self.after], captions, columns=2, tile=TILE_PX)

    def row(self) -> dict[str, Any]:
        """Numbers as people and programs read them."""
        shared = shared_characters(self.read_after, self.pair.target_word)
        return {
            "from": self.pair.source_word,
            "to": self.pair.target_word,
            "read_before": self.read_before,
            "read_after": self.read_after,
            "precision": round(shared.precision, 4),
            "recall": round(shared.recall, 4),
            "ssim": round(self.ssim, 4),
            "psnr_db": round(self.psnr_db, 2),
            "layers": list(self.layers),
            "seconds": round(self.seconds, 3),
            "read_by": self.read_by,
        }


def edit_word(
    model: TextModel,
    engine: OcrEngine,
    prompt: str,
    words: tuple[str, str],
    seed: int,
    settings: SweepSettings,
    layers: Sequence[str] | None = None,
) -> EditedPicture:
    """Draw ``prompt`` and the same with its word exchanged. ``layers`` None are found by a sweep first, which takes longer.

    Raises FoundryError for a word that the prompt does not have once, layers that the model does not have, and prompts that
    do not fit.
    """
    from training.localization import layers_named, text_layers

    word, other = words
    pair = WordPair(prompt, with_word(prompt, word, other), word, other, seed)
    told = replace(settings, latent_size=settings.latent_size or model.latent_size)
    runs = PairRuns(model.denoiser, model.encoder, [pair], engine.read, told)
    known = text_layers(model.denoiser.backbone)
    if layers is None:
        whole = replace(told, window=replace(told.window, start=0.0))
        asked = PROMPT_SETS[prompts_for(model)].pairs(PAIRS_OF_A_SWEEP)
        layers = localize_model(model, engine, whole, asked).chosen.layers
    chosen = layers_named(known, layers)
    began = time.perf_counter()
    runs.draw([Variant(EDITED, chosen, window=told.window)])
    seconds = time.perf_counter() - began
    ssim, psnr, _ = runs.kept(EDITED)
    return EditedPicture(
        pair,
        runs.images[SOURCE][0],
        runs.images[EDITED][0],
        runs.read(SOURCE)[0],
        runs.read(EDITED)[0],
        tuple(layer.name for layer in chosen),
        float(ssim[0]),
        float(psnr[0]),
        seconds,
        engine.name,
    )
