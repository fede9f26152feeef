"""Depth maps and masks of composed scenes, from the hidden truth table: what layout control is held against.

Nothing that perceives or captions reads them. Depth lies in [0, 1]: 0 is the background (and the word, which is
printed on it), 1 the nearest object, with even steps between.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32

from evaluation.perception.run_lengths import decode_mask
from training.errors import FoundryError

LAYOUT_COLUMNS = ("objects", "visible_masks_rle", "mask_size")
"""Columns of ``scene_truth`` that a row must have here."""


def visible_masks(row: Mapping[str, Any]) -> Bool[np.ndarray, "n h w"]:
    """Visible pixels of each object of a scene, back to front, at the size at which the scene was composed.

    Args:
        row: a row of ``scene_truth`` with :data:`LAYOUT_COLUMNS`.

    Raises:
        FoundryError: the row is from a landing that was made before there were masks.
    """
    missing = [name for name in LAYOUT_COLUMNS if row.get(name) is None]
    if missing:
        raise FoundryError(
            f"scene_truth lacks {', '.join(missing)}: these scenes were landed before there were masks and depth. "
            "Land them again with: foundry make demo_scenes. The pictures stay as they are."
        )
    height, width = row["mask_size"]
    masks: Bool[np.ndarray, "n h w"] = np.zeros((len(row["objects"]), height, width), bool)
    for index, text in enumerate(row["visible_masks_rle"]):
        masks[index] = decode_mask(text, height, width)
    return masks


def depth_map(row: Mapping[str, Any]) -> Float32[np.ndarray, "h w"]:
    """Depth of each pixel of a scene, in [0, 1]: 0 for the background, larger is nearer. As :func:`visible_masks`."""
    masks = visible_masks(row)
    depths = np.array([item["depth"] for item in row["objects"]], np.float32)
    # No pixel belongs to two objects, so the largest is the only one.
    return np.max(masks * depths[:, None, None], axis=0, initial=np.float32(0))
