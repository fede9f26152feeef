"""Prompts of COCO-MIG: published files, and prompts of the same kind from anybody's boxes.

A published file maps a prompt's id to ``caption`` ("a photo of a red dog and a blue cat"), ``image_id`` and ``segment``, a list of
``label`` ("a red dog") and ``bbox`` (normalised xyxy). Pictures of a prompt are named as its id, whatever stands before a last "_".
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.benchmarks.coco_mig import COLOR_RANGES
from evaluation.benchmarks.samples import AskedBox, LayoutSample
from training.errors import FoundryError
from training.layout.boxes import BoxNorm, box_xyxy_norm

FEWEST, MOST, SMALLEST_SIDE = 2, 6, 1 / 8
"""Instances of a picture, and the least side of a box, as published."""
LEFT_OUT = ("person",)


@dataclass(frozen=True)
class MigInstance:
    """A class in a colour at a place."""

    color: str
    name: str
    box_xyxy_norm: BoxNorm

    @property
    def label(self) -> str:
        """As prompts have it."""
        return f"a {self.color} {self.name}"


@dataclass(frozen=True)
class MigPrompt:
    """A prompt and its instances; ``image_id`` is that of the picture whose boxes they are."""

    prompt_id: str
    instances: tuple[MigInstance, ...]
    image_id: str = ""

    @property
    def caption(self) -> str:
        """The global prompt."""
        return "a photo of " + " and ".join(instance.label for instance in self.instances)

    def sample(self) -> LayoutSample:
        """As layout models and folders of pictures are asked."""
        boxes = tuple(AskedBox(own.label, own.label, own.box_xyxy_norm) for own in self.instances)
        return LayoutSample(self.prompt_id, self.caption, boxes)


def read_prompts(path: Path) -> list[MigPrompt]:
    """A published file. Raises FoundryError naming the file, the prompt and the instance."""
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise FoundryError(
            f"prompts {path}: cannot be read ({error.strerror}); name a COCO-MIG file"
        ) from error
    except ValueError as error:
        raise FoundryError(f"prompts {path}: is no JSON ({error}); name a COCO-MIG file") from error
    if not isinstance(content, dict) or not content:
        raise FoundryError(f"prompts {path}: must map ids to prompts and hold one at least")
    return [
        _prompt(prompt_id, entry, f"prompts {path}, '{prompt_id}'") for prompt_id, entry in content.items()
    ]


def _prompt(prompt_id: str, entry: Any, where: str) -> MigPrompt:
    segment = entry.get("segment") if isinstance(entry, dict) else None
    if not isinstance(segment, list) or not segment:
        raise FoundryError(f"{where}: 'segment' is {segment!r}; give a list of instances")
    instances = tuple(_instance(one, f"{where}, instance {number}") for number, one in enumerate(segment))
    return MigPrompt(prompt_id, instances, str(entry.get("image_id", "")))


def _instance(entry: Any, where: str) -> MigInstance:
    label, box = (entry.get(name) if isinstance(entry, dict) else None for name in ("label", "bbox"))
    words = label.split() if isinstance(label, str) else []
    if len(words) < 3 or words[1] not in COLOR_RANGES:
        raise FoundryError(
            f"{where}: label is {label!r}; write 'a COLOUR CLASS', colours are {', '.join(COLOR_RANGES)}"
        )
    if not isinstance(box, list) or not all(isinstance(value, int | float) for value in box):
        raise FoundryError(f"{where}: bbox is {box!r}; give four numbers")
    try:
        found = box_xyxy_norm(box, label or "")
    except FoundryError as error:
        raise FoundryError(f"{where}: {error}") from error
    return MigInstance(words[1], " ".join(words[2:]), found)


def write_prompts(prompts: Sequence[MigPrompt], path: Path) -> None:
    """The published form."""
    content = {
        prompt.prompt_id: {
            "caption": prompt.caption,
            "segment": [{"bbox": list(own.box_xyxy_norm), "label": own.label} for own in prompt.instances],
            "image_id": prompt.image_id,
        }
        for prompt in prompts
    }
    Path(path).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def sample_prompts(
    pictures: Mapping[str, Sequence[tuple[str, BoxNorm]]], per_level: int, seed: int = 0
) -> list[MigPrompt]:
    """So many prompts of each number of instances, 2 to 6, from classes and boxes by picture, in random colours.

    Boxes with a side below an eighth are left out, and pictures with a person; of more than six instances the first six are taken,
    the largest first. No two prompts read alike. Raises FoundryError where a level has fewer pictures.
    """
    random = np.random.default_rng(seed)
    by_level: dict[int, list[MigPrompt]] = {level: [] for level in range(FEWEST, MOST + 1)}
    seen: set[str] = set()
    ids = sorted(pictures)
    for place in random.permutation(len(ids)):
        made = _recoloured(ids[place], pictures[ids[place]], random)
        level = 0 if made is None else len(made.instances)
        if (
            made is not None
            and level >= FEWEST
            and len(by_level[level]) < per_level
            and made.caption not in seen
        ):
            seen.add(made.caption)
            by_level[level].append(made)
    short = {level: len(found) for level, found in by_level.items() if len(found) < per_level}
    if short:
        level, count = next(iter(short.items()))
        raise FoundryError(
            f"COCO-MIG prompts: {count} of {per_level} pictures with {level} instances of a side of {SMALLEST_SIDE:g} or more; ask for "
            f"{min(short.values())} a level, or give more pictures"
        )
    return [
        MigPrompt(str(number), prompt.instances, prompt.image_id)
        for number, prompt in enumerate(_in_turn(by_level))
    ]


def _in_turn(by_level: Mapping[int, Sequence[MigPrompt]]) -> Iterator[MigPrompt]:
    for row in zip(*by_level.values(), strict=True):
        yield from row


def _recoloured(
    image_id: str, named: Sequence[tuple[str, BoxNorm]], random: np.random.Generator
) -> MigPrompt | None:
    """A picture's instances in random colours; None for one that is left out."""
    large = [(name, box) for name, box in named if min(box[2] - box[0], box[3] - box[1]) >= SMALLEST_SIDE]
    if len(large) < FEWEST or any(name in LEFT_OUT for name, _ in large):
        return None
    if len(large) > MOST:
        large = sorted(large[:MOST], key=lambda one: -(one[1][2] - one[1][0]) * (one[1][3] - one[1][1]))
    colors = random.choice(list(COLOR_RANGES), len(large))
    instances = [MigInstance(str(color), name, box) for color, (name, box) in zip(colors, large, strict=True)]
    return MigPrompt(image_id, tuple(instances), image_id)
