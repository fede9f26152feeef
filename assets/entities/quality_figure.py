"""Data quality as a picture: how figures fall with the number of objects in an image."""

from __future__ import annotations

import pyarrow as pa

SHOWN = {
    "object_recall": "objects named",
    "box_recall": "objects boxed",
    "box_mean_iou": "mean IoU",
    "color_accuracy": "colours right",
}
"""Measure -> title of its panel, left to right."""


def quality_figure(table: pa.Table) -> bytes | None:
    """PNG of bars per number of objects, a series an annotator and one for the kept annotations.

    None where nothing is known of any of them (no truth table).

    Args:
        table: rows of :data:`assets.pages.measures.MEASURES`, such as :func:`assets.entities.quality.quality_table` gives.
    """
    from evaluation.intervals import Interval
    from evaluation.metrics.grouped_counts import NUMBERS_OF_OBJECTS
    from evaluation.plots.panels import Panel, panels_of_bars

    found = {
        (row["measure"], row["subject"], row["split"]): Interval(
            row["value"], row["low"], row["high"], count=row["num_items"]
        )
        for row in table.to_pylist()
        if row["value"] is not None
    }
    panels = []
    for measure_name, title in SHOWN.items():
        subjects = sorted({subject for name, subject, _ in found if name == measure_name})
        series = {
            subject: [found.get((measure_name, subject, group)) for group in NUMBERS_OF_OBJECTS]
            for subject in subjects
        }
        if series:
            panels.append(Panel(title, series))
    return panels_of_bars(panels, NUMBERS_OF_OBJECTS) if panels else None
