"""A student cut out of its teacher: a smaller configuration of the same class, and where each of its tensors comes from.

KOALA (arXiv 2312.04005, section 3.1 and Table 1): every encoder stage keeps the first of its pairs of residual block and
transformer, every decoder stage the first and the last, deep transformers keep their lower layers. A decoder stage's
second pair therefore comes from the teacher's *third*; names decide, for shapes often fit both.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from training.errors import FoundryError
from training.recipes.feature_distillation import StudentOptions

Rename = Callable[[str], str]
_PAIR = re.compile(r"^(down|up)_blocks\.(\d+)\.(resnets|attentions)\.(\d+)\.")
_BLOCK = re.compile(r"^(transformer_blocks|single_transformer_blocks)\.(\d+)\.")


@dataclass(frozen=True)
class Student:
    """A student with its teacher's weights. ``origin`` maps the name of each of its tensors to the teacher's."""

    backbone: Any  # of the teacher's diffusers class
    origin: Mapping[str, str]


@dataclass(frozen=True)
class Cut:
    """Changes to the teacher's configuration, and the teacher's name of each of the student's modules and tensors."""

    changes: Mapping[str, Any]
    rename: Rename


def build_student(teacher: Any, options: StudentOptions) -> Student:
    """A student in float32 on the teacher's device, every tensor a copy of the teacher's.

    Raises FoundryError for parts that the teacher lacks, a part that cannot be left out, and for any tensor that the
    mapping leaves unfilled or whose shape differs, by its name.
    """
    cut = plan_cut(teacher, options)
    with torch.random.fork_rng(devices=[]):
        backbone = type(teacher).from_config({**_public(teacher.config), **cut.changes})
    origin = {name: cut.rename(name) for name in backbone.state_dict()}
    fill(backbone, teacher.state_dict(), origin)
    return Student(backbone.to(next(teacher.parameters()).device), origin)


def student_config(teacher: Any, options: StudentOptions) -> dict[str, Any]:
    """The student's diffusers configuration. Raises FoundryError as :func:`build_student` does for impossible cuts."""
    return {**_public(teacher.config), **plan_cut(teacher, options).changes}


def fill(backbone: Any, teacher: Mapping[str, torch.Tensor], origin: Mapping[str, str]) -> None:
    """Copy each tensor from the teacher's of its origin. Raises FoundryError naming the first that cannot be filled."""
    own = backbone.state_dict()
    for name, source in origin.items():
        if source not in teacher:
            raise FoundryError(f"student: '{name}' would come from the teacher's '{source}', which it lacks")
        if own[name].shape != teacher[source].shape:
            raise FoundryError(
                f"student: '{name}' is {list(own[name].shape)}, the teacher's '{source}' {list(teacher[source].shape)}; "
                "keep the parts at the ends of a stage, whose widths differ from those between"
            )
    unfilled = sorted(set(own) - set(origin))
    if unfilled:
        raise FoundryError(f"student: the mapping leaves '{unfilled[0]}' unfilled")
    backbone.load_state_dict({name: teacher[source].detach().clone() for name, source in origin.items()})


def plan_cut(teacher: Any, options: StudentOptions) -> Cut:
    """What the options change of a teacher. Raises FoundryError for options of another family or impossible ones."""
    is_unet = hasattr(teacher, "down_blocks")
    foreign = ("blocks", "single_blocks") if is_unet else ("down", "up", "depth")
    for name in foreign:
        if getattr(options, name) is not None:
            raise FoundryError(
                f"student: '{name}' is set, but the teacher is a {type(teacher).__name__}; "
                f"use {'down, up, depth and mid' if is_unet else 'blocks'}"
            )
    if not is_unet and not options.mid:
        raise FoundryError(
            f"student: 'mid' is false, but a {type(teacher).__name__} has no mid block; leave it out"
        )
    return _cut_unet(teacher, options) if is_unet else _cut_transformer(teacher, options)


