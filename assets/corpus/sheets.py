"""Contact sheets of the corpus: what people look at before they believe a table."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from jaxtyping import UInt8

from assets.corpus.composing import build_scenes
from assets.corpus.image_io import decode_rgb, resize_square
from assets.corpus.world import World

_NUM_SHOWN = 12
_TILE_PX = 96


def scene_sheet(world: World, seed: int = 0) -> bytes:
    """A small JPEG of the first training scenes of a world, each over its alt-text."""
    from evaluation.pictures import contact_sheet, inline_jpeg

    scenes = list(build_scenes(world, "train", _NUM_SHOWN, seed))
    images, texts = [scene.image for scene in scenes], [scene.alt_text for scene in scenes]
    return inline_jpeg(contact_sheet(images, texts, columns=6, tile=_TILE_PX))


def image_sheet(landed: pa.Table) -> bytes:
    """A small JPEG of the first landed images, each over its alt-text; an empty table gives an empty sheet."""
    from evaluation.pictures import contact_sheet, inline_jpeg

    shown = landed.select(["image", "alt_text"]).slice(0, _NUM_SHOWN)
    images = [_tile(data) for data in shown["image"].to_pylist()]
    texts = shown["alt_text"].to_pylist()
    if not images:
        images, texts = [np.full((_TILE_PX, _TILE_PX, 3), 230, np.uint8)], ["no images"]
    return inline_jpeg(contact_sheet(images, texts, columns=6, tile=_TILE_PX))


def _tile(data: bytes) -> UInt8[np.ndarray, "h w 3"]:
    """The image, large ones cut to a square tile; small ones stay as they are and are enlarged unsmoothed."""
    # The image was admitted under some cap already, so no cap is checked again.
    image = decode_rgb(data, max_pixels=2**31)
    return image if max(image.shape[:2]) <= _TILE_PX else resize_square(image, _TILE_PX)
