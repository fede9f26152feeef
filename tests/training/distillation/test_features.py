"""Which features are paired: the paper's counts and pairings, and only these modules hooked."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from tests.training.distillation.test_students import KOALA, SMALL
from training.backbones import blueprint, build_backbone, build_on_meta, variant
from training.distillation import FeatureTaps, build_student, feature_pairs, stages_of
from training.distillation.features import paired_layers
from training.errors import FoundryError
from training.recipes.feature_distillation import FeatureOptions, StudentOptions


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("KOALA-1B", {"DW-2": 2, "DW-3": 6, "Mid": 6, "UP-1": 12, "UP-2": 4}),
        ("KOALA-700M", {"DW-2": 2, "DW-3": 5, "UP-1": 10, "UP-2": 4}),
    ],
)
def test_koala_s_pairs(name: str, wanted: dict[str, int]) -> None:
    """Sheet, section 3: self-attention pairs by stage, and stage outputs where there is no attention."""
    teacher, student = build_on_meta(variant("SDXL-stock")), build_on_meta(variant(name))
    pairs = feature_pairs(student, teacher, StudentOptions(**KOALA[name]))
    attention = [pair for pair in pairs if pair.kind == "SA"]
    assert Counter(pair.stage for pair in attention) == wanted
    outputs = {pair.stage: (pair.student, pair.teacher) for pair in pairs if pair.kind == "LF"}
    assert outputs == {
        "DW-1": ("down_blocks.0", "down_blocks.0"),
        "UP-3": ("up_blocks.2", "up_blocks.2"),
    }
    places = {pair.student: pair.teacher for pair in attention}
    layer = "up_blocks.0.attentions.{}.transformer_blocks.4.attn1"
    assert places[layer.format(1)] == layer.format(2)
    assert places[layer.format(0)] == layer.format(0)


@pytest.mark.parametrize(
    ("pairing", "kept", "whole", "printed"),
    [
        ("bottom", 6, 10, [1, 2, 3, 4, 5, 6]),
        ("interleave", 6, 10, [1, 3, 5, 7, 9, 10]),
        ("interleave", 5, 10, [1, 3, 5, 7, 9]),
        ("interleave", 2, 3, [1, 3]),
        ("interleave", 3, 3, [1, 2, 3]),
        ("interleave", 8, 10, [1, 3, 5, 6, 7, 8, 9, 10]),
        ("up", 5, 10, [6, 7, 8, 9, 10]),
        ("up", 2, 2, [1, 2]),
    ],
)
def test_pairings(pairing: Any, kept: int, whole: int, printed: list[int]) -> None:
    assert [layer + 1 for layer in paired_layers(pairing, kept, whole)] == printed


def test_a_pairing_moves_layers_and_nothing_else() -> None:
    teacher = build_backbone("SDXL-tiny", 0)
    kept = StudentOptions(**SMALL)
    student = build_student(teacher, kept).backbone
    wanted = (FeatureOptions(kind="SA", pairing="up"), FeatureOptions(kind="Res", pairing="up"))
    places = {pair.student: pair.teacher for pair in feature_pairs(student, teacher, kept, wanted)}
    assert places["down_blocks.1.attentions.0.transformer_blocks.0.attn1"] == (
        "down_blocks.1.attentions.0.transformer_blocks.1.attn1"
    )
    assert places["up_blocks.0.attentions.1.transformer_blocks.1.attn1"] == (
        "up_blocks.0.attentions.2.transformer_blocks.2.attn1"
    )
    assert places["up_blocks.1.resnets.1"] == "up_blocks.1.resnets.2"


@pytest.mark.parametrize(
    ("kind", "stages", "count"),
    [
        ("CA", None, 8),
        ("FFN", ("UP-1",), 4),
        ("Res", ("DW-1",), 1),
        ("Res", None, 8),
        ("LF", None, 5),
        ("LF", ("UP-last",), 1),
        ("SA", ("Mid",), 2),
    ],
)
def test_kinds_and_stages(kind: Any, stages: tuple[str, ...] | None, count: int) -> None:
    teacher = build_backbone("SDXL-tiny", 0)
    kept = StudentOptions(**SMALL)
    student = build_student(teacher, kept).backbone
    assert stages_of(student) == ["DW-1", "DW-2", "Mid", "UP-1", "UP-2"]
    pairs = feature_pairs(student, teacher, kept, (FeatureOptions(kind=kind, stages=stages),) * 2)
    assert len(pairs) == count  # asked for twice, paired once


def test_a_transformer_is_one_stage() -> None:
    teacher = blueprint("PixArt-demo-h64-d4")
    kept = StudentOptions(blocks=2)
    with torch.device("meta"):
        student = type(teacher).from_config({**teacher.config, "num_layers": 2})
    pairs = feature_pairs(student, teacher, kept)
    assert [(pair.kind, pair.stage, pair.teacher) for pair in pairs] == [
        ("SA", "Blocks", f"transformer_blocks.{layer}.attn1") for layer in range(2)
    ]
    upper = feature_pairs(student, teacher, kept, (FeatureOptions(kind="LF", pairing="up"),))
    assert [pair.teacher for pair in upper] == ["transformer_blocks.2", "transformer_blocks.3"]


def test_what_is_not_there_is_named() -> None:
    teacher = build_backbone("SDXL-tiny", 0)
    with pytest.raises(FoundryError, match=r"stage 'UP-9' is not one of the student's: DW-1, DW-2, Mid"):
        feature_pairs(teacher, teacher, StudentOptions(), (FeatureOptions(kind="SA", stages=("UP-9",)),))
    with pytest.raises(FoundryError, match=r"has no SA in DW-1; name another kind or other stages"):
        feature_pairs(teacher, teacher, StudentOptions(), (FeatureOptions(kind="SA", stages=("DW-1",)),))


class Doubling(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner, self.other = nn.Linear(2, 2), nn.Linear(2, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = checkpoint(self.inner, x, use_reentrant=False)
        return self.other(found)


def test_taps_keep_only_what_is_asked_and_only_while_recording() -> None:
    module = Doubling()
    taps = FeatureTaps(module, ["inner"])
    module(torch.ones(1, 2))
    with taps.recording() as found:
        output = module(torch.ones(1, 2, requires_grad=True))
    assert list(found) == ["inner"]
    first = found["inner"]
    (output.sum() + first.square().sum()).backward()  # the recomputation runs the hook again
    assert found["inner"] is first
    assert module.inner.weight.grad is not None
    hooked = [name for name, part in module.named_modules() if part._forward_hooks]
    assert hooked == ["inner"]
