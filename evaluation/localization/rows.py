"""A sweep as rows of a table, and as people read it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa

from evaluation.intervals import Interval
from evaluation.localization.sweep import ALL, Localization, Row, SweepSettings
from evaluation.tables.localization import TEXT_LAYER_SCORES


def localization_table(
    found: Localization, settings: SweepSettings, read_by: str, about: Mapping[str, str]
) -> pa.Table:
    """Rows of :data:`evaluation.tables.localization.TEXT_LAYER_SCORES`.

    ``about``: kind, recipe and model_digest of the model.
    """
    same = {
        **about,
        "chance": found.chance.value,
        "num_pairs": found.chance.count,
        "num_steps": settings.steps,
        "guidance": settings.guidance,
        "start": settings.window.start,
        "read_by": read_by,
    }
    rows = [{**_told(row, what, index, found), **same} for row, what, index in _all_rows(found)]
    return pa.Table.from_pylist(rows, schema=TEXT_LAYER_SCORES)


def _all_rows(found: Localization) -> Iterator[tuple[Row, str, int | None]]:
    for index, row in enumerate(found.layers):
        yield row, "layer", index
    for row in found.groups:
        yield row, "group", None
    for row in found.references.values():
        yield row, "reference", None
    for row in found.carriers.values():
        yield row, "carrier", None


def _told(row: Row, what: str, index: int | None, found: Localization) -> dict[str, Any]:
    return {
        "what": what,
        "name": row.name,
        "layers": list(row.layers) if row.name != ALL else [layer.name for layer in found.layers],
        "layer_index": index,
        "chosen": what in ("layer", "group") and row.layers == found.chosen.layers,
        "key_value_parameters": row.parameters,
        "share": row.parameters / found.num_parameters,
        **_bounds("to_target", row.to_target),
        **_bounds("to_source", row.to_source),
        **_bounds("ssim", row.ssim),
        **_bounds("psnr_db", row.psnr_db),
    }


def _bounds(name: str, found: Interval) -> dict[str, float]:
    return {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}
