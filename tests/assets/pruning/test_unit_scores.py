"""Scores of units on their way: which samples they are learned from, and how a log hears of it."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from assets.pages import progress_log as relaying
from assets.pages.progress_log import relayed
from assets.pruning.unit_scores import progress_line, prompts_needed
from training.recipes.pruned_models import ScoringRecipe

TOLD = {"update": 3, "updates": 8, "loss": 0.5, "distance": 0.25, "penalties": {}, "seconds": 1.0}


def test_progress_reaches_the_log_while_the_work_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relaying, "SECONDS_BETWEEN_LINES", 0.01)
    path, lines = tmp_path / "progress.json", list[str]()
    assert progress_line(path) == ""
    with relayed(lambda: progress_line(path), lines.append):
        path.with_suffix(".new").write_text(json.dumps({**TOLD, "seconds_left": 12.4}))
        path.with_suffix(".new").rename(path)
        deadline = time.monotonic() + 10
        while not lines and time.monotonic() < deadline:
            time.sleep(0.01)
    assert lines == ["update 3 of 8, loss 0.5000, distance 0.2500, 12 s left"]


@pytest.mark.parametrize(("method", "count"), [("ecodiff", 5), ("block_removal", 3), ("magnitude", 1)])
def test_only_as_many_prompts_as_a_method_draws(method: str, count: int) -> None:
    recipe = ScoringRecipe.model_validate(
        {
            "name": "a",
            "parent": "b",
            "method": method,
            "pruning": {"prompts": 5, "block_removal": {"prompts": 3}},
        }
    )
    assert prompts_needed(recipe) == count
