"""Settings: what is refused, and what makes another model of it."""

from __future__ import annotations

from typing import Any

import pytest

from evaluation.perception.hub.families import FAMILIES
from evaluation.perception.hub.settings import read_settings
from training.errors import FoundryError

BASE: dict[str, Any] = {"family": "qwen2_vl", "path": "/models/q"}
SAMPLE = {"mode": "sample"}


def test_every_family_has_prompts_for_each_of_its_roles() -> None:
    for name, family in FAMILIES.items():
        for role in family.roles:
            assert read_settings({"family": name, "path": "x"}, role).prompts_for(role)


@pytest.mark.parametrize(
    ("change", "role", "message"),
    [
        ({"familly": "x"}, "captioner", "unknown key 'familly'; did you mean 'family'"),
        ({"decoding": {"temprature": 1}}, "captioner", "decoding.temprature.*did you mean 'temperature'"),
        ({"family": "gpt9"}, "captioner", "'family' is 'gpt9'"),
        ({}, "detector", "cannot take it .*Families that can: florence2, grounding_dino, owlv2"),
        ({"num_candidates": 5}, "captioner", "greedy decoding knows one answer a prompt.*'sample' or 'beam'"),
        (
            {"num_candidates": 5, "decoding": {"mode": "beam", "num_beams": 3}},
            "captioner",
            "less than the 5 candidates",
        ),
        ({"decoding": {"min_new_tokens": 9, "max_new_tokens": 4}}, "captioner", "more than 'max_new_tokens'"),
        ({"decoding": {"top_p": 0}}, "captioner", "top_p.*more than 0"),
        ({"device": "tpu"}, "captioner", "'device' is 'tpu'"),
        ({"prompts": ["a", "b"]}, "describer", "takes one"),
        ({"prompts": []}, "captioner", "prompts"),
        ({"family": "llm", "prompts": ["list it"]}, "phrases", "must hold {caption}"),
        ({"family": "llm", "decoding": SAMPLE}, "phrases", "decodes greedily only"),
        ({"family": "blip2", "engine": "vllm"}, "captioner", "needs a family with a chat template"),
        ({"engine": "vllm", "decoding": {"mode": "beam"}}, "captioner", "vllm does not offer"),
    ],
)
def test_refuses_with_the_remedy(change: dict[str, Any], role: str, message: str) -> None:
    with pytest.raises(FoundryError, match=message):
        read_settings(BASE | change, role)


def test_candidates_are_dealt_over_prompts() -> None:
    settings = read_settings(
        BASE | {"prompts": ["a", "b", "c"], "num_candidates": 5, "decoding": SAMPLE}, "captioner"
    )
    assert settings.candidates_per_prompt("captioner") == [2, 2, 1]


@pytest.mark.parametrize(
    ("change", "role", "changes"),
    [
        ({"seed": 1}, "captioner", True),
        ({"prompts": ["what?"]}, "captioner", True),
        ({"dtype": "bf16"}, "captioner", True),
        ({"max_image_side": 512}, "captioner", True),
        ({"decoding": {"max_new_tokens": 7}}, "captioner", True),
        ({"engine": "vllm"}, "captioner", True),
        ({"decoding": {"temperature": 0.5}}, "captioner", False),  # takes no part in greedy decoding
        ({"batch_size": 99, "device": "cpu", "actors": 4, "gpus": 1, "threads": 2, "cpus": 2}, "captioner", False),
        ({"path": "/elsewhere", "revision": "v2"}, "captioner", False),  # the weights' digest stands for them
        ({"crop_margin": 0.5}, "captioner", False),
        ({"crop_margin": 0.5}, "describer", True),
        ({"family": "owlv2", "box_threshold": 0.5}, "detector", True),
        ({"family": "owlv2", "text_threshold": 0.5}, "detector", False),
        ({"family": "owlv2", "decoding": {"max_new_tokens": 7}}, "detector", False),
        ({"family": "grounding_dino", "text_threshold": 0.5}, "detector", True),
    ],
)  # fmt: skip
def test_digest_covers_what_changes_the_answer_and_nothing_else(
    change: dict[str, Any], role: str, changes: bool
) -> None:
    before = read_settings(BASE | {"family": change.get("family", "qwen2_vl")}, role).digest(role, "w")
    after = read_settings(BASE | change, role).digest(role, "w")
    assert (before != after) is changes


def test_digest_covers_weights_and_role() -> None:
    settings = read_settings(BASE, "captioner")
    digests = {
        settings.digest(role, weights) for role in ("captioner", "describer") for weights in ("w", "v")
    }
    assert len(digests) == 4
