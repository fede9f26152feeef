"""Captions as people look at them: pictures with their sentences, and the sets side by side."""

from __future__ import annotations

import pyarrow as pa

from assets.pages.sheets import sheet_jpeg

NUM_SHOWN = 18


def caption_sheet(images: pa.Table, recaptions: pa.Table) -> bytes:
    """A JPEG of the first images (sample_id, image) with their best kept caption; none where all were dropped."""
    kept = recaptions.filter(recaptions["keep"]).sort_by([("caption_index", "descending")])
    captions = dict(zip(kept["sample_id"].to_pylist(), kept["caption"].to_pylist(), strict=True))
    shown = images.slice(0, NUM_SHOWN)
    texts = [captions.get(sample_id, "") for sample_id in shown["sample_id"].to_pylist()]
    return sheet_jpeg(shown["image"].to_pylist(), texts, columns=6, tile_px=128)


def statistics_markdown(table: pa.Table) -> str:
    """Rows of caption statistics as a Markdown table; columns of lists, which are drawn instead, are left out."""
    names = [field.name for field in table.schema if not pa.types.is_list(field.type)]
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    for row in table.select(names).to_pylist():
        cells = (_cell(value) for value in row.values())
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(value: object) -> str:
    """A figure with two decimals, or a text that cannot break the table: captions are untrusted."""
    if isinstance(value, float):
        return f"{value:,.2f}"
    if isinstance(value, int):
        return f"{value:,}"
    plain = " ".join(str(value).split())[:80]
    return "".join(f"\\{sign}" if sign in "\\`*_{}[]<>()#+-!|&" else sign for sign in plain)
