"""Small contact sheets for the asset pages."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

if TYPE_CHECKING:
    from assets.corpus.world import World

NUM_SHOWN = 24


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
        [scene.image for scene in scenes], [scene.alt_text for scene in scenes], columns=8, tile=96
    )
    return inline_jpeg(sheet)


def image_sheet(landed: pa.Table) -> bytes:
    """A JPEG of the first landed images with their alt-texts."""
    from assets.corpus.image_io import decode_rgb
    from evaluation.pictures import contact_sheet, inline_jpeg

    shown = landed.slice(0, NUM_SHOWN)
    images = [decode_rgb(data) for data in shown["image"].to_pylist()]
    return inline_jpeg(contact_sheet(images, shown["alt_text"].to_pylist(), columns=8, tile=96))
