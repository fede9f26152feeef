"""What every engine gives for a picture, and what is done to pictures before any of them looks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8

from evaluation.box_conventions import Box

ENLARGED_BELOW_PX = 256
ENLARGEMENT = 4
"""Pictures up to that long are enlarged so often: engines need capitals of about 20 pixels, small pictures have 5."""


@dataclass(frozen=True)
class Line:
    """A line of text where it stands, with the engine's confidence in [0, 1]."""

    text: str
    confidence: float
    box_xyxy_norm: Box = (0.0, 0.0, 1.0, 1.0)

    @property
    def middle_y(self) -> float:
        """Height of its middle, in [0, 1]."""
        return (self.box_xyxy_norm[1] + self.box_xyxy_norm[3]) / 2


class Reader(ABC):
    """An OCR engine. ``name`` says which, and its settings; ``digest`` is over both and over weights."""

    name: str
    digest: str

    @abstractmethod
    def lines(self, image_hwc: UInt8[np.ndarray, "h w 3"]) -> list[Line]:
        """Lines of an RGB picture, left to right and top to bottom; none where no text is found."""


def joined(lines: Iterable[Line]) -> tuple[str, float]:
    """The lines with spaces between them, and their mean confidence; ("", 0.0) where there are none."""
    kept = [line for line in lines if line.text]
    if not kept:
        return "", 0.0
    return " ".join(line.text for line in kept), float(np.mean([line.confidence for line in kept]))


def box_of(x_px: Iterable[float], y_px: Iterable[float], size_px: tuple[int, int]) -> Box:
    """Normalised box around points in a picture of width and height ``size_px``, kept inside it."""
    xs, ys = (
        [min(max(x / size_px[0], 0.0), 1.0) for x in x_px],
        [min(max(y / size_px[1], 0.0), 1.0) for y in y_px],
    )
    return min(xs), min(ys), max(xs), max(ys)


def enlarged(image_hwc: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h2 w2 3"]:
    """A small picture four times as large; others as they are."""
    import cv2

    if max(image_hwc.shape[:2]) > ENLARGED_BELOW_PX:
        return image_hwc
    size = (image_hwc.shape[1] * ENLARGEMENT, image_hwc.shape[0] * ENLARGEMENT)
    return np.asarray(cv2.resize(image_hwc, size, interpolation=cv2.INTER_CUBIC), dtype=np.uint8)
