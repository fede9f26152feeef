"""The report's section on the scaling grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from assets.graph.interfaces import Models, Store
from assets.reports.data import EfficiencyRow, Figure
from evaluation.claims.registry import Measurement


@dataclass(frozen=True)
class GridSection:
    """What the report shows of the grid; empty where there is none."""

    facts: str = ""
    figures: Sequence[Figure] = ()
    efficiency: Sequence[EfficiencyRow] = ()
    claims: Mapping[str, Measurement] = field(default_factory=dict)


def grid_section(store: Store, models: Models) -> GridSection:
    """The grid's curves, efficiency and claims, out of what is scored."""
    from assets.scaling.summary import summarise

    if models.grid is None:
        return GridSection()
    summary = summarise(store, models)
    states = ", ".join(f"{count} {state}" for state, count in summary.totals.items())
    figures = []
    if summary.figure is not None:
        figures.append(Figure("Held-out denoising error over images seen", summary.figure))
    rows = [
        EfficiencyRow(
            f"{row['size']}.{row['data']}.{row['mix']}",
            row["target"],
            row["reached"],
            row["seeds"],
            row["outcome"],
            row["gflops"],
        )
        for row in summary.efficiency.to_pylist()
    ]
    return GridSection(f"Points: {states}.", figures, rows, summary.claims)
