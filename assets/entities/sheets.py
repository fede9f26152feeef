"""Entities as people look at them: pictures with the kept boxes and their phrases."""

from __future__ import annotations

from collections import defaultdict

import pyarrow as pa

from assets.sheets import sheet_jpeg

NUM_SHOWN = 18


def entity_sheet(images: pa.Table, entities: pa.Table) -> bytes:
    """A JPEG of the first annotated images (sample_id, image) with the boxes and phrases of kept entities."""
    from evaluation.pictures import NamedBox

    boxes: dict[str, list[NamedBox]] = defaultdict(list)
    for row in entities.filter(entities["keep"]).to_pylist():
        x1, y1, x2, y2 = row["box_xyxy_norm"]
        boxes[row["sample_id"]].append(NamedBox(row["phrase"], (x1, y1, x2, y2)))
    rows = [row for row in images.to_pylist() if row["sample_id"] in boxes][:NUM_SHOWN]
    drawn = [boxes[row["sample_id"]] for row in rows]
    return sheet_jpeg([row["image"] for row in rows], boxes=drawn, columns=6, tile_px=160)
