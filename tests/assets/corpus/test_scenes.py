from __future__ import annotations

import re
from itertools import islice

import numpy as np
import pytest

from assets.corpus import art
from assets.corpus.casting import choose_looks
from assets.corpus.scene_drawing import (
    Background,
    Placement,
    paint_background,
    sprite,
    visible_fractions,
    word_mask,
)
from assets.corpus.scenes import Scene, World, build_scene, build_scenes, load_world
from assets.corpus.world import WORD_CAP_HEIGHT_PX
from tests.assets.corpus.makers import PROFILES
from training.errors import FoundryError


@pytest.fixture(scope="module")
def world() -> World:
    return load_world(PROFILES / "teacher" / "world.yaml")


@pytest.fixture(scope="module")
def scenes(world: World) -> list[Scene]:
    return list(build_scenes(world, "train", 300, seed=3))


def _same(first: Scene, second: Scene) -> bool:
    mine, other = dict(vars(first)), dict(vars(second))
    return np.array_equal(mine.pop("image"), other.pop("image")) and mine == other


def test_a_scene_depends_on_seed_split_and_index_alone(world: World, scenes: list[Scene]) -> None:
    few = list(build_scenes(world, "train", 5, seed=3))
    assert all(_same(first, second) for first, second in zip(few, scenes, strict=False))
    assert _same(build_scene(world, "train", 200, 3), scenes[200])
    assert not _same(build_scene(world, "train", 200, 4), scenes[200])
    assert not np.array_equal(build_scene(world, "judge", 200, 3).image, scenes[200].image)


def test_no_two_scenes_are_the_same(scenes: list[Scene]) -> None:
    assert len({scene.image.tobytes() for scene in scenes}) == len(scenes)
    assert len({scene.key for scene in scenes}) == len(scenes)


def test_splits_show_their_concepts(world: World) -> None:
    trained = {concept.name for concept in world.training_concepts}
    held_out = {concept.name for concept in world.held_out_concepts}

    def shown(split: str, count: int) -> list[set[str]]:
        return [{item.name for item in scene.objects} for scene in build_scenes(world, split, count, 0)]

    assert set().union(*shown("train", 200)) == trained
    assert set().union(*shown("held_out_images", 100)) <= trained
    assert all(names & held_out for names in shown("held_out_concepts", 100))
    assert set().union(*shown("judge", 300)) == trained | held_out
    strict = world.model_copy(update={"judge_sees_held_out_concepts": False})
    assert not {item.name for s in build_scenes(strict, "judge", 100, 0) for item in s.objects} & held_out


def test_truth_is_within_bounds_and_varied(scenes: list[Scene]) -> None:
    for scene in scenes:
        assert scene.image.shape == (64, 64, 3)
        assert [item.depth_order for item in scene.objects] == list(range(len(scene.objects)))
        assert len({item.phrase for item in scene.objects}) == len(scene.objects)
        assert scene.objects[-1].visible_fraction == 1.0
        assert min(item.visible_fraction for item in scene.objects) >= 0.5
        for item in scene.objects:
            x1, y1, x2, y2 = item.box_xyxy_norm
            assert 0 <= x1 < x2 <= 1
            assert 0 <= y1 < y2 <= 1
    assert {len(scene.objects) for scene in scenes} == {1, 2, 3, 4}
    assert {scene.background.split()[0] for scene in scenes} == {"plain", "gradient", "two-tone", "checker"}
    assert 15 <= sum(bool(scene.word) for scene in scenes) <= 60  # 12 % of 300
    assert 80 <= sum(len(scene.objects) == 1 for scene in scenes) <= 120  # a third


def test_a_share_of_scenes_shows_one_silhouette_in_two_colours_and_tells_them_apart(
    world: World, scenes: list[Scene]
) -> None:
    several = [scene for scene in scenes if len(scene.objects) > 1]
    twins = [scene for scene in several if len({item.name for item in scene.objects}) < len(scene.objects)]
    assert 0.15 < len(twins) / len(several) < 0.35  # 0.25
    for scene in twins:
        names = [item.name for item in scene.objects]
        pair = [item for item in scene.objects if names.count(item.name) == 2]
        assert len(pair) == 2
        assert len({item.color for item in pair}) == 2
        for found in re.finditer(rf"(\w+) {pair[0].name}\b", scene.alt_text):
            assert found.group(1) in {item.color for item in pair}, scene.alt_text
        assert not re.match(rf"{pair[0].name}\b", scene.alt_text), scene.alt_text


def test_a_share_of_scenes_hides_part_of_an_object(scenes: list[Scene]) -> None:
    several = [scene for scene in scenes if len(scene.objects) > 1]
    hidden = [1 - min(item.visible_fraction for item in scene.objects) for scene in several]
    assert 0.25 < np.mean([share >= 0.1 for share in hidden]) < 0.45  # 0.33, and some of the others
    assert max(hidden) > 0.4


def test_held_out_colours_are_kept_from_training(world: World) -> None:
    held_out = {f"{concept.name}/{color}" for concept in world.concepts for color in concept.held_out_colors}
    assert held_out == {"heart/purple", "square/green"}

    def shown(split: str) -> set[str]:
        random = np.random.default_rng(1)
        return {look.name for _ in range(300) for look in choose_looks(world, split, random)[0]}

    training = {look.name for look in world.training_looks}
    assert shown("train") == shown("held_out_images") == training
    assert shown("judge") == set(world.drawings)
    assert shown("held_out_concepts") & held_out
    assert training | held_out < set(world.drawings)


