"""Captions as people look at them: pictures with their sentences, and the sets side by side."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from assets.sheets import sheet_jpeg

NUM_SHOWN = 18


def caption_sheet(images: pa.Table, recaptions: pa.Table) -> bytes:
    """A JPEG of the first images (sample_id, image) with their first generated caption."""
    first = recaptions.filter(pc.equal(recaptions["caption_index"], 1))
    captions = dict(zip(first["sample_id"].to_pylist(), first["caption"].to_pylist(), strict=True))
    shown = images.slice(0, NUM_SHOWN)
    texts = [captions.get(sample_id, "") for sample_id in shown["sample_id"].to_pylist()]
    return sheet_jpeg(shown["image"].to_pylist(), texts, columns=6, tile_px=128)


def statistics_markdown(table: pa.Table) -> str:
    """Rows of caption statistics as a Markdown table."""
    names = table.column_names
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    for row in table.to_pylist():
        cells = (f"{value:,.2f}" if isinstance(value, float) else f"{value}" for value in row.values())
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)
