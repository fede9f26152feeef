"""Composed scenes: one to four named drawings on a background, sometimes with a word, each with a terse alt-text.

A scene is a function of (seed, split, index) and of nothing else: neither of how many scenes are asked for nor of
their order. What the builder knows (boxes, names, depth, word) is in the :class:`Scene`; where scenes are landed it
goes to a separate truth table that only scoring reads (:mod:`assets.corpus.scene_landing`).
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8

from assets.corpus import art
from assets.corpus.alt_texts import Shown, write_alt_text
from assets.corpus.scene_drawing import (
    Background,
    BoxPx,
    Placement,
    check_words_fit,
    contrast,
    draw_word,
    paint_background,
    paste,
    sprite,
    visible_fractions,
    word_mask,
)
from assets.corpus.world import BackgroundKind, Concept, World
from assets.graph.schemas import SPLITS
from training.errors import FoundryError

BoxNorm = tuple[float, float, float, float]
"""x1, y1, x2, y2, each in [0, 1]."""

_SHIFT_RGB = 10.0  # background colours vary a little, so that no two scenes share theirs by accident
_MIN_CONTRAST = 0.6
_MAX_OVERLAP = 0.2
_PLACEMENT_TRIES = 40
_WORD_MARGIN_PX = 2


@dataclass(frozen=True)
class SceneObject:
    """One object: its concept's name, its extent before occlusion, its order (0 is farthest), what is visible."""

    name: str
    box_xyxy_norm: BoxNorm
    depth_order: int
    visible_fraction: float


@dataclass(frozen=True)
class Scene:
    """A picture, its alt-text and the truth about it. ``objects`` run from back to front."""

    image: UInt8[np.ndarray, "s s 3"]
    alt_text: str
    objects: tuple[SceneObject, ...]
    word: str
    word_box_xyxy_norm: BoxNorm | None
    background: str
    key: str
    split: str
    license: str = art.LICENSE
    attribution: str = art.ATTRIBUTION


def build_scenes(world: World, split: str, count: int, seed: int) -> Iterator[Scene]:
    """The first ``count`` scenes of a split. Scene ``i`` is the same whatever the count.

    Raises FoundryError for an unknown split, a negative count or seed, or a word that does not fit.
    """
    if split not in SPLITS:
        raise FoundryError(f"split is {split!r}; allowed are {', '.join(SPLITS)}.")
    if count < 0 or seed < 0:
        raise FoundryError(f"count is {count} and seed is {seed}; both must be 0 or more.")
    check_words_fit(world)
    for index in range(count):
        yield build_scene(world, split, index, seed)


def build_scene(world: World, split: str, index: int, seed: int) -> Scene:
    """Scene ``index`` of a split: draws of its own, whatever was built before."""
    random = np.random.default_rng([seed, zlib.crc32(split.encode()), index])
    concepts, size_px = _choose_objects(world, split, random)
    word = str(random.choice(world.words)) if random.random() < world.word_probability else ""
    background = _choose_background(world, concepts, bool(word), random)
    canvas = paint_background(world, background, random.uniform(-_SHIFT_RGB, _SHIFT_RGB, (2, 3)))
    area, word_at = _reserve(world, word, random)
    placements = _place(concepts, size_px, area, random)
    for placement in placements:
        paste(canvas, placement)
    word_box = draw_word(canvas, word, *word_at) if word else None

    objects = _objects(concepts, placements, world.image_size_px)
    shown = [_shown(concept, item.box_xyxy_norm) for concept, item in zip(concepts, objects, strict=True)]
    return Scene(
        image=np.clip(np.rint(canvas), 0, 255).astype(np.uint8),
        alt_text=write_alt_text(world.alt_text, shown, background, word, random),
        objects=objects,
        word=word,
        word_box_xyxy_norm=_normalised(word_box, world.image_size_px) if word_box else None,
        background=background.description,
        key=f"{split}-{seed}-{index:06d}",
        split=split,
    )


def concepts_of_split(world: World, split: str) -> tuple[Concept, ...]:
    """Concepts that scenes of a split may show; those of ``held_out_concepts`` show at least one held-out one."""
    if split == "held_out_concepts" or (split == "judge" and world.judge_sees_held_out_concepts):
        return world.all_concepts
    return world.training_concepts


def _choose_objects(world: World, split: str, random: np.random.Generator) -> tuple[list[Concept], list[int]]:
    """Distinct concepts in order of depth, back first, and the side of each drawing in pixels."""
    weights = np.array([layout.weight for layout in world.layouts])
    layout = world.layouts[int(random.choice(len(weights), p=weights / weights.sum()))]
    pool = concepts_of_split(world, split)
    chosen = [pool[index] for index in random.choice(len(pool), layout.objects, replace=False)]
    if split == "held_out_concepts" and not set(chosen) & set(world.held_out_concepts):
        chosen[0] = world.held_out_concepts[int(random.integers(len(world.held_out_concepts)))]
        chosen = [chosen[index] for index in random.permutation(len(chosen))]
    smallest, largest = layout.size_px
    return chosen, [int(size) for size in random.integers(smallest, largest + 1, layout.objects)]


