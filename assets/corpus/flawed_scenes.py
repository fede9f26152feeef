"""Training scenes that curation drops: near copies of others, and thumbnails too small to learn from.

They land among the others as such pictures do in any collection, so that what curation is worth can be measured.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from jaxtyping import UInt8

from assets.corpus.composing import build_scene
from assets.corpus.scene import Scene
from assets.corpus.world import World

THUMBNAIL_SIDE = 20
"""Pixels; below the side that curation asks for."""
_FIRST_THUMBNAIL = 1_000_000  # scenes of their own, far from those that are landed in full
_BRIGHTER = 3


def build_flawed_scenes(world: World, count: int, seed: int) -> Iterator[Scene]:
    """``count`` scenes of the split ``train``, by turns a near copy of the i-th whole scene and a thumbnail."""
    for index in range(count):
        key = f"flawed-{seed}-{index:06d}"
        if index % 2 == 0:
            whole = build_scene(world, "train", index // 2, seed)
            brighter = np.clip(whole.image.astype(np.int16) + _BRIGHTER, 0, 255).astype(np.uint8)
            yield replace(whole, image=brighter, key=key)
        else:
            whole = build_scene(world, "train", _FIRST_THUMBNAIL + index, seed)
            yield replace(whole, image=_thumbnail(whole.image), key=key)


def _thumbnail(image: UInt8[np.ndarray, "s s 3"]) -> UInt8[np.ndarray, "t t 3"]:
    from PIL import Image

    side = (THUMBNAIL_SIDE, THUMBNAIL_SIDE)
    return np.asarray(Image.fromarray(image).resize(side, Image.Resampling.BOX))
