"""The way back from the largest transformer to landed shards; the model folders hold each model's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow.compute as pc

from assets.graph.lineage import as_records, trace
from assets.pages.sections import Section, Sources
from assets.pages.tables import Cell, Column, Entry, Table
from evaluation.metrics.metric import ALL_SPLITS

COLUMNS = (Column("Asset"), Column("Partition"), Column("Version"), Column("Made from"))
INPUTS_SHOWN = 8


def lineage_section(sources: Sources) -> Section:
    """Every version between the largest evaluated model and what landed."""
    return Section(
        "Lineage",
        "lineage",
        ["From the landed pictures to this report: content digests, so equal digests mean equal bytes."],
        [Table(COLUMNS, _rows(sources))],
        missing="Materialize evaluation_table.",
    )


def _rows(sources: Sources) -> list[tuple[Entry, ...]]:
    table = sources.table("evaluation_table")
    if table is None or not table.num_rows:
        return []
    rows = table.filter(pc.equal(table["split"], ALL_SPLITS)).sort_by([("parameters", "descending")])
    records = as_records(trace(sources.store, "backbone", rows["recipe"][0].as_py()))
    return [_cells(record) for record in records if "asset" in record]


def _cells(record: Mapping[str, Any]) -> tuple[Entry, ...]:
    name, _, partition = record["version"].partition("@")
    made_from = sorted(record["made_from"])
    more = len(made_from) - INPUTS_SHOWN
    label = [*made_from[:INPUTS_SHOWN], *([f"and {more} more"] if more > 0 else [])]
    return (name, partition, Cell(record["digest"][:12], code=True), ", ".join(label))
