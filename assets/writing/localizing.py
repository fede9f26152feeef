"""Which layers of a model write: a sweep over words of our own, or over pairs that somebody wrote."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from assets.graph.interfaces import Models, Perception, Store
from assets.writing.configs import TextLayerLocalizationConfig
from assets.writing.prompt_sets import PROMPT_SETS
from assets.writing.text_model import OcrEngine, TextModel, ocr_of
from assets.writing.written import stored_text_model
from evaluation.localization.prompts import WordPair
from evaluation.localization.sweep import Localization, SweepSettings, localize
from training.errors import FoundryError
from training.sampling.control import Window

if TYPE_CHECKING:
    import pyarrow as pa

    from training.recipes.text_layers import LocalizationRecipe, PromptSetName


def prompts_for(model: TextModel) -> PromptSetName:
    """The set of prompts that a model is asked unless somebody names one: what it was trained on, or plain sentences."""
    return "signs" if model.text_family == "bytes" else "simple"


def localize_model(
    model: TextModel, engine: OcrEngine, settings: SweepSettings, pairs: Sequence[WordPair]
) -> Localization:
    """Sweep over a model's text layers. Raises FoundryError as :func:`evaluation.localization.sweep.localize` does."""
    told = replace(settings, latent_size=settings.latent_size or model.latent_size)
    return localize(model.denoiser, model.encoder, pairs, engine.read, told)


@dataclass(frozen=True)
class Sweep:
    """A sweep over a stored model, with how and by whom."""

    found: Localization
    settings: SweepSettings
    engine: OcrEngine
    pairs: Sequence[WordPair]


def sweep_of_version(
    store: Store,
    models: Models,
    perception: Perception,
    version: tuple[str, str],
    recipe: LocalizationRecipe,
    config: TextLayerLocalizationConfig,
) -> Sweep:
    """The sweep that a recipe and a run config ask for."""
    engine = ocr_of(perception)
    model = stored_text_model(store, models, version)
    settings = SweepSettings(
        steps=config.num_steps,
        guidance=config.guidance,
        window=Window(config.start),
        enough=config.enough,
        candidates=config.candidates,
        largest_group=config.largest_group,
        latent_size=model.latent_size,
    )
    pairs = PROMPT_SETS[recipe.prompts].pairs(config.num_pairs)
    return Sweep(localize_model(model, engine, settings, pairs), settings, engine, pairs)


def located_layers(table: pa.Table) -> tuple[str, ...]:
    """Modules that a stored sweep chose, in order of execution. Raises FoundryError where it chose none."""
    for row in table.to_pylist():
        if row["chosen"]:
            return tuple(row["layers"])
    raise FoundryError("this table of text layers chose none; materialize text_layer_localization again")
