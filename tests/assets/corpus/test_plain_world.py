"""A world file without variants and overlap draws the very scenes that it drew before there were any.

``plain_world.yaml`` is the demo's world of then; ``plain_world.json`` holds digests of scenes that its code drew: of
pixels, alt-text, word, background, and name, box, order and visible share of each object.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from assets.corpus.scenes import Scene, build_scene, load_world

HERE = Path(__file__).parent
DIGESTS: dict[str, str] = json.loads((HERE / "plain_world.json").read_text(encoding="utf-8"))


def _digest(scene: Scene) -> str:
    objects = [
        (item.name, item.box_xyxy_norm, item.depth_order, item.visible_fraction) for item in scene.objects
    ]
    told = repr((scene.alt_text, scene.word, scene.word_box_xyxy_norm, scene.background, objects))
    return hashlib.sha256(scene.image.tobytes() + told.encode()).hexdigest()[:16]


@pytest.mark.parametrize("split", ["train", "judge", "held_out_images", "held_out_concepts"])
def test_scenes_are_drawn_as_they_were(split: str) -> None:
    world = load_world(HERE / "plain_world.yaml")
    wanted = {key: digest for key, digest in DIGESTS.items() if key.startswith(f"{split}-")}
    assert len(wanted) == 7
    found = {
        key: _digest(build_scene(world, split, int(key.removeprefix(f"{split}-")), seed=5)) for key in wanted
    }
    assert found == wanted
