"""Digests of hub models by family, role and settings, as they were written down once: they stand in stored rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from evaluation.perception.hub.settings import read_settings
from training.errors import FoundryError

SNAPSHOT: dict[str, dict[str, str]] = json.loads(
    Path(__file__).with_name("settings_snapshot.json").read_text(encoding="utf-8")
)
CHANGES: dict[str, dict[str, Any]] = {
    "default": {},
    "dtype": {"dtype": "bf16"},
    "prompts": {"prompts": ["see {phrase} {caption}"]},
    "side": {"max_image_side": 512},
    "margin": {"crop_margin": 0.5},
    "thresholds": {"box_threshold": 0.5, "text_threshold": 0.4, "max_boxes": 7},
    "decoding": {"decoding": {"max_new_tokens": 7}},
    "seed": {"seed": 5},
    "sampled": {"decoding": {"mode": "sample"}, "num_candidates": 3},
    "beam": {"decoding": {"mode": "beam", "num_beams": 4}},
    "vllm": {"engine": "vllm"},
    "execution": {"batch_size": 3, "gpus": 1.0, "device": "cpu"},
}


@pytest.mark.parametrize("case", SNAPSHOT["digests"])
def test_digests_are_what_they_were(case: str) -> None:
    family, role, change = case.split("/")
    settings = read_settings({"family": family, "path": "x", **CHANGES[change]}, role, "m")
    assert settings.digest(role, "w") == SNAPSHOT["digests"][case]


@pytest.mark.parametrize("case", SNAPSHOT["errors"])
def test_what_is_refused_is_refused_in_these_words(case: str) -> None:
    family, role, change = case.split("/")
    with pytest.raises(FoundryError) as refused:
        read_settings({"family": family, "path": "x", **CHANGES[change]}, role, "m")
    assert str(refused.value).startswith(SNAPSHOT["errors"][case]), "a list of families may grow at its end"
