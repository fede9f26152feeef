"""Image-noun pairs, counted over the captions that a mix may really show."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from assets.encodings.text import text_id
from assets.scaling.nouns import image_noun_pairs, shown_captions
from training.randomness import caption_index, sample_keys
from training.recipes.dataset import CaptionMix
from training.recipes.files import load_recipe
from training.shards import TrainingShards, write_training_shards

CAPTIONS = [["a dog", "a dog and a cat", "a cat"], ["a crown"], ["", "a dog on grass"]]
NOUNS = {"a dog": ["dog"], "a dog and a cat": ["dog", "cat"], "a cat": ["cat"], "a crown": ["crown"]}


@pytest.mark.parametrize("name", ["original", "recaptioned", "paper", "top-1"])
def test_captions_counted_are_those_that_are_drawn(name: str) -> None:
    mix = CaptionMix.model_validate(name)
    for texts in CAPTIONS:
        keys = np.repeat(sample_keys(["one"]), 1)
        drawn = {
            texts[
                int(
                    caption_index(
                        0, epoch, keys, np.array([len(texts)]), mix.original_probability, mix.max_generated
                    )[0]
                )
            ]
            for epoch in range(60)
        }
        assert drawn == set(shown_captions(texts, mix))


@pytest.mark.parametrize(("mix", "pairs"), [("original", 2), ("recaptioned", 5), ("paper", 5)])
def test_a_noun_counts_once_for_an_image(tmp_path: Path, mix: str, pairs: int) -> None:
    texts = ["", *dict.fromkeys(text for texts in CAPTIONS for text in texts if text)]
    index = [texts.index(text) for row in CAPTIONS for text in row]
    write_training_shards(
        tmp_path / "shards",
        pa.table({"sample_id": ["a", "b", "c"], "split": ["train"] * 3, "captions": CAPTIONS}),
        np.zeros((3, 4, 2, 2), np.float16), np.cumsum([0, *map(len, CAPTIONS)]), np.array(index),
        np.zeros((len(texts), 6), np.float16), np.ones(len(texts), np.int32), np.zeros((len(texts), 6), np.float16),
        null_text_index=0, autoencoder_digest="a" * 64, text_encoder_digest="b" * 64,
    )  # fmt: skip
    said = {**NOUNS, "a dog on grass": ["dog", "grass"], "": []}
    nouns = pa.table({"text_id": [text_id(text) for text in said], "nouns": list(said.values())})
    values = {"name": "t", "backbone": "PixArt-tiny", "images_total": 8, "learning_rate": 0.001}
    recipe = load_recipe({**values, "dataset": {"captions": mix}})
    assert image_noun_pairs(TrainingShards.open(tmp_path / "shards"), recipe, nouns) == pairs
