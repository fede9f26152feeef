"""Small contact sheets for the asset pages."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
from jaxtyping import UInt8
from numpy import ndarray

if TYPE_CHECKING:
    from assets.corpus.world import World

NUM_SHOWN = 24
TILE_PX = 96


def scene_sheet(world: World) -> bytes:
    """A JPEG of the first training and held-out-concept scenes with their alt-texts."""
    from assets.corpus.scenes import build_scenes
    from evaluation.pictures import contact_sheet, inline_jpeg

    half = NUM_SHOWN // 2
    scenes = [
        scene
        for split in ("train", "held_out_concepts")
        for scene in build_scenes(world, split, half, seed=0)
    ]
    sheet = contact_sheet(
        [scene.image for scene in scenes], [scene.alt_text for scene in scenes], columns=8, tile=TILE_PX
    )
    return inline_jpeg(sheet)


def image_sheet(landed: pa.Table) -> bytes:
    """A JPEG of the first landed images with their alt-texts; a shard group may be empty, and says so."""
    import numpy as np

    from evaluation.pictures import contact_sheet, inline_jpeg

    shown = landed.select(["image", "alt_text"]).slice(0, NUM_SHOWN)
    images = [_tile(data) for data in shown["image"].to_pylist()]
    texts = shown["alt_text"].to_pylist()
    if not images:
        images, texts = [np.full((TILE_PX, TILE_PX, 3), 230, np.uint8)], ["no images"]
    return inline_jpeg(contact_sheet(images, texts, columns=8, tile=TILE_PX))


def _tile(data: bytes) -> UInt8[ndarray, "h w 3"]:
    """The image as a square tile, its centre: a sheet's pictures share one size."""
    from assets.corpus.image_io import decode_rgb, resize_square

    # It was admitted under the run's own cap already, which may be higher than the default.
    return resize_square(decode_rgb(data, max_pixels=2**31), TILE_PX)
