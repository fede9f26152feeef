"""What a student keeps: the paper's counts, every tensor from the place that the paper says, mistakes by name."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from training.backbones import blueprint, build_backbone, build_on_meta, count_parameters, variant
from training.distillation import build_student, student_config
from training.distillation.students import depth_by_level, fill, plan_cut
from training.errors import FoundryError
from training.recipes.feature_distillation import StudentOptions
from training.recipes.files import load_recipe

KOALA: dict[str, dict[str, Any]] = {
    "KOALA-1B": {"down": (0,), "up": (0, 2), "depth": (1, 2, 6)},
    "KOALA-700M": {"down": (0,), "up": (0, 2), "depth": (1, 2, 5), "mid": False},
}
SMALL = {"down": (0,), "up": (0, 2), "depth": (1, 2)}


def architecture(config: Any) -> dict[str, Any]:
    public = {key: value for key, value in dict(config).items() if not key.startswith("_")}
    public["transformer_layers_per_block"] = depth_by_level(config)
    return {key: list(value) if isinstance(value, tuple) else value for key, value in public.items()}


@pytest.mark.parametrize("name", KOALA)
def test_koala_s_students_are_cuts_of_sdxl(name: str) -> None:
    """Sheet, sections 1 and 2: parameters, tensors, and how many of them come from another pair."""
    teacher = blueprint("SDXL-stock")
    options = StudentOptions(**KOALA[name])
    found = architecture(student_config(teacher, options))
    theirs, rename = teacher.state_dict(), plan_cut(teacher, options).rename
    student = build_on_meta(variant(name))
    wanted = architecture(student.config)
    used = [level for level, kind in enumerate(wanted["down_block_types"]) if "CrossAttn" in kind]
    for config in (found, wanted):  # the first depth is not used, and model cards write 0
        depth = config.pop("transformer_layers_per_block")
        config["depth"] = [depth[level] for level in used]
    assert found == wanted
    own = student.state_dict()
    assert len(own) == {"KOALA-1B": 790, "KOALA-700M": 584}[name]
    assert all(own[key].shape == theirs[rename(key)].shape for key in own)
    moved = [key for key in own if rename(key) != key]
    assert len(moved) == {"KOALA-1B": 208, "KOALA-700M": 188}[name]
    numbers = sum(own[key].numel() for key in moved)
    assert numbers == {"KOALA-1B": 287_658_240, "KOALA-700M": 252_902_400}[name]
    misfits = [key for key in own if own[key].shape != theirs[key].shape]
    assert len(misfits) == 8  # all that copying by the same name would notice
    assert {key.split(".resnets.1.")[0] for key in misfits} == {"up_blocks.0", "up_blocks.1"}
    whole, kept = count_parameters("SDXL-stock"), sum(value.numel() for value in own.values())
    assert f"{1 - kept / whole:.2%}" == {"KOALA-1B": "54.77%", "KOALA-700M": "69.51%"}[name]


def test_block_removal_alone_is_a_third_smaller() -> None:
    teacher = blueprint("SDXL-stock")
    config = student_config(teacher, StudentOptions(down=(0,), up=(0, 2)))
    with torch.device("meta"):
        student = type(teacher).from_config(config)
    parameters = sum(p.numel() for p in student.parameters())
    assert parameters == pytest.approx(1.7e9, rel=0.02)
    assert 1 - parameters / count_parameters("SDXL-stock") == pytest.approx(0.33, abs=0.01)


def test_every_tensor_is_the_teacher_s_of_its_origin() -> None:
    teacher = build_backbone("SDXL-tiny", 0)
    student = build_student(teacher, StudentOptions(**SMALL))
    own, theirs = student.backbone.state_dict(), teacher.state_dict()
    assert set(student.origin) == set(own)
    for name, value in own.items():
        assert torch.equal(value, theirs[student.origin[name]]), name
        assert value.data_ptr() != theirs[student.origin[name]].data_ptr()
    # the pair that shape alone would take from the wrong place: it fits the teacher's second and third alike
    trap = "up_blocks.0.attentions.1.proj_in.weight"
    assert student.origin[trap] == "up_blocks.0.attentions.2.proj_in.weight"
    assert theirs["up_blocks.0.attentions.1.proj_in.weight"].shape == own[trap].shape
    assert not torch.equal(theirs["up_blocks.0.attentions.1.proj_in.weight"], own[trap])
    assert student.origin["up_blocks.1.resnets.1.conv1.weight"] == "up_blocks.1.resnets.2.conv1.weight"
    assert student.origin["mid_block.attentions.0.transformer_blocks.1.attn1.to_q.weight"] == (
        "mid_block.attentions.0.transformer_blocks.1.attn1.to_q.weight"
    )


def test_building_a_student_leaves_random_state_and_teacher_alone() -> None:
    teacher = build_backbone("SDXL-tiny", 0)
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    student = build_student(teacher, StudentOptions(mid=False)).backbone
    assert torch.equal(torch.rand(1), expected)
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(1)
    assert student.mid_block is None
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())


@pytest.mark.parametrize(
    ("backbone", "options", "origins"),
    [
        ("PixArt-demo-h64-d4", {"blocks": 2}, [0, 1]),
        ("PixArt-demo-h64-d4", {"blocks": (0, 3)}, [0, 3]),
        ("SD3-demo-h128-d4", {"blocks": 3}, [0, 1, 3]),  # the last block is built otherwise and stays
        ("FLUX-demo-h64-d2-s4", {"blocks": 1, "single_blocks": (1, 3)}, [0]),
    ],
)
def test_transformers_keep_blocks(backbone: str, options: dict[str, Any], origins: list[int]) -> None:
    teacher = build_backbone(backbone, 0)
    student = build_student(teacher, StudentOptions(**options))
    own, theirs = student.backbone.state_dict(), teacher.state_dict()
    assert len(student.backbone.transformer_blocks) == len(origins)
    for name, value in own.items():
        assert torch.equal(value, theirs[student.origin[name]]), name
    found = {key.split(".")[1] for key in student.origin.values() if key.startswith("transformer_blocks.")}
    assert found == {str(index) for index in origins}
    if "single_blocks" in options:
        taken = {key.split(".")[1] for key in student.origin.values() if key.startswith("single_")}
        assert taken == {"1", "3"}


@pytest.mark.parametrize(
    ("backbone", "options", "says"),
    [
        ("SDXL-tiny", {"down": (1,), "up": (0, 2)}, r"'down' is \[1\], without 0, whose input width"),
        ("SDXL-tiny", {"down": (0,), "up": (0, 1)}, r"'up' is \[0, 1\], without 2"),
        ("SDXL-tiny", {"down": (0,)}, "'up' keeps 3 pairs and 'down' 1; a decoder stage has one more"),
        ("SDXL-tiny", {"down": (0, 2), "up": (0, 1, 2)}, "the teacher has 2, numbered 0 to 1"),
        ("SDXL-tiny", {"depth": (1, 4)}, "'depth' of level 1 is 4, the teacher has 3"),
        ("SDXL-tiny", {"depth": (1, 0)}, "allowed are 1 to 3"),
        ("SDXL-tiny", {"depth": (1, 2, 3)}, "'depth' has 3 numbers, the teacher 2 levels"),
        ("SDXL-tiny", {"blocks": 2}, "'blocks' is set, but the teacher is a UNet2DConditionModel; use down"),
        (
            "PixArt-tiny",
            {"down": (0,)},
            "'down' is set, but the teacher is a PixArtTransformer2DModel; use blocks",
        ),
        ("PixArt-tiny", {"mid": False}, "has no mid block"),
        ("PixArt-tiny", {"blocks": 99}, "'blocks' is 99, the teacher has"),
        ("PixArt-tiny", {"blocks": 0}, "allowed are 1 to"),
        ("PixArt-tiny", {"single_blocks": 1}, "'single_blocks' is set"),
        ("SD3-demo-h128-d4", {"blocks": (0, 1)}, "without 3, which is built otherwise"),
    ],
)
def test_impossible_cuts_are_refused(backbone: str, options: dict[str, Any], says: str) -> None:
    with pytest.raises(FoundryError, match=says):
        build_student(build_backbone(backbone, 0), StudentOptions(**options))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"blocks": []}, r"'feature_distillation.student.blocks'.*\[\] keeps nothing"),
        ({"down": []}, r"'feature_distillation.student.down'.*at least 1"),
        ({"up": [2, 0]}, r"'feature_distillation.student.up'.*not ascending"),
    ],
)
def test_lists_that_keep_nothing_or_turn_the_order_are_refused_with_the_recipe(
    options: dict[str, Any], says: str
) -> None:
    with pytest.raises(FoundryError, match=says):
        load_recipe(
            {
                "name": "student",
                "objective": "feature_distillation",
                "parent": "teacher",
                "images_total": 8,
                "feature_distillation": {"student": options},
            }
        )


def test_a_tensor_that_cannot_be_filled_is_named() -> None:
    teacher = build_backbone("SDXL-tiny", 0)
    student = build_student(teacher, StudentOptions(**SMALL))
    whole = dict(student.origin)
    theirs = teacher.state_dict()
    lost = {name: source for name, source in whole.items() if name != "conv_in.bias"}
    with pytest.raises(FoundryError, match=r"leaves 'conv_in\.bias' unfilled"):
        fill(student.backbone, theirs, lost)
    with pytest.raises(
        FoundryError, match=r"'conv_in\.bias' would come from the teacher's 'nowhere', which it lacks"
    ):
        fill(student.backbone, theirs, {**whole, "conv_in.bias": "nowhere"})
    with pytest.raises(
        FoundryError, match=r"'conv_in\.bias' is \[8\], the teacher's 'conv_out\.bias' \[16\]"
    ):
        fill(student.backbone, theirs, {**whole, "conv_in.bias": "conv_out.bias"})
