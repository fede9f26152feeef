"""Claims as people read them: what was published, what was measured, and how it went."""

from __future__ import annotations

from collections.abc import Sequence

from assets.pages.tables import Cell, Column, Entry, Table
from evaluation.claims.registry import ClaimResult

COLUMNS = (
    Column("Claim"),
    Column("Published"),
    Column("Measured"),
    Column("Status"),
    Column("Profile"),
    Column("n", ","),
    Column("Seeds", ","),
)


def claims_table(results: Sequence[ClaimResult]) -> Table:
    """Claims beside their measurements; one that nobody has measured says so."""
    return Table(COLUMNS, [_cells(result) for result in results])


def _cells(result: ClaimResult) -> tuple[Entry, ...]:
    claim, found = result.claim, result.measurement
    statement = Cell(claim.statement, below=claim.paper)
    tone = "unknown" if found is None else result.status
    status = Cell(result.status, tone=tone)
    if found is None:
        return (statement, claim.published, "", status, "", None, None)
    ends = found.interval
    note = "" if ends is None else f"({ends.low:,.4f} to {ends.high:,.4f})"
    measured = Cell(found.measured, note=note, below=found.remark)
    return (
        statement,
        claim.published,
        measured,
        status,
        found.profile,
        found.num_items,
        found.num_seeds or None,
    )
