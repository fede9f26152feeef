"""Questions about boxes by tiny checkpoints, against transformers' own generation; checkpoints that are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch

from evaluation.benchmarks.layoutsam_eval import Judge, ask, scores
from evaluation.perception.hub.captioning import make_ask, prepare
from evaluation.perception.hub.images import crop, open_image
from evaluation.perception.hub.loading import load
from evaluation.perception.hub.models import HubPerceptionModel
from evaluation.perception.hub.settings import read_settings
from evaluation.perception.questions import is_yes, spatial_question
from evaluation.tables.perception import ANSWERS
from tests.evaluation.benchmarks.makers import box, sample
from tests.evaluation.perception.hub.conftest import Checkpoint, png
from training.errors import FoundryError

JUDGES = ["qwen2_5_vl", "qwen2_vl", "smolvlm", "llava", "blip2", "minicpm_v"]
SHORT = {"mode": "greedy", "max_new_tokens": 6}
PLACES = [[0.0, 0.0, 0.5, 0.5], [0.25, 0.25, 1.0, 1.0], [0.0, 0.0, 1.0, 1.0]]


def _settings(name: str, folder: Path, **more: Any) -> dict[str, Any]:
    return {"family": name, "path": str(folder), "device": "cpu", "decoding": SHORT} | more


def _answers(settings: dict[str, Any], rows: pa.Table) -> pa.Table:
    factory, kwargs = HubPerceptionModel("tiny", settings, "answers").worker()
    return factory(**kwargs)(rows)


@pytest.fixture(scope="module")
def questions() -> pa.Table:
    """Three questions about two pictures."""
    asked = [spatial_question(phrase) for phrase in ("a cup", "a longer name of a thing", "a cup")]
    images = [png(1, 60, 48), png(1, 60, 48), png(2, 40, 40)]
    return pa.table(
        {"question_id": ["q1", "q2", "q3"], "question": asked, "box_xyxy_norm": PLACES, "image": images}
    )


@pytest.mark.parametrize("name", JUDGES)
def test_answers_are_those_of_transformers_about_the_crop(
    name: str, checkpoint: Checkpoint, questions: pa.Table
) -> None:
    settings = _settings(name, checkpoint(name))
    found = _answers(settings, questions)
    assert found.schema.equals(ANSWERS)
    assert found["question_id"].to_pylist() == ["q1", "q2", "q3"]
    assert found.equals(_answers(settings | {"batch_size": 1}, questions)), "the batch changes nothing"
    assert found["is_yes"].to_pylist() == [is_yes(text) for text in found["answer"].to_pylist()]
    read = read_settings(settings, "answers")
    loaded = load(checkpoint(name), read)
    part = crop(open_image(questions["image"][1].as_py(), "q2", 1024), PLACES[1], 0.0)
    assert part.size == (45, 36)
    prompt = questions["question"][1].as_py()
    prompt = f"Question: {prompt} Answer:" if name == "blip2" else prompt
    inputs = prepare(loaded, [make_ask(loaded, name, "q2", prompt, part, 1).text], [part])
    with torch.inference_mode():
        plain = loaded.model.generate(
            **inputs, do_sample=False, num_beams=1, max_new_tokens=6, max_length=None, early_stopping=None,
            length_penalty=None,
        )  # fmt: skip
    start = 1 if loaded.is_encoder_decoder else inputs["input_ids"].shape[1]
    expected = loaded.tokenizer.decode(plain[0, start:], skip_special_tokens=True).strip()
    assert found["answer"][1].as_py() == expected


def test_the_protocol_runs_through_a_judge_by_path(checkpoint: Checkpoint) -> None:
    model = HubPerceptionModel("tiny", _settings("qwen2_5_vl", checkpoint("qwen2_5_vl")), "answers")
    factory, kwargs = model.worker()
    judge = Judge(model.name, model.digest, factory(**kwargs))
    samples = [sample("a", box("a cup"), box("a hat")), sample("b", box("a dog"))]
    answers = ask(samples, {"a": png(1, 48, 48), "b": png(2, 64, 40)}, judge)
    assert answers.num_rows == 3
    assert set(answers["judge_digest"].to_pylist()) == {model.digest}
    assert len(scores(answers).to_pylist()) == 4


def test_settings_that_change_answers_change_who_the_judge_is() -> None:
    def digest(**more: Any) -> str:
        settings = _settings("qwen2_5_vl", Path("x"), **more)
        return read_settings(settings, "answers").digest("answers", "w")

    plain = digest()
    assert digest(batch_size=3, gpus=1.0) == plain
    assert digest(crop_margin=0.5, seed=4, num_candidates=1) == plain, "these take no part"
    assert (
        len({plain, digest(dtype="bf16"), digest(prompts=["Look. {question}"]), digest(max_image_side=512)})
        == 4
    )
    with pytest.raises(FoundryError, match="for role 'answers' it must hold {question}"):
        digest(prompts=["Is it?"])
    with pytest.raises(FoundryError, match="role 'answers' decodes greedily only"):
        digest(decoding={"mode": "sample"})
    with pytest.raises(
        FoundryError, match=r"'florence2' cannot take it .*Families that can: blip2, llava, minicpm_v, qwen"
    ):
        read_settings({"family": "florence2", "path": "x"}, "answers")


def test_the_benchmarks_own_judge_is_refused_with_what_to_use(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "minicpmv", "version": 2.6}))
    model = HubPerceptionModel("mini", _settings("minicpm_v", tmp_path), "answers")
    with pytest.raises(
        FoundryError, match=r"no class in transformers .* Use MiniCPM-V-4.6 or 4.7, or Qwen2.5-VL"
    ):
        _ = model.digest
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "qwen2_5_vl"}))
    with pytest.raises(FoundryError, match="Set family to 'qwen2_5_vl'"):
        _ = HubPerceptionModel("mini", _settings("minicpm_v", tmp_path), "answers").digest
