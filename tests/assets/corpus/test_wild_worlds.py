"""Properties of scenes of any world: depth order, masks and depth against painting one object after another."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assets.corpus.casting import choose_looks
from assets.corpus.placing import place
from assets.corpus.scene_drawing import paste
from assets.corpus.scene_drawing import visible_masks as masks_of
from assets.corpus.scene_landing import truth_row
from assets.corpus.scenes import Scene, World, build_scene
from evaluation.metrics.hidden_layout import depth_map, visible_masks
from training.errors import FoundryError

CONCEPTS = [
    {"name": "heart", "variants": {"red": "red heart", "blue": "blue heart", "black": "black heart"}},
    {"name": "book", "variants": {"red": "closed book", "green": "green book"}},
    {"name": "cat", "picture": "cat face", "category": "animal"},
    {"name": "sun", "picture": "sun", "color": "orange"},
    {"name": "pen", "picture": "pen"},
]
HELD_OUT = [
    {"name": "crab", "picture": "crab", "color": "red"},
    {"name": "circle", "variants": {"red": "red circle", "white": "white circle"}},
]
SPLITS = st.sampled_from(["train", "judge", "held_out_images", "held_out_concepts"])


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """Small worlds with every option at any value."""
    size = draw(st.sampled_from([40, 64]))
    probability = st.sampled_from([0.0, 0.5, 1.0])
    hidden = sorted(draw(st.lists(st.floats(0.02, 0.5), min_size=2, max_size=2, unique=True)))
    return World.model_validate(
        {
            "image_size_px": size,
            "concepts": CONCEPTS,
            "held_out_concepts": draw(st.sampled_from([HELD_OUT, HELD_OUT[:1], HELD_OUT[1:]])),
            "colors": {"green": "#2a9d3f", "white": "#f8f9fa", "purple": "#7b2cbf"},
            "backgrounds": {"plain": 1.0, "checker": 1.0},
            "layouts": [
                {"objects": count, "weight": 1.0, "size_px": [9, draw(st.integers(9, size // 2))]}
                for count in draw(st.sets(st.integers(1, 4), min_size=1))
            ],
            "words": ["ON"],
            "word_probability": draw(probability),
            "same_silhouette_probability": draw(probability),
            "overlap": {"share": draw(probability), "hidden": hidden},
        }
    )


def _row(scene: Scene) -> dict[str, Any]:
    return truth_row(scene, b"")


@settings(max_examples=40, deadline=None)
@given(worlds(), SPLITS, st.integers(0, 5))
def test_masks_share_no_pixel_and_depth_is_that_of_the_object_in_front(
    world: World, split: str, index: int
) -> None:
    scene = build_scene(world, split, index, seed=2)
    random = np.random.default_rng([2, zlib.crc32(split.encode()), index])
    looks, _ = choose_looks(world, split, random)
    assert [item.phrase for item in scene.objects] == [look.phrase for look in looks]
    masks, depth = visible_masks(_row(scene)), depth_map(_row(scene))
    size = world.image_size_px
    assert masks.shape == (len(looks), size, size)
    for order, (item, mask) in enumerate(zip(scene.objects, masks, strict=True)):
        left, top, right, bottom = (round(value * size) for value in item.box_xyxy_norm)
        ys, xs = np.nonzero(mask)
        assert left <= xs.min()
        assert xs.max() < right
        assert top <= ys.min()
        assert ys.max() < bottom
        assert (depth[mask] == np.float32((order + 1) / len(looks))).all()
    assert masks.sum(axis=0).max() <= 1
    assert (depth[~masks.any(axis=0)] == 0).all()
    assert masks[-1].any()
    assert scene.objects[-1].visible_fraction == 1.0
    assert scene.objects[-1].depth == 1.0


@settings(max_examples=60, deadline=None)
@given(worlds(), SPLITS, st.integers(0, 2**32))
def test_placed_drawings_hide_one_another_as_painting_does(world: World, split: str, seed: int) -> None:
    """The slow way: every drawing paints its number and its colours over those before it."""
    random = np.random.default_rng(seed)
    looks, sizes = choose_looks(world, split, random)
    area = (0, 16 * int(random.integers(2)), world.image_size_px, world.image_size_px)
    placements = place(looks, sizes, area, world.overlap, random)
    painted = np.full((world.image_size_px, world.image_size_px), -1)
    canvas = np.zeros((world.image_size_px, world.image_size_px, 3))
    for number, placement in enumerate(placements):
        x1, y1, x2, y2 = placement.box_px
        assert area[0] <= x1 < x2 <= area[2]
        assert area[1] <= y1 < y2 <= area[3]
        for row, column in np.argwhere(placement.sprite[..., 3] >= 128):
            painted[y1 + row, x1 + column] = number
        paste(canvas, placement)
    masks = masks_of(placements, world.image_size_px)
    assert (masks == [painted == number for number in range(len(placements))]).all()
    visible, in_front = [], np.zeros_like(painted, dtype=bool)
    for placement, mask in zip(reversed(placements), masks[::-1], strict=True):
        x1, y1, x2, y2 = placement.box_px
        alpha = placement.sprite[..., 3]
        untouched = (alpha == 255) & ~in_front[y1:y2, x1:x2]  # not even by a soft edge
        assert (canvas[y1:y2, x1:x2][untouched] == placement.sprite[..., :3][untouched]).all()
        in_front[y1:y2, x1:x2] |= alpha > 0
        visible.append(mask.sum() / (alpha >= 128).sum())
    if world.overlap.share > 0:
        assert min(visible) >= 0.5


@settings(max_examples=60, deadline=None)
@given(worlds(), SPLITS, st.integers(0, 2**32))
def test_casts_are_distinct_and_show_what_their_split_may(world: World, split: str, seed: int) -> None:
    looks, _ = choose_looks(world, split, np.random.default_rng(seed))
    phrases = [look.phrase for look in looks]
    names = [look.concept.name for look in looks]
    assert len(set(phrases)) == len(phrases)
    assert len(names) - len(set(names)) <= (world.same_silhouette_probability > 0)
    held_out = {concept.name for concept in world.held_out_concepts}
    if split == "held_out_concepts":
        assert held_out & set(names)
    elif split != "judge":
        assert not held_out & set(names)
    if world.same_silhouette_probability == 1 and len(looks) > 1 and split != "held_out_concepts":
        assert len(set(names)) == len(names) - 1


def test_landings_from_before_there_were_masks_say_what_to_do() -> None:
    with pytest.raises(FoundryError, match="lacks visible_masks_rle, mask_size: .* foundry make demo_scenes"):
        depth_map({"objects": [], "visible_masks_rle": None})