def _choose_background(
    world: World, concepts: list[Concept], has_word: bool, random: np.random.Generator
) -> Background:
    """A background from whose colours every object stands out. A word stands on one colour only, to be legible."""
    stands_out = {
        color: min(contrast(concept.picture, world.rgb(color)) for concept in concepts)
        for color in world.colors
    }
    usable = [color for color, share in stands_out.items() if share >= _MIN_CONTRAST]
    if len(usable) < 2:
        usable = sorted(stands_out, key=lambda color: -stands_out[color])[:2]
    kinds: list[BackgroundKind] = list(world.backgrounds)
    weights = np.array(list(world.backgrounds.values()))
    kind: BackgroundKind = kinds[int(random.choice(len(kinds), p=weights / weights.sum()))]
    colors = [usable[index] for index in random.permutation(len(usable))]
    if has_word:
        kind = "plain"
    return Background(
        kind=kind,
        colors=tuple(colors[:1] if kind == "plain" else colors[:2]),
        horizontal=bool(random.random() < 0.5),
        split=float(random.uniform(0.35, 0.65)),
        cell_px=world.image_size_px // int(random.choice([4, 8])),
    )


def _reserve(
    world: World, word: str, random: np.random.Generator
) -> tuple[tuple[int, int, int, int], tuple[int, int]]:
    """Area for objects (x1, y1, x2, y2 in pixels) and the word's top left corner, in a strip above or below."""
    size = world.image_size_px
    if not word:
        return (0, 0, size, size), (0, 0)
    height, width = word_mask(word).shape
    left = int(random.integers(1, size - width))
    strip = height + 2 * _WORD_MARGIN_PX
    if random.random() < 0.5:
        return (0, strip, size, size), (left, _WORD_MARGIN_PX)
    return (0, 0, size, size - strip), (left, size - height - _WORD_MARGIN_PX)


def _place(
    concepts: list[Concept], size_px: list[int], area: BoxPx, random: np.random.Generator
) -> list[Placement]:
    """Random places with little overlap; where none is found, one grid cell each."""
    x1, y1, x2, y2 = area
    rows = 1 if len(concepts) <= 2 else 2
    limit = min((x2 - x1) // min(len(concepts), 2), (y2 - y1) // rows)
    sprites = [sprite(item.picture, min(size, limit)) for item, size in zip(concepts, size_px, strict=True)]
    for _ in range(_PLACEMENT_TRIES):
        placements = [
            Placement(
                item,
                int(random.integers(x1, x2 - item.shape[1] + 1)),
                int(random.integers(y1, y2 - item.shape[0] + 1)),
            )
            for item in sprites
        ]
        if _largest_overlap(placements) <= _MAX_OVERLAP:
            return placements
    columns = min(len(concepts), 2)
    cell_w, cell_h = (x2 - x1) // columns, (y2 - y1) // rows
    return [
        Placement(item, x1 + cell_w * (index % columns), y1 + cell_h * (index // columns))
        for index, item in enumerate(sprites)
    ]


def _largest_overlap(placements: list[Placement]) -> float:
    """Largest intersection of two boxes over the smaller box's area."""
    largest = 0.0
    for index, first in enumerate(placements):
        ax1, ay1, ax2, ay2 = first.box_px
        for second in placements[:index]:
            bx1, by1, bx2, by2 = second.box_px
            shared = max(0, min(ax2, bx2) - max(ax1, bx1)) * max(0, min(ay2, by2) - max(ay1, by1))
            smaller = min((ax2 - ax1) * (ay2 - ay1), (bx2 - bx1) * (by2 - by1))
            largest = max(largest, shared / smaller)
    return largest


def _objects(concepts: list[Concept], placements: list[Placement], size_px: int) -> tuple[SceneObject, ...]:
    fractions = visible_fractions(placements, size_px)
    return tuple(
        SceneObject(concept.name, _normalised(placement.box_px, size_px), order, fraction)
        for order, (concept, placement, fraction) in enumerate(
            zip(concepts, placements, fractions, strict=True)
        )
    )


def _shown(concept: Concept, box_xyxy_norm: BoxNorm) -> Shown:
    x1, y1, x2, y2 = box_xyxy_norm
    return Shown(concept, (x1 + x2) / 2, (y1 + y2) / 2)


def _normalised(box_px: BoxPx, size_px: int) -> BoxNorm:
    x1, y1, x2, y2 = box_px
    return x1 / size_px, y1 / size_px, x2 / size_px, y2 / size_px
