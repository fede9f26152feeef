"""A sweep finds the layers that were planted, alone or together, and tells what carries the word."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from jaxtyping import UInt8

from evaluation.localization.pictures import localization_plot, localization_sheet
from evaluation.localization.prompts import WordPair, pairs_of_words
from evaluation.localization.rows import localization_markdown, localization_table
from evaluation.localization.runs import Reading, prompts_of
from evaluation.localization.sweep import Localization, SweepSettings, localize
from evaluation.tables.localization import TEXT_LAYER_SCORES
from training.diffusion.noise_process import Noising
from training.errors import FoundryError
from training.localization import text_layers
from training.localization.lockstep import draw_variants
from training.model_folders.autoencoders import load_autoencoder
from training.model_folders.denoiser import Denoiser, decode
from training.packaged_models import SHIPPED_AUTOENCODER
from training.recipes.text_encoder import EncoderSettings
from training.text_encoders import build_encoder

pytestmark = pytest.mark.filterwarnings("ignore:__array:DeprecationWarning")
WORDS = ["STOP", "OPEN", "QUIZ"]
SETTINGS = SweepSettings(steps=3, guidance=1.0, latent_size=(8, 8))


def planted(seeing: Sequence[int]) -> Denoiser:
    """A random MM-DiT of four blocks in which the pictures see text in some of them alone."""
    from diffusers import SD3Transformer2DModel

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        backbone: Any = SD3Transformer2DModel(
            sample_size=8, patch_size=2, in_channels=16, out_channels=16, num_layers=4, attention_head_dim=16,
            num_attention_heads=2, joint_attention_dim=128, caption_projection_dim=32, pooled_projection_dim=16,
            pos_embed_max_size=8,
        ).eval()  # fmt: skip
        for parameter in backbone.parameters():
            parameter.data.add_(0.1 * torch.randn_like(parameter))
    for number, layer in enumerate(text_layers(backbone)):
        if number not in seeing:
            for parameter in (*layer.keys.parameters(), *layer.values.parameters()):
                parameter.data.zero_()
    return Denoiser(backbone.requires_grad_(False), load_autoencoder(SHIPPED_AUTOENCODER), Noising("flow"))


class Oracle:
    """Reads the word of the run that a picture is nearest to, half a word where it is between: what OCR does with text."""

    def __init__(self, denoiser: Denoiser, pairs: Sequence[WordPair], guidance: float = 1.0) -> None:
        encoder = build_encoder(EncoderSettings(family="bytes", max_tokens=40))
        drawn = draw_variants(
            denoiser,
            prompts_of(pairs, encoder),
            [],
            steps=SETTINGS.steps,
            guidance=guidance,
            latent_size=(8, 8),
        )
        self.pairs = pairs
        self.runs = [
            decode(denoiser.autoencoder, rows).astype(float) for rows in (drawn.source, drawn.target)
        ]

    def __call__(self, images: UInt8[np.ndarray, "n h w 3"]) -> list[Reading]:
        found = []
        for row, image in enumerate(images):
            to_source, to_target = (np.abs(run[row] - image).mean() for run in self.runs)
            share = to_source / max(to_source + to_target, 1e-9)
            pair = self.pairs[row]
            cut = round(share * len(pair.target_word))
            found.append(
                Reading(pair.target_word[:cut] + pair.source_word[cut:], ((0.25, 0.25, 0.75, 0.75),))
            )
        return found


def found_by(seeing: Sequence[int], **changes: Any) -> Localization:
    denoiser = planted(seeing)
    pairs = pairs_of_words('a sign that says "{word}"', WORDS)
    encoder = build_encoder(EncoderSettings(family="bytes", max_tokens=40))
    return localize(denoiser, encoder, pairs, Oracle(denoiser, pairs), replace(SETTINGS, **changes))


@pytest.mark.parametrize("seeing", [(0,), (2,)])
def test_the_one_layer_that_sees_text_is_chosen(seeing: tuple[int, ...]) -> None:
    found = found_by(seeing)
    assert found.chosen.layers == tuple(f"transformer_blocks.{number}.attn" for number in seeing)
    assert found.chosen.to_target.value == pytest.approx(1, abs=1e-4)
    assert found.groups == ()
    assert "one layer, the fewest" in found.why
    assert 0 < found.share < 0.1


def test_a_group_is_tried_where_one_layer_is_not_enough() -> None:
    found = found_by((1, 3), enough=0.99)
    assert found.chosen.layers == ("transformer_blocks.1.attn", "transformer_blocks.3.attn")
    assert len(found.groups) == 6  # pairs of four candidates
    alone = max(row.to_target.value for row in found.layers)
    assert found.chosen.to_target.value > alone
    assert found.references["all layers"].to_target.value == pytest.approx(1, abs=1e-4)
    assert "2 layers, the fewest" in found.why


def test_rows_chart_and_sheet_say_the_same() -> None:
    found = found_by((1,))
    about = {"recipe": "planted", "kind": "backbone", "model": "planted", "model_digest": "d"}
    table = localization_table(found, SETTINGS, "an oracle", about)
    assert table.schema == TEXT_LAYER_SCORES
    rows = table.to_pylist()
    assert [row["name"] for row in rows if row["chosen"]] == ["transformer_blocks.1.attn"]
    assert [row["layer_index"] for row in rows if row["what"] == "layer"] == [0, 1, 2, 3]
    assert {row["name"] for row in rows if row["what"] == "carrier"} == {"keys", "values"}
    text = localization_markdown(table)
    assert "**1: transformer_blocks.1.attn**" in text
    assert "an oracle" in text
    assert localization_plot(found, "planted").startswith(b"\x89PNG")
    assert localization_sheet(found, tile=32).size[0] > 3 * 32


def test_prompts_that_are_cut_and_models_of_another_width_are_told() -> None:
    denoiser, encoder = planted((1,)), build_encoder(EncoderSettings(family="bytes", max_tokens=12))
    pairs = pairs_of_words('a sign that says "{word}"', WORDS)
    with pytest.raises(FoundryError, match="fills the text encoder's 12 tokens"):
        localize(denoiser, encoder, pairs, lambda images: [], SETTINGS)
    with pytest.raises(FoundryError, match="give at least one pair"):
        prompts_of([], encoder)
