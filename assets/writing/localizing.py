"""Which layers of a model write: a sweep over words of our own, or over pairs that somebody wrote."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from assets.graph.interfaces import Models, Perception, Store
from assets.writing.configs import TextLayerLocalizationConfig
from assets.writing.text_model import OcrEngine, TextModel, ocr_of
from evaluation.localization.prompts import WordPair, pairs_of_words
from evaluation.localization.sweep import Localization, SweepSettings, localize
from evaluation.localization.word_lists import words_for_pairs
from training.sampling.control import Window

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


def sweep_of_version(
    store: Store,
    models: Models,
    perception: Perception,
    version: tuple[str, str],
    config: TextLayerLocalizationConfig,
) -> tuple[Localization, SweepSettings, OcrEngine]:
    """The sweep that a run config asks for, over a stored model: what was found, how, and who read."""
    engine = ocr_of(perception)
    model = TextModel.load(store.local_folder(*version, require_gate=True), models.text_encoder)
    settings = SweepSettings(
        steps=config.num_steps,
        guidance=config.guidance,
        window=Window(config.start),
        enough=config.enough,
        candidates=config.candidates,
        largest_group=config.largest_group,
        latent_size=model.latent_size,
    )
    found = localize_model(model, engine, settings, num_pairs=config.num_pairs, template=config.template)
    return found, settings, engine
