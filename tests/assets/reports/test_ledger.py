"""The time ledger adds up and accepts no time that nobody planned for."""

from __future__ import annotations

import pytest

from assets.reports.ledger import (
    DEMO_LEDGER,
    RESERVE_SECONDS,
    TOTAL_SECONDS,
    ledger_rows,
    ledger_total,
)
from training.errors import FoundryError


def test_budgets_leave_room_for_their_reserve() -> None:
    planned = sum(stage.budget_seconds for stage in DEMO_LEDGER) + RESERVE_SECONDS
    assert planned == TOTAL_SECONDS


def test_measured_seconds_stand_beside_their_budget() -> None:
    rows = ledger_rows({"judge": 41.0, "scenes": 2.0})
    by_name = {row.name: row for row in rows}
    assert [row.name for row in rows] == [stage.name for stage in DEMO_LEDGER]
    assert by_name["judge"].over_budget
    assert not by_name["scenes"].over_budget
    assert by_name["report"].measured_seconds is None
    assert ledger_total(rows).measured_seconds == 43.0
    assert ledger_total(ledger_rows({})).measured_seconds is None


def test_unplanned_time_is_refused() -> None:
    with pytest.raises(FoundryError, match="found stage 'coffee'; known are start-up, scenes"):
        ledger_rows({"coffee": 1.0})
    with pytest.raises(FoundryError, match="'judge' took nan"):
        ledger_rows({"judge": float("nan")})
