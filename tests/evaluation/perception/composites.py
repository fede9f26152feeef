"""Small composed pictures whose truth is known, drawn here so that perception is tested without the scene builder."""

from __future__ import annotations

import numpy as np

from assets.corpus import art

Box = tuple[float, float, float, float]
RGB = {"red": (214, 40, 57), "blue": (31, 95, 214), "white": (248, 249, 250), "green": (42, 157, 63)}
PICTURES = {"apple": "red apple", "tree": "deciduous tree", "cat": "cat face", "fish": "fish", "drum": "drum"}


def background(kind: str, first: str, second: str, side_px: int = 64) -> np.ndarray:
    """A plain, two-tone, gradient or checkered square, uint8 RGB."""
    y, x = np.mgrid[0:side_px, 0:side_px]
    share = {
        "plain": np.zeros_like(x),
        "two-tone": x >= side_px // 2,
        "gradient": y / (side_px - 1),
        "checkered": (x // 16 + y // 16) % 2,
    }[kind]
    colors = np.array(RGB[first]), np.array(RGB[second])
    return np.rint(colors[0] * (1 - share[..., None]) + colors[1] * share[..., None]).astype(np.uint8)


def paste(canvas: np.ndarray, concept: str, x: int, y: int, size_px: int) -> tuple[np.ndarray, Box]:
    """The canvas with a drawing on it, and the box of what is visible, normalised xyxy."""
    drawing = art.render(PICTURES[concept], size_px)
    alpha = drawing[..., 3:] / 255
    result = canvas.copy()
    under = result[y : y + size_px, x : x + size_px]
    result[y : y + size_px, x : x + size_px] = np.rint(drawing[..., :3] * alpha + under * (1 - alpha))
    ys, xs = np.nonzero(drawing[..., 3] > 64)
    side = canvas.shape[0]
    box = (x + xs.min()) / side, (y + ys.min()) / side, (x + xs.max() + 1) / side, (y + ys.max() + 1) / side
    return result, tuple(float(value) for value in box)  # type: ignore[return-value]


def write(canvas: np.ndarray, word: str, x: int, y: int, color: str, size_px: int = 16) -> np.ndarray:
    """The canvas with a word in bold capitals."""
    from pathlib import Path

    import matplotlib
    from PIL import Image, ImageDraw, ImageFont

    font_file = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans-Bold.ttf"
    image = Image.fromarray(canvas)
    ImageDraw.Draw(image).text(
        (x, y), word, font=ImageFont.truetype(str(font_file), size_px), fill=RGB[color]
    )
    return np.asarray(image)


def png(image: np.ndarray) -> bytes:
    """Encoded bytes."""
    import io

    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()
