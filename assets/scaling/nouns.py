"""How much a run's data say: pairs of a training image and a noun of the captions it may be shown (I-N)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from assets.encodings.text import text_id
from training.recipes.dataset import CaptionMix

if TYPE_CHECKING:
    from training.recipes.specification import Recipe
    from training.shards import TrainingShards


def training_rows(shards: TrainingShards, recipe: Recipe) -> np.ndarray:
    """Rows of the samples that a recipe trains on."""
    selection = recipe.dataset
    return shards.select(
        selection.splits,
        selection.max_samples,
        raw=selection.filter == "raw",
        max_concepts=selection.max_concepts,
    )


def image_noun_pairs(shards: TrainingShards, recipe: Recipe, nouns: pa.Table) -> int:
    """I-N as the scalability paper counts it (Table 3): nouns unique within one image's captions, summed over images.

    Captions are those that the recipe's mix may show. ``nouns`` has text_id and nouns.
    """
    said = dict(zip(nouns["text_id"].to_pylist(), nouns["nouns"].to_pylist(), strict=True))
    captions = shards.samples["captions"].take(pa.array(training_rows(shards, recipe))).to_pylist()
    mix = recipe.dataset.captions
    return sum(
        len({noun for text in shown_captions(texts, mix) for noun in said.get(text_id(text)) or ()})
        for texts in captions
    )


def shown_captions(texts: list[str], mix: CaptionMix) -> list[str]:
    """Those of a sample's captions (the alt-text first) that a mix ever draws."""
    generated = texts[1 : 1 + mix.max_generated]
    if not generated or mix.original_probability == 1.0:
        return texts[:1]
    return generated if mix.original_probability == 0.0 else [texts[0], *generated]
