"""Pictures as one sheet."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from training.errors import write_error


def write_sheet(path: Path, images: UInt8[np.ndarray, "n height width 3"], columns: int = 8) -> None:
    """Write pictures as one PNG sheet. Raises FoundryError when it cannot be written."""
    count, height, width, _ = images.shape
    columns = min(columns, count)
    sheet = np.full((-(-count // columns) * height, columns * width, 3), 255, np.uint8)
    for index, image in enumerate(images):
        top, left = index // columns * height, index % columns * width
        sheet[top : top + height, left : left + width] = image
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        Image.fromarray(sheet).save(temporary, "PNG")
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise write_error(path, error) from error
