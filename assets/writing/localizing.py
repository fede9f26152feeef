"""Which layers of a model write: a sweep over words of our own, or over pairs that somebody wrote."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from assets.writing.text_model import OcrEngine, TextModel
from evaluation.localization.prompts import WordPair, pairs_of_words
from evaluation.localization.sweep import Localization, SweepSettings, localize
from evaluation.localization.word_lists import words_for_pairs

SIGN = 'A sign that says "{word}".'
"""The plainest prompt for text in a picture, and the paper's."""


def localize_model(
    model: TextModel,
    engine: OcrEngine,
    settings: SweepSettings,
    pairs: Sequence[WordPair] | None = None,
    *,
    num_pairs: int = 16,
    template: str = SIGN,
) -> Localization:
    """Sweep over a model's text layers. Without ``pairs`` words are frequent English ones in capitals.

    Raises FoundryError as :func:`evaluation.localization.sweep.localize` does.
    """
    chosen = pairs if pairs is not None else pairs_of_words(template, words_for_pairs(num_pairs))
    told = replace(settings, latent_size=settings.latent_size or model.latent_size)
    return localize(model.denoiser, model.encoder, chosen, engine.read, told)