def _cut_unet(teacher: Any, options: StudentOptions) -> Cut:
    config = teacher.config
    layers = config["layers_per_block"]
    if not isinstance(layers, int):
        raise FoundryError(
            f"student: the teacher has layers_per_block {layers}; one number for all stages is needed"
        )
    down = _kept("down", options.down, layers)
    up = _kept("up", options.up, layers + 1)
    if len(up) != len(down) + 1:
        raise FoundryError(
            f"student: 'up' keeps {len(up)} pairs and 'down' {len(down)}; a decoder stage has one more than an encoder stage"
        )
    for name, kept, ends in (("down", down, [0]), ("up", up, [0, layers])):
        missing = [end for end in ends if end not in kept]
        if missing:
            raise FoundryError(
                f"student: '{name}' is {list(kept)}, without {missing[0]}, whose input width no other pair has; keep it"
            )
    changes: dict[str, Any] = {"layers_per_block": len(down)}
    if options.depth is not None:
        changes["transformer_layers_per_block"] = _depth(teacher, options.depth)
    if not options.mid:
        changes["mid_block_type"] = None
    sources = {"down": down, "up": up}

    def rename(name: str) -> str:
        found = _PAIR.match(f"{name}.")
        if found is None:
            return name
        side, stage, kind, index = found.groups()
        head = f"{side}_blocks.{stage}.{kind}."
        return f"{head}{sources[side][int(index)]}{name[len(head) + len(index) :]}"

    return Cut(changes, rename)


def depth_by_level(config: Any) -> list[int]:
    """Transformer layers at each level of a UNet."""
    depth, levels = config["transformer_layers_per_block"], len(config["down_block_types"])
    return [depth] * levels if isinstance(depth, int) else list(depth)


def _depth(teacher: Any, wanted: Sequence[int]) -> list[int]:
    own = depth_by_level(teacher.config)
    if teacher.config.get("reverse_transformer_layers_per_block") is not None:
        raise FoundryError(
            "student: the teacher has depths of its own in the decoder; 'depth' cannot say them, leave it out"
        )
    if len(wanted) != len(own):
        raise FoundryError(
            f"student: 'depth' has {len(wanted)} numbers, the teacher {len(own)} levels: {own}"
        )
    has_layers = ["CrossAttn" in kind for kind in teacher.config["down_block_types"]]
    for level, (kept, whole, used) in enumerate(zip(wanted, own, has_layers, strict=True)):
        if used and not 1 <= kept <= whole:
            raise FoundryError(
                f"student: 'depth' of level {level} is {kept}, the teacher has {whole} layers there; allowed are 1 to {whole}"
            )
    return [kept if used else whole for kept, whole, used in zip(wanted, own, has_layers, strict=True)]


def _cut_transformer(teacher: Any, options: StudentOptions) -> Cut:
    stacks = {"transformer_blocks": ("blocks", "num_layers")}
    if hasattr(teacher, "single_transformer_blocks"):
        stacks["single_transformer_blocks"] = ("single_blocks", "num_single_layers")
    elif options.single_blocks is not None:
        raise FoundryError(
            f"student: 'single_blocks' is set, but a {type(teacher).__name__} has none; leave it out"
        )
    kept, changes = {}, {}
    for stack, (name, key) in stacks.items():
        chosen = _blocks(
            name, getattr(options, name), len(getattr(teacher, stack)), _ends_apart(teacher, stack)
        )
        kept[stack] = chosen
        changes[key] = len(chosen)

    def rename(name: str) -> str:
        found = _BLOCK.match(f"{name}.")
        if found is None:
            return name
        stack, index = found.groups()
        return f"{stack}.{kept[stack][int(index)]}{name[len(stack) + 1 + len(index) :]}"

    return Cut(changes, rename)


def _ends_apart(teacher: Any, stack: str) -> bool:
    """Whether the last block is built otherwise than the rest: SD3's last one does not carry the text on."""
    return bool(getattr(getattr(teacher, stack)[-1], "context_pre_only", False))


def _blocks(name: str, wanted: Sequence[int] | int | None, whole: int, ends_apart: bool) -> list[int]:
    if wanted is None:
        return list(range(whole))
    if isinstance(wanted, int):
        if not 1 <= wanted <= whole:
            raise FoundryError(
                f"student: '{name}' is {wanted}, the teacher has {whole}; allowed are 1 to {whole}"
            )
        return [*range(wanted - 1), whole - 1] if ends_apart else list(range(wanted))
    kept = _kept(name, wanted, whole)
    if ends_apart and whole - 1 not in kept:
        raise FoundryError(
            f"student: '{name}' is {kept}, without {whole - 1}, which is built otherwise than those before; keep it"
        )
    return kept


def _kept(name: str, wanted: Sequence[int] | None, whole: int) -> list[int]:
    kept = list(range(whole)) if wanted is None else list(wanted)
    if kept[-1] >= whole:
        raise FoundryError(f"student: '{name}' is {kept}, the teacher has {whole}, numbered 0 to {whole - 1}")
    return kept


def _public(config: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if not key.startswith("_")}
