"""Composed scenes: one to four named drawings on a background, sometimes with a word, each with a terse alt-text.

A scene is a function of (seed, split, index) and of nothing else: neither of how many scenes are asked for nor of
their order. What the builder knows (boxes, names, depth, word) is in the :class:`Scene`; where scenes are landed it
goes to a separate truth table that only scoring reads (:mod:`assets.corpus.scene_landing`).
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool

from assets.corpus.alt_texts import Shown, write_alt_text
from assets.corpus.casting import choose_looks
from assets.corpus.placing import place
from assets.corpus.scene import BoxNorm, Scene, SceneObject
from assets.corpus.scene_drawing import (
    Background,
    BoxPx,
    Placement,
    check_words_fit,
    contrast,
    draw_word,
    paint_background,
    paste,
    visible_masks,
    word_mask,
)
from assets.corpus.world import BackgroundKind, Look, World
from assets.graph.schemas import SPLITS
from evaluation.perception.run_lengths import encode_mask
from training.errors import FoundryError

_SHIFT_RGB = 10.0  # background colours vary a little, so that no two scenes share theirs by accident
_MIN_CONTRAST = 0.6
_WORD_MARGIN_PX = 2


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
    looks, size_px = choose_looks(world, split, random)
    word = str(random.choice(world.words)) if random.random() < world.word_probability else ""
    background = _choose_background(world, looks, bool(word), random)
    canvas = paint_background(world, background, random.uniform(-_SHIFT_RGB, _SHIFT_RGB, (2, 3)))
    area, word_at = _reserve(world, word, random)
    placements = place(looks, size_px, area, world.overlap, random)
    for placement in placements:
        paste(canvas, placement)
    word_box = draw_word(canvas, word, *word_at) if word else None

    masks = visible_masks(placements, world.image_size_px)
    objects = _objects(looks, placements, masks, world.image_size_px)
    return Scene(
        image=np.clip(np.rint(canvas), 0, 255).astype(np.uint8),
        alt_text=write_alt_text(world.alt_text, _shown(looks, objects), background, word, random),
        objects=objects,
        visible_masks_rle=tuple(encode_mask(mask) for mask in masks),
        mask_size=(world.image_size_px, world.image_size_px),
        word=word,
        word_box_xyxy_norm=_normalised(word_box, world.image_size_px) if word_box else None,
        background=background.description,
        key=f"{split}-{seed}-{index:06d}",
        split=split,
    )


def _choose_background(
    world: World, looks: list[Look], has_word: bool, random: np.random.Generator
) -> Background:
    """A background from whose colours every object stands out. A word stands on one colour only, to be legible."""
    stands_out = {
        color: min(contrast(look.picture, world.rgb(color)) for look in looks) for color in world.colors
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


def _objects(
    looks: list[Look], placements: list[Placement], masks: Bool[np.ndarray, "n s s"], size_px: int
) -> tuple[SceneObject, ...]:
    return tuple(
        SceneObject(
            name=look.concept.name,
            box_xyxy_norm=_normalised(placement.box_px, size_px),
            depth_order=order,
            visible_fraction=float(mask.sum() / placement.opaque.sum()),
            color=look.color or "",
            phrase=look.phrase,
            depth=(order + 1) / len(looks),
        )
        for order, (look, placement, mask) in enumerate(zip(looks, placements, masks, strict=True))
    )


def _shown(looks: list[Look], objects: tuple[SceneObject, ...]) -> list[Shown]:
    names = [item.name for item in objects]
    shown = []
    for look, item in zip(looks, objects, strict=True):
        x1, y1, x2, y2 = item.box_xyxy_norm
        shown.append(Shown(look, (x1 + x2) / 2, (y1 + y2) / 2, names.count(item.name) > 1))
    return shown


def _normalised(box_px: BoxPx, size_px: int) -> BoxNorm:
    x1, y1, x2, y2 = box_px
    return x1 / size_px, y1 / size_px, x2 / size_px, y2 / size_px
