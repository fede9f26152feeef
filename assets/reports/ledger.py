"""The time ledger of the demo: what each stage may take on two idle cores, beside what it took."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from assets.pages.sections import Section, Sources
from assets.pages.tables import Bar, Cell, Column, Entry, Table
from training.errors import FoundryError


@dataclass(frozen=True)
class Stage:
    """One stage of the demo and its budget in wall seconds on two idle cores."""

    name: str
    about: str
    budget_seconds: float


DEMO_LEDGER: tuple[Stage, ...] = (
    Stage("start-up", "start-up of the orchestrator and its overhead", 17.0),
    Stage("scenes", "build, land and curate scenes", 8.0),
    Stage("embeddings", "autoencoder, text embeddings and latents", 35.0),
    Stage(
        "perception",
        "about 1,500 scenes, at most 4 crops at 128 px each, OCR on candidates at side 256",
        67.0,
    ),
    Stage("judge", "the judge that scores alignment", 32.0),
    Stage("backbones", "five transformers, three UNets, two more seeds", 72.0),
    Stage(
        "students",
        "shipped teachers, a few-step and a smaller student of them, a pruned model; beside the scaling grid",
        84.0,
    ),
    Stage("layout", "the shipped layout model: 24 held-out layouts drawn three ways, and looked at", 16.0),
    Stage(
        "writing", "the shipped writer: its layers swept, 8 words edited and 8 kept out in every way", 24.0
    ),
    Stage("scaling grid", "runs of the scaling grid and their scores", 46.0),
    Stage("evaluation", "generated samples, denoising errors, alignment, KID, layouts", 62.0),
    Stage("report", "tables, plots and this report", 12.0),
)
LEDGER_PROFILE = "demo"
LEDGER_FILE = "ledger.json"
"""Measured seconds by stage, in the workspace's folder."""
RESERVE_SECONDS = 5.0
"""Kept for what comes next; a stage that grows takes it from here, or names the stage it is taken from."""
TOTAL_SECONDS = 480.0


@dataclass(frozen=True)
class LedgerRow:
    """A stage with what it took. ``measured_seconds`` is None where it did not run (found fresh or not reached)."""

    name: str
    about: str
    budget_seconds: float
    measured_seconds: float | None

    @property
    def over_budget(self) -> bool:
        """Whether the stage took longer than it may."""
        return self.measured_seconds is not None and self.measured_seconds > self.budget_seconds


def ledger_rows(
    measured_seconds: Mapping[str, float], stages: tuple[Stage, ...] = DEMO_LEDGER
) -> list[LedgerRow]:
    """All stages in order, joined with measured seconds by stage name.

    Raises FoundryError for a measured stage that the ledger does not hold: time nobody planned for.
    """
    known = [stage.name for stage in stages]
    for name, seconds in measured_seconds.items():
        if name not in known:
            raise FoundryError(
                f"time ledger: found stage '{name}'; known are {', '.join(known)}; "
                "give it a budget and name the stage it is taken from"
            )
        if not 0 <= seconds < float("inf"):
            raise FoundryError(
                f"time ledger: stage '{name}' took {seconds} s; seconds are finite and not negative"
            )
    return [
        LedgerRow(stage.name, stage.about, stage.budget_seconds, measured_seconds.get(stage.name))
        for stage in stages
    ]


def ledger_total(rows: list[LedgerRow]) -> LedgerRow:
    """Sums: budgets of all stages, measured seconds of those that ran (None when none did)."""
    measured = [row.measured_seconds for row in rows if row.measured_seconds is not None]
    budget = sum((row.budget_seconds for row in rows), 0.0)
    return LedgerRow("total", "", budget, sum(measured, 0.0) if measured else None)


COLUMNS = (
    Column("Stage"),
    Column("Budget", ",.0f"),
    Column("Measured", ",.1f", "unknown"),
    Column("Share of budget"),
    Column("What it does"),
)


def ledger_section(sources: Sources) -> Section:
    """Wall seconds by stage, out of the workspace's ledger."""
    path = sources.models.runs.parent / LEDGER_FILE
    rows = ledger_rows(json.loads(path.read_text()) if path.exists() else {})
    about = "Wall seconds beside the budget for two idle cores; a stage without seconds was found fresh."
    return Section("Time", "ledger", [about], [ledger_table(rows)])


def ledger_table(rows: Sequence[LedgerRow]) -> Table:
    """Stages beside their budgets, and the sum."""
    total = ledger_total(list(rows))
    last: tuple[Entry, ...] = (total.name, total.budget_seconds, total.measured_seconds, "", "")
    return Table(COLUMNS, [*(_cells(row) for row in rows), last], totals=True)


def _cells(row: LedgerRow) -> tuple[Entry, ...]:
    about = Cell(note=row.about)
    if row.measured_seconds is None:
        return (row.name, row.budget_seconds, Cell("not run", tone="unknown"), "", about)
    measured = Cell(row.measured_seconds, tone="over" if row.over_budget else "")
    return (row.name, row.budget_seconds, measured, Bar(row.measured_seconds / row.budget_seconds), about)
