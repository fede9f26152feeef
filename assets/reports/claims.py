"""The papers' claims beside what every system measured for them."""

from __future__ import annotations

from assets.evaluation import report_section as evaluation
from assets.layout import report_section as layout
from assets.pages.claims import claims_table
from assets.pages.sections import Section, Sources
from assets.scaling import report_section as scaling
from assets.writing import report_section as writing
from evaluation.claims.registry import ClaimResult, claim_results

MEASUREMENTS = (scaling.measurements, evaluation.measurements, layout.measurements, writing.measurements)
"""What each system measured, by name of the claim; a system that measures claims adds its function here."""


def measured_claims(sources: Sources) -> list[ClaimResult]:
    """All claims in order: exact ones by arithmetic, empirical ones by what was trained here."""
    from evaluation.claims.exact import exact_measurements

    measured = dict(exact_measurements())
    for of_system in MEASUREMENTS:
        measured |= of_system(sources)
    return claim_results(measured)


def claims_section(sources: Sources) -> Section:
    """Every claim with its status."""
    about = "Headline claims of the papers. A claim that fails is shown as failed."
    return Section("Claims", "claims", [about], [claims_table(measured_claims(sources))])
