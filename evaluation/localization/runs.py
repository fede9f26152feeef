"""Pictures of pairs of prompts, from the same noise: the source's, the target's, and ways between; what is read in them.

Whatever puts another word into a picture (patching layers, borrowed attention maps, another prompt) is a run here, so that all
are read and compared alike.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8
from numpy import ndarray

from evaluation.box_conventions import Box
from evaluation.intervals import Interval, mean_interval
from evaluation.localization.prompts import WordPair
from evaluation.metrics.kept_background import nearer_to_first, outside, psnr_outside, ssim_outside
from evaluation.metrics.written_words import WordScores, chance_level, score_words
from training.errors import FoundryError
from training.localization.lockstep import ROWS_AT_ONCE, Prompts, Variant, draw_variants
from training.model_folders.denoiser import Denoiser, decode
from training.text_encoders import TextEncoder

Images = UInt8[ndarray, "pairs height width 3"]
SOURCE, TARGET = "source", "target"
"""Names of the runs of both prompts as they are."""
ROWS_OF_A_PAIR = 3  # source, target and one variant go through the network together at least


@dataclass(frozen=True)
class Reading:
    """What OCR read in a picture, and where."""

    text: str
    boxes: tuple[Box, ...] = ()


Read = Callable[[UInt8[ndarray, "n height width 3"]], Sequence[Reading]]
"""Readings of pictures, in their order."""


@dataclass(frozen=True)
class Drawing:
    """How pictures are drawn. ``latent_size``: height and width of latents, None for the model's own. ``rows_at_once``: pictures of
    one forward pass; pairs are drawn in parts where there are more."""

    steps: int = 16
    guidance: float = 1.0
    true_guidance: float = 1.0
    latent_size: tuple[int, int] | None = None
    rows_at_once: int = ROWS_AT_ONCE


class PairRuns:
    """Pictures and readings of one set of pairs by the name of the run; what was drawn is kept."""

    def __init__(
        self,
        denoiser: Denoiser,
        encoder: TextEncoder,
        pairs: Sequence[WordPair],
        read: Read,
        drawing: Drawing,
    ) -> None:
        self.denoiser, self.encoder, self.drawing, self.pairs = denoiser, encoder, drawing, pairs
        self.prompts = prompts_of(pairs, encoder)
        self.images: dict[str, Images] = {}
        self.readings: dict[str, Sequence[Reading]] = {}
        self._read = read

    def draw(self, variants: Sequence[Variant]) -> None:
        """Draw both prompts and all variants side by side, and read them."""
        size = max(1, self.drawing.rows_at_once // ROWS_OF_A_PAIR)
        parts = [self._drawn(first, first + size, variants) for first in range(0, len(self.pairs), size)]
        for name in parts[0]:
            if name not in self.images:
                self.add(name, np.concatenate([part[name] for part in parts]))

    def _drawn(self, first: int, stop: int, variants: Sequence[Variant]) -> dict[str, Images]:
        """Pictures of some of the pairs by the name of the run."""
        drawing = self.drawing
        drawn = draw_variants(
            self.denoiser,
            self.prompts.part(first, stop),
            variants,
            steps=drawing.steps,
            guidance=drawing.guidance,
            latent_size=drawing.latent_size,
            true_guidance=drawing.true_guidance,
            rows_at_once=drawing.rows_at_once,
        )
        latents = {SOURCE: drawn.source, TARGET: drawn.target, **drawn.variants}
        return {name: decode(self.denoiser.autoencoder, rows) for name, rows in latents.items()}

    def add(self, name: str, images: Images) -> None:
        """Pictures that were drawn elsewhere, a row a pair."""
        self.images[name], self.readings[name] = images, self._read(images)

    def read(self, name: str) -> list[str]:
        """What was read in a run's pictures."""
        return [reading.text for reading in self.readings[name]]

    def to_target(self, name: str) -> WordScores:
        """Readings against the target's words."""
        return score_words(self.read(name), [pair.target_word for pair in self.pairs])

    def to_source(self, name: str) -> WordScores:
        """Readings against the source's words."""
        return score_words(self.read(name), [pair.source_word for pair in self.pairs])

    def whole(self, name: str) -> Float[ndarray, "2 pairs"]:
        """SSIM and PSNR to the source over whole pictures, as published, PSNR in floating point."""
        rows = []
        for first, own in zip(self.images[SOURCE], self.images[name], strict=True):
            everywhere = outside(own.shape[:2], ())
            rows.append((ssim_outside(first, own, everywhere), psnr_outside(first, own, everywhere)))
        return np.array(rows).T

    def chance(self) -> Interval:
        """F1 of the target's readings with words of other pairs."""
        return chance_level(self.read(TARGET), [pair.target_word for pair in self.pairs])

    def kept(self, name: str) -> Float[ndarray, "3 pairs"]:
        """SSIM and PSNR to the source outside of the text of source, target and run, and whether the source is nearer there."""
        rows, runs = [], (SOURCE, TARGET, name)
        for row, (first, second, own) in enumerate(zip(*(self.images[run] for run in runs), strict=True)):
            boxes = [box for run in runs for box in self.readings[run][row].boxes]
            where = outside(own.shape[:2], boxes)
            rows.append(
                (
                    ssim_outside(first, own, where),
                    psnr_outside(first, own, where),
                    nearer_to_first(own, first, second, where),
                )
            )
        return np.array(rows).T


def prompts_of(pairs: Sequence[WordPair], encoder: TextEncoder) -> Prompts:
    """Pairs as a sampler takes them. Raises FoundryError for none, and naming a prompt whose end the encoder cuts."""
    if not pairs:
        raise FoundryError("text pairs: none; give at least one pair of prompts")
    sources, targets = [pair.source for pair in pairs], [pair.target for pair in pairs]
    cut = encoder.full([*sources, *targets])
    if cut:
        raise FoundryError(
            f"prompt '{cut[0]}' fills the text encoder's {encoder.max_tokens} tokens, so that its end may be lost; shorten it"
        )
    told = encoder.prompts([*sources, *targets])
    count = len(pairs)
    return Prompts(
        told.part(0, count),
        told.part(count, 2 * count),
        [pair.seed for pair in pairs],
        [(pair.source, pair.target) for pair in pairs],
    )


def mean_of_finite(values: Float[ndarray, " n"]) -> Interval:
    """Over pictures that have any pixel outside of text; nan without one."""
    finite = values[np.isfinite(values)]
    return (
        mean_interval(finite) if len(finite) else Interval(float("nan"), float("nan"), float("nan"), count=0)
    )
