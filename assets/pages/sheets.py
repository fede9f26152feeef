"""One way to make the small contact sheets of the asset pages: equal tiles, a JPEG that fits, and no sheet too empty."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from evaluation.plots.contact_sheets import NamedBox

TILE_PX = 96


def sheet_jpeg(
    images: Sequence[bytes],
    captions: Sequence[str] | None = None,
    boxes: Sequence[Sequence[NamedBox]] | None = None,
    *,
    columns: int = 8,
    tile_px: int = TILE_PX,
) -> bytes:
    """Encoded images as tiles of one size; boxes are normalised and drawn on images that are square.

    A shard group may hold no images; its sheet says so.
    """
    import numpy as np

    from assets.corpus.image_io import decode_rgb, resize_square
    from evaluation.plots.contact_sheets import contact_sheet, inline_jpeg

    if not images:
        blank = np.full((tile_px, tile_px, 3), 230, np.uint8)
        return inline_jpeg(contact_sheet([blank], ["no images"], columns=1, tile=tile_px))
    # Images were admitted under the run's own cap already, which may be higher than the default.
    decoded = [decode_rgb(data, max_pixels=2**31) for data in images]
    tiles = decoded if boxes is not None else [resize_square(image, tile_px) for image in decoded]
    return inline_jpeg(contact_sheet(tiles, captions, boxes, columns=columns, tile=tile_px))


def figure_jpeg(png: bytes) -> bytes:
    """A figure as a JPEG that is small enough for an asset page."""
    import io

    from PIL import Image

    from evaluation.plots.contact_sheets import inline_jpeg

    return inline_jpeg(Image.open(io.BytesIO(png)).convert("RGB"))