def test_box_is_where_the_object_was_drawn(world: World, scenes: list[Scene]) -> None:
    """On a plain background, what differs from the background is inside the boxes and fills them."""
    checked = 0
    for scene in scenes:
        if len(scene.objects) > 1 or scene.word or not scene.background.startswith("plain"):
            continue
        differs = np.abs(scene.image.astype(int) - scene.image[0, 0].astype(int)).max(axis=2) > 60
        if differs[:, 0].any() or differs[0].any():
            continue  # the corner itself is covered
        rows, columns = np.nonzero(differs)
        found = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        expected = np.array(scene.objects[0].box_xyxy_norm) * 64
        # Parts in the background's own colour cannot be seen, and soft edges lie a pixel outside.
        inside = (np.array(found[:2]) >= expected[:2] - 1).all() and (
            np.array(found[2:]) <= expected[2:] + 1
        ).all()
        assert inside, scene.key
        area = (found[2] - found[0]) * (found[3] - found[1])
        assert area > 0.6 * (expected[2] - expected[0]) * (expected[3] - expected[1]), scene.key
        checked += 1
    assert checked > 20


def test_alt_texts_are_terse_and_true(world: World, scenes: list[Scene]) -> None:
    concepts = {concept.name: concept for concept in world.all_concepts}
    missing = 0
    for scene in scenes:
        shown = [item.name for item in scene.objects]
        for name in concepts:
            others = any(name in other and name != other for other in shown)
            if f" {name} " in f" {scene.alt_text.replace(',', ' ')} " and not others:
                assert name in shown, scene.alt_text
        for word in world.words:
            assert word not in scene.alt_text or word == scene.word
        missing += any(name not in scene.alt_text for name in shown)
    assert 0.25 < missing / len(scenes) < 0.75  # captions made later are meant to be denser
    assert np.mean([len(scene.alt_text.split()) for scene in scenes]) < 8


def test_positions_in_alt_texts_are_true(scenes: list[Scene]) -> None:
    sides = {"on the left": (0, -1), "on the right": (0, 1), "at the top": (1, -1), "at the bottom": (1, 1)}
    told = 0
    for scene in scenes:
        for phrase, (axis, sign) in sides.items():
            if phrase not in scene.alt_text:
                continue
            boxes = [item.box_xyxy_norm for item in scene.objects]
            assert any(sign * ((box[axis] + box[axis + 2]) / 2 - 0.5) > 0.1 for box in boxes), scene.alt_text
            told += 1
    assert told > 5


def test_words_are_high_enough_clear_of_objects_and_legible(scenes: list[Scene]) -> None:
    for scene in (scene for scene in scenes if scene.word):
        assert scene.word_box_xyxy_norm is not None
        x1, y1, x2, y2 = scene.word_box_xyxy_norm
        assert (y2 - y1) * 64 >= WORD_CAP_HEIGHT_PX
        for item in scene.objects:
            left, top, right, bottom = item.box_xyxy_norm
            assert min(x2, right) <= max(x1, left) or min(y2, bottom) <= max(y1, top)
        crop = scene.image[round(y1 * 64) : round(y2 * 64), round(x1 * 64) : round(x2 * 64)].mean(axis=2)
        assert np.ptp(crop) > 100
    assert all(scene.word_box_xyxy_norm is None for scene in scenes if not scene.word)
    assert word_mask("H").shape[0] == WORD_CAP_HEIGHT_PX


def test_visible_fractions_against_painting_with_numbers() -> None:
    random = np.random.default_rng(0)
    for _ in range(20):
        names = ["red apple", "dog face", "sun", "crown"]
        placements = [
            Placement(
                sprite(name, int(random.integers(16, 30))),
                int(random.integers(0, 30)),
                int(random.integers(0, 30)),
            )
            for name in names
        ]
        painted = np.full((64, 64), -1)
        for number, placement in enumerate(placements):  # back to front, the slow way
            for row in range(placement.sprite.shape[0]):
                for column in range(placement.sprite.shape[1]):
                    if placement.sprite[row, column, 3] >= 128:
                        painted[placement.top + row, placement.left + column] = number
        slow = [
            (painted == number).sum() / (placement.sprite[..., 3] >= 128).sum()
            for number, placement in enumerate(placements)
        ]
        assert np.allclose(visible_fractions(placements, 64), slow)


def test_backgrounds_have_the_colours_they_name(world: World) -> None:
    still = np.zeros((2, 3))
    blue, white = np.array(world.rgb("blue")), np.array(world.rgb("white"))
    plain = paint_background(world, Background("plain", ("blue",)), still)
    assert (plain == blue).all()
    halves = paint_background(world, Background("two-tone", ("blue", "white"), horizontal=True), still)
    assert (halves[:, :31] == blue).all()
    assert (halves[:, 33:] == white).all()
    ramp = paint_background(world, Background("gradient", ("blue", "white")), still)
    assert np.abs(ramp[0] - blue).max() < 4
    assert np.abs(ramp[-1] - white).max() < 4
    board = paint_background(world, Background("checker", ("blue", "white"), cell_px=16), still)
    assert (board[:16, :16] == blue).all()
    assert (board[:16, 16:32] == white).all()


def test_licence_and_credit_travel_with_the_scene(scenes: list[Scene]) -> None:
    assert {scene.license for scene in scenes} == {art.LICENSE}
    assert {scene.attribution for scene in scenes} == {art.ATTRIBUTION}


def test_bad_arguments_are_refused(world: World) -> None:
    with pytest.raises(FoundryError, match="split is 'test'; allowed are train"):
        next(build_scenes(world, "test", 1, 0))
    with pytest.raises(FoundryError, match="count is -1"):
        next(build_scenes(world, "train", -1, 0))
    assert list(islice(build_scenes(world, "train", 0, 0), 1)) == []
