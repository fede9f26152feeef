"""What the report says of scaling: fitted laws, the paper's own, and the grid of runs that differ in one thing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from assets.pages.sections import Figure, Section, Sources
from assets.pages.tables import Cell, Column, Entry, Table
from assets.scaling.laws import FamilyFit, fit_families, law_plot, laws_view, of_recipes
from assets.scaling.summary import efficiency_view, grid_measurements, summarise
from evaluation.claims.registry import Measurement

RESAMPLES = 2000
PRINTED_COLUMNS = (
    Column("In"),
    Column("As printed"),
    Column("TIFA over its plot"),
    Column("Possible"),
    Column("Remark"),
)
PLOTS = (
    ("Held-out denoising error over size", "denoising_error", "parameters"),
    ("Held-out denoising error over compute", "denoising_error", "training_gflops"),
    ("Judge's cosine over size", "judge_cosine", "parameters"),
)


def laws_section(sources: Sources) -> Section:
    """Scaling laws of the profile's recipes, beside the laws that the paper prints."""
    observations = sources.table("scaling_observations")
    fits = [] if observations is None else fit_families(of_recipes(observations), resamples=RESAMPLES)
    return Section(
        "Scaling laws",
        "scaling",
        [
            "A law is drawn only where the data can tell it: at least five sizes, a bounded exponent and a change beyond "
            "the noise."
        ],
        [laws_view(fits), _printed_laws()],
        _plots(fits),
        missing="Materialize scaling_observations.",
    )


def _plots(fits: Sequence[FamilyFit]) -> list[Figure]:
    if not fits:
        return []
    return [Figure(title, law_plot(fits, metric, abscissa)) for title, metric, abscissa in PLOTS]


def _printed_laws() -> Table:
    from evaluation.scaling.printed import COMPUTE_LAW, DATA_LAW, PARAMETER_LAW

    rows: list[tuple[Entry, ...]] = [
        (
            law.symbol,
            f"S = {law.coefficient} {law.symbol}^{law.exponent}",
            ", ".join(f"{law.score(x):,.3f}" for x in law.plot_x),
            Cell("yes", tone="yes") if law.possible else Cell("no, above 1", tone="no"),
            law.remark,
        )
        for law in (COMPUTE_LAW, PARAMETER_LAW, DATA_LAW)
    ]
    return Table(PRINTED_COLUMNS, rows, title="The paper's own laws")


def grid_section(sources: Sources) -> Section:
    """The grid's learning curves and what its cells need to reach a score; empty where the profile has none."""
    about = (
        "Runs that differ in one thing at a time, scored at log-spaced counts of images on the same held-out samples and "
        "noise. Images to reach a score: interpolated between counts, geometric mean over seeds with its 95 % interval."
    )
    if sources.models.grid is None:
        return Section("Scaling grid", "grid", [about], missing="The profile has no grid.")
    summary = summarise(sources.store, sources.models)
    states = ", ".join(f"{count} {state}" for state, count in summary.totals.items())
    title = "Held-out denoising error over images seen"
    return Section(
        "Scaling grid",
        "grid",
        [about, f"Points: {states}."],
        [efficiency_view(summary.efficiency)],
        [] if summary.figure is None else [Figure(title, summary.figure)],
        missing="Materialize scaling_scores.",
    )


def measurements(sources: Sources) -> Mapping[str, Measurement]:
    """What the grid says of claims."""
    return grid_measurements(sources.store, sources.models)
