"""What the report says of perception: captions and annotations against the truth that perception never saw."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from assets.pages.measures import measures_table
from assets.pages.sections import Section, Sources
from evaluation.metrics.grouped_counts import NUMBERS_OF_OBJECTS


def perception_section(sources: Sources) -> Section:
    """Measures of ``data_quality`` but those by number of objects, which are drawn; and what entities look like."""
    measured = sources.table("data_quality")
    return Section(
        "Perception",
        "perception",
        [
            "Captions, boxes, names and attributes, made from pixels alone, scored against what the scene builder drew and "
            "perception never saw; agreement between annotators where there are two; and what the judge says of the "
            "captions."
        ],
        [] if measured is None else [measures_table(_without_numbers(measured))],
        [*sources.figures("data_quality_figures"), *sources.figures("entity_figures")],
        missing="Materialize data_quality.",
    )


def _without_numbers(measured: pa.Table) -> pa.Table:
    by_number = pc.is_in(measured["split"], value_set=pa.array(NUMBERS_OF_OBJECTS, pa.string()))
    return measured.filter(pc.invert(by_number))
