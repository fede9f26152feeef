"""Small contact sheets for the asset pages."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from assets.pages.sheets import TILE_PX, sheet_jpeg

if TYPE_CHECKING:
    from assets.corpus.worlds import AnyWorld

NUM_SHOWN = 24


def scene_sheet(world: AnyWorld) -> bytes:
    """A JPEG of the first training and held-out-concept scenes with their alt-texts."""
    from assets.corpus.scenes import build_scenes
    from evaluation.plots.contact_sheets import contact_sheet, inline_jpeg

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
    """A JPEG of the first landed images with their alt-texts."""
    shown = landed.select(["image", "alt_text"]).slice(0, NUM_SHOWN)
    return sheet_jpeg(shown["image"].to_pylist(), shown["alt_text"].to_pylist())
