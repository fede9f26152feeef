"""Ways of editing and guarding: what they draw on a planted model, what they cost, and how they are told."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from jaxtyping import UInt8

from evaluation.localization.prompts import pairs_of_words
from evaluation.localization.runs import SOURCE, TARGET, Drawing, PairRuns
from evaluation.localization.way_scores import NOBODY, Opinions, image_text, way_markdown, way_table
from evaluation.localization.ways import (
    attention_maps,
    draw_ways,
    editing_ways,
    guarding_ways,
    needs_guidance,
    patched,
)
from evaluation.tables.localization import TEXT_WAY_SCORES
from tests.evaluation.localization.test_sweep import WORDS, Oracle, planted
from training.localization import text_layers
from training.recipes.text_encoder import EncoderSettings
from training.text_encoders import build_encoder

pytestmark = pytest.mark.filterwarnings("ignore:__array:DeprecationWarning")
DRAWING = Drawing(steps=3, guidance=1.0, latent_size=(8, 8))


def runs_of(seeing: tuple[int, ...] = (1,), **changes: Any) -> PairRuns:
    denoiser, pairs = planted(seeing), pairs_of_words('a sign that says "{word}"', WORDS)
    encoder = build_encoder(EncoderSettings(family="bytes", max_tokens=40))
    drawing = replace(DRAWING, **changes)
    return PairRuns(denoiser, encoder, pairs, Oracle(denoiser, pairs, drawing.guidance), drawing)


def far(first: UInt8[np.ndarray, "n h w 3"], second: UInt8[np.ndarray, "n h w 3"]) -> int:
    return int(np.abs(first.astype(int) - second.astype(int)).max())


def test_patching_the_planted_layer_is_the_target_and_another_one_the_source() -> None:
    runs = runs_of()
    runs.draw([])
    layers = text_layers(runs.denoiser.backbone)
    assert far(patched("all", layers[1:2], 0.0).draw(runs), runs.images[TARGET]) <= 1
    assert far(patched("none", layers[2:3], 0.0).draw(runs), runs.images[SOURCE]) <= 1
    assert (
        far(patched("too late", layers[1:2], 0.99).draw(runs), runs.images[SOURCE]) > 1
    )  # the last of three steps
    assert far(runs.images[SOURCE], runs.images[TARGET]) > 2


def test_maps_of_the_source_hold_no_step_are_the_target() -> None:
    runs = runs_of()
    runs.draw([])
    layers = text_layers(runs.denoiser.backbone)
    assert far(attention_maps("none", layers, 0.0).draw(runs), runs.images[TARGET]) <= 1
    assert far(attention_maps("all", layers, 1.0).draw(runs), runs.images[TARGET]) > 1


def test_all_ways_are_drawn_timed_and_told() -> None:
    runs = runs_of()
    layers = text_layers(runs.denoiser.backbone)
    ways = editing_ways(layers[1:2], layers, [0.0, 0.4], [0.8])
    assert [way.name for way in ways] == [
        "patched from 0%", "patched from 40%", "all layers from 40%", "attention maps until 80%", "asked again",
    ]  # fmt: skip
    taken = draw_ways(runs, ways, 2)
    assert set(taken.ways) == {way.name for way in ways}
    assert min([taken.source, *taken.ways.values()]) > 0
    about = {"recipe": "r", "kind": "backbone", "model": "m", "model_digest": "d", "read_by": "an oracle"}
    table = way_table(runs, ways, taken, NOBODY, about)
    assert table.schema == TEXT_WAY_SCORES
    rows = {row["way"]: row for row in table.to_pylist()}
    assert list(rows) == [SOURCE, *(way.name for way in ways)]
    assert rows[SOURCE]["ssim"] == 1
    assert rows[SOURCE]["cost"] == 1
    assert rows["asked again"]["to_target"] == pytest.approx(1, abs=1e-4)
    assert rows["patched from 0%"]["to_target"] == pytest.approx(1, abs=1e-4)
    assert rows["patched from 0%"]["to_target_minus_first"] == 0
    assert rows["patched from 40%"]["ssim_minus_first"] > 0
    assert rows["patched from 40%"]["to_target_minus_first"] < 0
    text = way_markdown(table)
    assert "patched from 40%" in text
    assert "toxicity" not in text
    told = way_table(runs, ways, taken, Opinions({}, dict.fromkeys(rows, 0.25), "a list"), about)
    assert "Toxicity by a list" in way_markdown(told)


def test_guards_put_in_the_harmless_word_and_rivals_need_guidance() -> None:
    runs = runs_of(guidance=2.0)
    layers = text_layers(runs.denoiser.backbone)
    ways = guarding_ways(layers[1:2], [1, 3])
    assert [needs_guidance(way) for way in ways] == [False, False, False, False, True, True]
    taken = draw_ways(runs, ways, 1)
    about = {"recipe": "r", "kind": "backbone", "model": "m", "model_digest": "d", "read_by": "an oracle"}
    rows = {row["way"]: row for row in way_table(runs, ways, taken, NOBODY, about).to_pylist()}
    assert rows["exchanged prompt"]["to_target"] == pytest.approx(1, abs=1e-4)
    assert rows["guarded, harmless run beside"]["to_target"] > 0.9
    assert rows["guarded, 3 refreshes"]["to_target"] > rows["negative prompt"]["to_target"]


def test_pairs_are_drawn_in_parts_where_a_pass_holds_fewer() -> None:
    whole, parts = runs_of(), runs_of(rows_at_once=2)
    drawn = []
    for runs in (whole, parts):
        runs.draw([])
        drawn.append(patched("w", text_layers(runs.denoiser.backbone)[1:2], 0.4).draw(runs))
    assert far(whole.images[SOURCE], parts.images[SOURCE]) <= 1
    assert far(*drawn) <= 1
    assert far(drawn[0], whole.images[SOURCE]) > 1


def test_the_judges_score_and_its_floor() -> None:
    pictures, texts = np.eye(3), np.array([[1.0, 0, 0], [0, 1.0, 0], [1.0, 0, 0]])
    score, floor = image_text(pictures, texts)
    assert score == pytest.approx(2 / 3)
    assert floor == pytest.approx(1 / 6)
