"""Entities as people look at them: pictures with boxes and phrases, what was kept solid and what was dropped dashed."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import pyarrow as pa

from assets.pages.sheets import sheet_jpeg

NUM_SHOWN, MAX_DROPPED_SHOWN = 18, 3


def entity_sheet(images: pa.Table, entities: pa.Table) -> bytes:
    """A JPEG of the first annotated images (sample_id, image) with their entities.

    Kept entities have solid boxes and their phrase; of the dropped ones the best few have dashed boxes and the reason.
    """
    from evaluation.plots.contact_sheets import NamedBox

    kept: dict[str, list[NamedBox]] = defaultdict(list)
    dropped: dict[str, list[NamedBox]] = defaultdict(list)
    for row in entities.sort_by([("score", "descending"), ("entity_index", "ascending")]).to_pylist():
        boxes = kept[row["sample_id"]] if row["keep"] else dropped[row["sample_id"]]
        if row["keep"] or len(boxes) < MAX_DROPPED_SHOWN:
            boxes.append(NamedBox(row["phrase"], _box(row), "" if row["keep"] else row["dropped_because"]))
    annotated = {*kept, *dropped}
    rows = [row for row in images.to_pylist() if row["sample_id"] in annotated][:NUM_SHOWN]
    drawn = [[*kept[row["sample_id"]], *dropped[row["sample_id"]]] for row in rows]
    return sheet_jpeg([row["image"] for row in rows], boxes=drawn, columns=6, tile_px=160)


def _box(row: dict[str, Any]) -> tuple[float, float, float, float]:
    x1, y1, x2, y2 = row["box_xyxy_norm"]
    return x1, y1, x2, y2
