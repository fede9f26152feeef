"""Captions as people look at them: pictures with their sentences, and the sets side by side."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from assets.pages.markdown import markdown_table
from assets.pages.sheets import sheet_jpeg
from assets.pages.tables import Column, Table
from evaluation.plots.contact_sheets import safe_text

NUM_SHOWN = 18
CHARACTERS_SHOWN = 80


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
    columns = [Column(name, _form(table.schema.field(name).type)) for name in names]
    rows = [[_shortened(value) for value in row.values()] for row in table.select(names).to_pylist()]
    return markdown_table(Table(columns, rows))


def _form(kind: pa.DataType) -> str:
    if pa.types.is_floating(kind):
        return ",.2f"
    return "," if pa.types.is_integer(kind) else ""


def _shortened(value: Any) -> Any:
    return safe_text(value, CHARACTERS_SHOWN) if isinstance(value, str) else value
