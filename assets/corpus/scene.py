"""A scene with all that its builder knows: what every builder gives, whatever world it draws."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8

from assets.corpus import art

BoxNorm = tuple[float, float, float, float]
"""x1, y1, x2, y2, each in [0, 1]."""


@dataclass(frozen=True)
class SceneObject:
    """One object.

    ``name`` is its concept's, ``color`` the colour word that the world gives it or empty; ``phrase`` tells it from
    other looks of the concept ("red heart"; "dog" where there is one look). ``box_xyxy_norm`` is its extent before
    occlusion, ``depth_order`` its place from back (0) to front, ``depth`` the same in (0, 1]: 1 is the nearest object
    and the steps between objects, and from the background at 0 to the first, are even.
    """

    name: str
    box_xyxy_norm: BoxNorm
    depth_order: int
    visible_fraction: float
    color: str
    phrase: str
    depth: float


@dataclass(frozen=True)
class Scene:
    """A picture, its alt-text and the truth about it.

    ``objects`` run from back to front, as do their ``visible_masks_rle``: the pixels of each that nothing in front
    covers, as compressed run lengths (:mod:`evaluation.perception.run_lengths`) of a mask of ``mask_size`` pixels
    (height, width), the size at which the scene was composed.
    """

    image: UInt8[np.ndarray, "h w 3"]
    alt_text: str
    objects: tuple[SceneObject, ...]
    visible_masks_rle: tuple[str, ...]
    mask_size: tuple[int, int]
    word: str
    word_box_xyxy_norm: BoxNorm | None
    background: str
    key: str
    split: str
    license: str = art.LICENSE
    attribution: str = art.ATTRIBUTION
