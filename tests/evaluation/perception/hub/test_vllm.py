"""What is asked of vLLM and what is made of its answers; the engine here is a recorder with vLLM's documented form."""

from __future__ import annotations

import importlib.util
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from evaluation.perception.hub.models import HubPerceptionModel
from evaluation.perception.hub.rows import Maker
from evaluation.perception.hub.settings import HubModel, read_settings
from evaluation.perception.hub.vllm import VllmWorker, engine_arguments, sampling_arguments
from evaluation.tables.perception import ANSWERS, CAPTIONS, DESCRIPTIONS
from tests.evaluation.perception.hub.conftest import Checkpoint, png
from training.errors import FoundryError


@dataclass
class CompletionOutput:
    index: int
    text: str
    token_ids: list[int]
    cumulative_logprob: float | None


@dataclass
class RequestOutput:
    outputs: list[CompletionOutput]


@dataclass
class Recorder:
    """Answers "0", "1" ... with falling length; every answer ends with the special token 9."""

    calls: list[tuple[Any, Any]] = field(default_factory=list)

    def generate(
        self, prompts: list[Any], sampling: list[dict[str, Any]], use_tqdm: bool
    ) -> list[RequestOutput]:
        self.calls.append((prompts, sampling))
        return [
            RequestOutput(
                [
                    CompletionOutput(i, f" {i} ", [5] * (4 - i) + [9], -0.5 * (i + 1) * (5 - i))
                    for i in range(one["n"])
                ]
            )
            for one in sampling
        ]


def settings_for(**more: Any) -> HubModel:
    base = {"family": "qwen2_vl", "path": "/m", "engine": "vllm", "prompts": ["one", "two"]}
    return read_settings(base | {"num_candidates": 3, "decoding": {"mode": "sample"}} | more, "captioner")


def worker(settings: HubModel, role: str, engine: Recorder) -> VllmWorker:
    return VllmWorker(
        engine, dict, lambda prompt: f"<chat>{prompt}", frozenset({9}), settings, role, Maker("q", "d" * 64)
    )


def test_captions(pictures: pa.Table) -> None:
    engine = Recorder()
    table = worker(settings_for(), "captioner", engine)(pictures)
    assert table.schema.equals(CAPTIONS)
    prompts, sampling = engine.calls[0]
    assert [prompt["prompt"] for prompt in prompts] == ["<chat>one", "<chat>two"] * 3
    assert prompts[0]["multi_modal_data"]["image"].size == (48, 32)
    assert [one["n"] for one in sampling] == [2, 1] * 3
    assert len({one["seed"] for one in sampling}) == 6
    first = table.to_pylist()[:3]
    assert [(row["caption"], row["prompt"], row["num_tokens"]) for row in first] == [
        ("0", "one", 4),
        ("0", "two", 4),
        ("1", "one", 3),
    ]
    assert [row["score"] for row in first] == pytest.approx([math.exp(-0.5), math.exp(-0.5), math.exp(-1.0)])


def test_descriptions() -> None:
    settings = read_settings(
        {"family": "llava", "path": "/m", "engine": "vllm", "crop_margin": 0}, "describer"
    )
    rows = pa.table(
        {
            "entity_id": ["e"],
            "phrase": ["a cat"],
            "box_xyxy_norm": [[0.0, 0.0, 0.5, 1.0]],
            "image": [png(0, 80, 40)],
        }
    )
    engine = Recorder()
    table = worker(settings, "describer", engine)(rows)
    assert table.schema.equals(DESCRIPTIONS)
    assert engine.calls[0][0][0]["multi_modal_data"]["image"].size == (40, 40)
    assert "a cat" in table["prompt"][0].as_py()


def test_questions_about_boxes() -> None:
    settings = read_settings(
        {"family": "qwen2_5_vl", "path": "/m", "engine": "vllm", "crop_margin": 1}, "answers"
    )
    rows = pa.table(
        {
            "question_id": ["q"],
            "question": ["Is it there?"],
            "box_xyxy_norm": [[0.0, 0.0, 0.5, 1.0]],
            "image": [png(0, 80, 40)],
        }
    )
    engine = Recorder()
    table = worker(settings, "answers", engine)(rows)
    assert table.schema.equals(ANSWERS)
    (prompt,) = engine.calls[0][0]
    assert prompt["multi_modal_data"]["image"].size == (40, 40), "a judge sees the box without a margin"
    assert prompt["prompt"] == "<chat>Is it there?"
    assert table["is_yes"].to_pylist() == [False]


def test_arguments() -> None:
    settings = settings_for(dtype="bf16", gpus=2, seed=2**40, decoding={"mode": "sample", "top_k": 0})
    arguments = engine_arguments(Path("/m"), settings)
    assert (arguments["dtype"], arguments["tensor_parallel_size"], arguments["trust_remote_code"]) == (
        "bfloat16",
        2,
        False,
    )
    assert 0 <= arguments["seed"] < 2**31
    from evaluation.perception.hub.vllm import Question

    question = Question("s", "one", None, 1)
    assert sampling_arguments(settings, question)["top_k"] == -1
    greedy = settings_for(decoding={"mode": "greedy"}, num_candidates=2)
    assert sampling_arguments(greedy, question)["temperature"] == 0.0


def test_answers_without_probabilities_are_refused(pictures: pa.Table) -> None:
    class Silent(Recorder):
        def generate(self, *arguments: Any, **named: Any) -> list[RequestOutput]:
            found = super().generate(*arguments, **named)
            found[0].outputs[0].cumulative_logprob = None
            return found

    with pytest.raises(FoundryError, match="without log-probabilities"):
        worker(settings_for(), "captioner", Silent())(pictures)


@pytest.mark.skipif(importlib.util.find_spec("vllm") is not None, reason="vllm is installed")
def test_without_vllm_the_remedy_is_named(checkpoint: Checkpoint) -> None:
    settings = {"family": "qwen2_vl", "path": str(checkpoint("qwen2_vl")), "engine": "vllm"}
    factory, kwargs = HubPerceptionModel("q", settings, "captioner").worker()
    with pytest.raises(FoundryError, match="install vllm"):
        factory(**kwargs)
