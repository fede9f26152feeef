"""Entities as people look at them: pictures with the kept boxes and their phrases."""

from __future__ import annotations

from collections import defaultdict

import pyarrow as pa

NUM_SHOWN = 18


def entity_sheet(images: pa.Table, entities: pa.Table) -> bytes:
    """A JPEG of the first annotated images (sample_id, image) with the boxes and phrases of kept entities."""
    from assets.corpus.image_io import decode_rgb
    from evaluation.pictures import NamedBox, contact_sheet, inline_jpeg

    boxes: dict[str, list[NamedBox]] = defaultdict(list)
    for row in entities.filter(entities["keep"]).to_pylist():
        x1, y1, x2, y2 = row["box_xyxy_norm"]
        boxes[row["sample_id"]].append(NamedBox(row["phrase"], (x1, y1, x2, y2)))
    rows = [row for row in images.to_pylist() if row["sample_id"] in boxes][:NUM_SHOWN]
    pictures = [decode_rgb(row["image"]) for row in rows]
    if not pictures:
        pictures, rows = [decode_rgb(images["image"][0].as_py())], images.slice(0, 1).to_pylist()
    sheet = contact_sheet(
        pictures, boxes=[boxes.get(row["sample_id"], []) for row in rows], columns=6, tile=160
    )
    return inline_jpeg(sheet)
