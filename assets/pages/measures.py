"""The one form in which measured figures about data and judges are kept: a value with its interval, chance and oracle."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa

if TYPE_CHECKING:
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


def measures_markdown(table: pa.Table) -> str:
    """Rows of :data:`MEASURES` as a Markdown table, figures to three digits, what cannot be known as a dash."""
    lines = [
        "| measure | of | on | value | 95 % interval | chance | perfect | items |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in table.to_pylist():
        interval = "" if row["low"] is None else f"{row['low']:.3f} to {row['high']:.3f}"
        figures = (_figure(row["value"]), interval, _figure(row["chance"]), _figure(row["oracle"]))
        cells = (row["measure"], row["subject"], row["split"], *figures, row["num_items"] or "")
        lines.append("| " + " | ".join(str(cell) for cell in cells) + " |")
    return "\n".join(lines)


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
