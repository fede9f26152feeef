"""Perception looks at pictures that models drew, from pixels alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
import pyarrow as pa
from jaxtyping import UInt8

from assets.graph.asking import answer_of, required
from assets.graph.interfaces import Perception

if TYPE_CHECKING:
    from evaluation.metrics.placement import Found

LookingRole = Literal["closed_set", "regions"]
"""``closed_set`` names every region by the closest concept of its bank, ``regions`` only where it is sure."""


def look_at(
    images: UInt8[np.ndarray, "n h w 3"], ids: Sequence[str], perception: Perception, role: LookingRole
) -> dict[str, list[Found]]:
    """What perception finds and names in each picture, by its id. Raises FoundryError where the role is empty."""
    from assets.corpus.image_io import encode_png
    from evaluation.metrics.placement import Found

    answer = answer_of(required(perception, role))
    rows = answer(pa.table({"sample_id": list(ids), "image": [encode_png(image) for image in images]}))
    found: dict[str, list[Found]] = {key: [] for key in ids}
    columns = (rows[name].to_pylist() for name in ("sample_id", "names", "box_xyxy_norm", "color"))
    for key, names, box, color in zip(*columns, strict=True):
        if names:
            found[key].append(Found(names[0], tuple(box), color))
    return found
