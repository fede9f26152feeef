"""The one form in which measured figures about data and judges are kept: a value with its interval, chance and oracle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from assets.pages.tables import Column, Table
from evaluation.intervals import Interval

MEASURES = pa.schema(
    [
        pa.field("measure", pa.string(), False, {"description": "what was measured"}),
        pa.field(
            "subject", pa.string(), False, {"description": "what it was measured on: a table or a model"}
        ),
        pa.field("split", pa.string(), False, {"description": "on which samples"}),
        pa.field("value", pa.float64(), True, {"description": "the figure, empty where it cannot be known"}),
        pa.field("low", pa.float64(), True, {"description": "lower end of the 95 % interval"}),
        pa.field("high", pa.float64(), True, {"description": "upper end of the 95 % interval"}),
        pa.field("num_items", pa.int64(), True, {"description": "independent items behind the figure"}),
        pa.field("chance", pa.float64(), True, {"description": "what guessing gets"}),
        pa.field("oracle", pa.float64(), True, {"description": "what a perfect answer gets"}),
        pa.field("remark", pa.string(), False, {"description": "how to read it"}),
    ]
)
MEASURE_COLUMNS = (
    Column("Measure"),
    Column("Of"),
    Column("Group"),
    Column("Value", ",.3f", "unknown", note="95 %"),
    Column("n", ","),
    Column("Guessing", ",.3f"),
    Column("Perfect", ",.3f"),
    Column("Remark"),
)


def measure(
    name: str,
    split: str,
    value: Interval | None,
    *,
    subject: str = "",
    chance: float | None = None,
    oracle: float | None = None,
    remark: str = "",
) -> dict[str, Any]:
    """One row of :data:`MEASURES`."""
    return {
        "measure": name,
        "subject": subject,
        "split": split,
        "value": None if value is None else value.value,
        "low": None if value is None else value.low,
        "high": None if value is None else value.high,
        "num_items": None if value is None else value.count,
        "chance": chance,
        "oracle": oracle,
        "remark": remark,
    }


def measures_table(measured: pa.Table, title: str = "") -> Table:
    """Rows of :data:`MEASURES` as people read them; a figure that cannot be known reads unknown."""
    rows = [
        (
            row["measure"],
            row["subject"],
            row["split"],
            None if row["value"] is None else Interval(row["value"], row["low"], row["high"]),
            row["num_items"],
            row["chance"],
            row["oracle"],
            row["remark"],
        )
        for row in measured.to_pylist()
    ]
    return Table(MEASURE_COLUMNS, rows, title)


def interval_of(row: Mapping[str, Any], name: str) -> Interval | float | None:
    """A figure of a row with the ends that stand beside it as ``name_low`` and ``name_high``; bare where they are missing."""
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    return row[name] if row[name] is None or low is None else Interval(row[name], low, high)
