"""Dagster loads these modules with its definitions: they must not pull in anything heavy."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("torch", "diffusers", "transformers", "open_clip", "duckdb", "ray", "matplotlib", "scipy", "jinja2")
MODULES = (
    "assets.pages.html",
    "assets.pages.sections",
    "assets.reports.ledger",
    "evaluation.tables.scores",
    "evaluation.analysis.printed",
    "evaluation.plots.basic",
    "evaluation.plots.contact_sheets",
    "evaluation.claims.exact",
    "evaluation.claims.comparison",
    "evaluation.scaling.laws",
    "evaluation.metrics.kid",
    "evaluation.metrics.registry",
    "assets.evaluation.leaderboard",
    "assets.evaluation.model_scores",
    "evaluation.metrics.alignment",
    "evaluation.judge",
)


@pytest.mark.parametrize("modules", [MODULES])
def test_nothing_heavy_is_imported(modules: tuple[str, ...]) -> None:
    code = f"import sys, {', '.join(modules)}; print([name for name in {HEAVY} if name in sys.modules])"
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert found.stdout.strip() == "[]"
