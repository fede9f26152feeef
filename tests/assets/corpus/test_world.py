from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from assets.corpus import art
from assets.corpus.scene_drawing import check_words_fit
from assets.corpus.world import World, load_world
from evaluation.perception.embedded.colors import main_color
from tests.assets.corpus.makers import PROFILES
from training.errors import FoundryError


def _content() -> dict[str, Any]:
    return yaml.safe_load((PROFILES / "smoke" / "world.yaml").read_text())


def _load(tmp_path: Path, content: Any) -> World:
    path = tmp_path / "world.yaml"
    path.write_text(yaml.safe_dump(content))
    return load_world(path)


@pytest.mark.parametrize("profile", ["demo", "smoke", "teacher", "gpu"])
def test_shipped_worlds_load(profile: str) -> None:
    world = load_world(PROFILES / profile / "world.yaml")
    check_words_fit(world)
    names = [concept.name for concept in world.all_concepts]
    assert len(names) == len(set(names))
    assert len(set(world.drawings.values())) == len(world.drawings)
    # A name that is a colour word, too, would make texts ambiguous.
    assert not set(names) & set(world.colors)


def test_demo_world_has_the_planned_size() -> None:
    world = load_world(PROFILES / "demo" / "world.yaml")
    assert len(world.training_concepts) == 28
    assert len(world.held_out_concepts) == 8
    assert [layout.objects for layout in world.layouts] == [1, 2, 3, 4]


@pytest.mark.parametrize("profile", ["demo", "teacher", "gpu"])
def test_variants_are_one_silhouette_in_the_colours_that_they_name(profile: str) -> None:
    """By the very measurement that perception makes; apples hang their leaf to either side."""
    for concept in load_world(PROFILES / profile / "world.yaml").concepts:
        drawn = [art.render(look.picture, 48) for look in concept.looks]
        masks = [drawing[..., 3] >= 128 for drawing in drawn]
        assert all((mask != masks[0]).mean() < 0.1 for mask in masks)
        if concept.variants:
            measured = [main_color(drawing[mask][:, :3]) for drawing, mask in zip(drawn, masks, strict=True)]
            assert measured == [look.color for look in concept.looks]


HEART = {"name": "heart", "variants": {"red": "red heart", "green": "green heart"}}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_size": 64}, "unknown key 'image_size'; did you mean 'image_size_px'"),
        ({"image_size_px": 63}, "'image_size_px' is 63"),
        ({"word_probability": 1.5}, "'word_probability' is 1.5"),
        ({"colors": {"red": "#d62839", "blue": "blue"}}, r"colors.blue is 'blue'; write it as '#rrggbb'"),
        ({"backgrounds": {"plain": 0.0}}, "backgrounds: all weights are 0"),
        ({"backgrounds": {"plaid": 1.0}}, "plaid"),
        (
            {"layouts": [{"objects": 2, "weight": 1, "size_px": [30, 40]}]},
            r"size_px of 2 objects is \[30, 40\]",
        ),
        ({"layouts": [{"objects": 5, "weight": 1, "size_px": [10, 12]}]}, "is 5"),
        ({"words": ["stop"]}, "'stop'"),
        ({"words": []}, "word_probability is above 0 but words is empty"),
        ({"held_out_concepts": [{"name": "apple", "picture": "lemon"}]}, "the name 'apple' twice"),
        ({"held_out_concepts": [{"name": "fruit", "picture": "red apple"}]}, "the picture 'red apple' twice"),
        ({"held_out_concepts": [{"name": "lemon", "picture": "lemmon"}]}, "concept 'lemon'.*nearest"),
        ({"held_out_concepts": [HEART | {"picture": "red heart"}]}, "give either picture or variants"),
        ({"held_out_concepts": [{"name": "heart"}]}, "'heart': give either picture or variants"),
        ({"held_out_concepts": [HEART | {"color": "red"}]}, "stand in place of color"),
        (
            {"held_out_concepts": [HEART | {"variants": {"red": "red heart"}}]},
            "variants are 2 or more colours",
        ),
        (
            {"held_out_concepts": [HEART | {"held_out_colors": ["blue"]}]},
            r"held_out_colors are \['blue'\], variants \['green', 'red'\]",
        ),
        ({"held_out_concepts": [HEART | {"held_out_colors": ["red", "green"]}]}, "leave at least one"),
        (
            {"held_out_concepts": [HEART | {"variants": {"red": "red heart", "blue": "blue heart"}}]},
            "the picture 'blue heart' twice",
        ),
        (
            {"held_out_concepts": [HEART, {"name": "green heart", "picture": "lemon"}]},
            "the name 'green heart' twice",
        ),
        ({"same_silhouette_probability": 0.5}, "above 0 but no concept shows two variants"),
        ({"overlap": {"share": 0.5, "hidden": [0.1, 0.6]}}, r"hidden is \[0.1, 0.6\].*half visible"),
    ],
)
def test_bad_values_name_file_field_and_remedy(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(FoundryError, match=message) as caught:
        _load(tmp_path, _content() | change)
    assert "world.yaml" in str(caught.value)


def test_unreadable_files_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(FoundryError, match="cannot be read"):
        load_world(tmp_path / "absent.yaml")
    with pytest.raises(FoundryError, match="mapping of keys, found list"):
        _load(tmp_path, ["concepts"])
    (tmp_path / "world.yaml").write_bytes(b"a: [\xff")
    with pytest.raises(FoundryError, match="is not YAML"):
        load_world(tmp_path / "world.yaml")


def test_a_word_too_wide_is_refused(tmp_path: Path) -> None:
    world = _load(tmp_path, _content() | {"words": ["WWWWW"]})
    with pytest.raises(FoundryError, match="'WWWWW' is .* choose a shorter word"):
        check_words_fit(world)
