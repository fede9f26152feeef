"""COCO-MIG's prompts: the published form is read, ours are of the same kind."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evaluation.benchmarks.coco_mig import COLOR_RANGES
from evaluation.benchmarks.mig_prompts import SMALLEST_SIDE, read_prompts, sample_prompts, write_prompts
from training.errors import FoundryError
from training.layout.boxes import BoxNorm

PUBLISHED = {
    "17": {
        "caption": "a photo of a red dog and a blue traffic light ",
        "segment": [
            {"bbox": [0.1, 0.2, 0.5, 0.9], "label": "a red dog"},
            {"bbox": [0.6, 0, 1, 0.5], "label": "a blue traffic light"},
        ],
        "image_id": "391895",
    }
}


def pictures(count: int, seed: int = 0) -> dict[str, list[tuple[str, BoxNorm]]]:
    random = np.random.default_rng(seed)
    found: dict[str, list[tuple[str, BoxNorm]]] = {}
    for number in range(count):
        own: list[tuple[str, BoxNorm]] = []
        for _ in range(1 + number % 8):
            left, top = (float(value) for value in random.uniform(0, 0.7, 2))
            width, height = (float(value) for value in random.uniform(0.1, 0.3, 2))
            own.append((str(random.choice(["cup", "dog", "boat"])), (left, top, left + width, top + height)))
        found[f"p{number:04d}"] = own
    return found


def test_a_published_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "mig_bench.json"
    path.write_text(json.dumps(PUBLISHED))
    (prompt,) = read_prompts(path)
    assert prompt.prompt_id == "17"
    assert [(own.color, own.name) for own in prompt.instances] == [("red", "dog"), ("blue", "traffic light")]
    assert prompt.instances[1].box_xyxy_norm == (0.6, 0.0, 1.0, 0.5)
    assert prompt.caption == "a photo of a red dog and a blue traffic light"
    assert [box.phrase for box in prompt.sample().boxes] == ["a red dog", "a blue traffic light"]
    write_prompts([prompt], tmp_path / "again.json")
    assert read_prompts(tmp_path / "again.json") == [prompt]


def test_prompts_are_sampled_as_published() -> None:
    named = pictures(400)
    named["people"] = [("person", (0.0, 0.0, 0.5, 0.5)), ("dog", (0.5, 0.5, 1.0, 1.0))]
    prompts = sample_prompts(named, 5, seed=3)
    assert Counter(len(prompt.instances) for prompt in prompts) == dict.fromkeys(range(2, 7), 5)
    assert [prompt.prompt_id for prompt in prompts] == [str(number) for number in range(25)]
    assert len({prompt.caption for prompt in prompts}) == 25
    assert {own.color for prompt in prompts for own in prompt.instances} == set(COLOR_RANGES)
    for prompt in prompts:
        for own in prompt.instances:
            left, top, right, bottom = own.box_xyxy_norm
            assert min(right - left, bottom - top) >= SMALLEST_SIDE
            assert (own.name, own.box_xyxy_norm) in named[prompt.image_id]
    assert sample_prompts(named, 5, seed=3) == prompts
    assert sample_prompts(named, 5, seed=4) != prompts
    with pytest.raises(FoundryError, match="pictures with 2 instances .* ask for"):
        sample_prompts(pictures(20), 5)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ([], "must map ids to prompts"),
        ({"1": {}}, "'1': 'segment' is None"),
        (
            {"1": {"segment": [{"label": "a mauve dog", "bbox": [0, 0, 1, 1]}]}},
            "instance 0: label is 'a mauve dog'",
        ),
        ({"1": {"segment": [{"label": "a red dog", "bbox": [0, 0, 1]}]}}, "3 values found"),
        (
            {"1": {"segment": [{"label": "a red dog", "bbox": [10, 20, 300, 400]}]}},
            "stands over the picture's edge",
        ),
        ({"1": {"segment": [{"label": "a red dog", "bbox": "x"}]}}, "bbox is 'x'"),
    ],
)
def test_other_files_are_refused(wrong: Any, told: str, tmp_path: Path) -> None:
    path = tmp_path / "wrong.json"
    path.write_text(json.dumps(wrong))
    with pytest.raises(FoundryError, match=told):
        read_prompts(path)


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(FoundryError, match="cannot be read"):
        read_prompts(tmp_path / "nowhere.json")
    (tmp_path / "text.json").write_text("{")
    with pytest.raises(FoundryError, match="is no JSON"):
        read_prompts(tmp_path / "text.json")
