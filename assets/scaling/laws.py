"""Scaling laws per family, on the metric that all targets share."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from assets.pages.tables import Cell, Column, Table

if TYPE_CHECKING:
    from evaluation.scaling.laws import Law

ABSCISSAS = ("parameters", "training_gflops")
METRICS = ("denoising_error", "judge_cosine")
Form = Literal["saturating", "pure"]
GRID_PREFIX = "grid."
FORMS: tuple[Form, ...] = ("saturating", "pure")


@dataclass(frozen=True)
class FamilyFit:
    """One family's law: ``metric`` over ``abscissa``. A score is fitted as what is missing to 1."""

    family: str
    metric: str
    abscissa: str
    x: np.ndarray
    y: np.ndarray
    noise: np.ndarray | None
    law: Law


def fit_families(observations: pa.Table, resamples: int) -> list[FamilyFit]:
    """A saturating and a pure power law for every family, metric and abscissa.

    The pure form is the one the papers print; the law itself says when the data cannot tell.
    """
    families = sorted(set(observations["family"].to_pylist()))
    return [
        _fit(observations, family, metric, abscissa, form, resamples)
        for metric in METRICS
        for family in families
        for abscissa in ABSCISSAS
        for form in FORMS
    ]


def of_recipes(observations: pa.Table) -> pa.Table:
    """Observations of the profile's recipes, without those of the grid: its learning curves are of other lengths."""
    return observations.filter(pc.invert(pc.starts_with(observations["recipe"], GRID_PREFIX)))


def seed_noise(observations: pa.Table, metric: str) -> float | None:
    """Standard deviation over training seeds, pooled over the sizes that have several; None without any.

    All models are scored on the same samples, so that the noise of sampling them shifts all points together and says
    nothing about their order; what scatters them is the seed. It is drawn as error bars; the fit takes its noise from
    the residuals, which hold it with the right degrees of freedom.
    """
    rows = observations.filter(pc.equal(observations["metric"], metric))
    groups: dict[tuple[str, int], list[float]] = {}
    for row in rows.to_pylist():
        groups.setdefault((row["family"], row["parameters"]), []).append(row["value"])
    repeated = [np.array(values) for values in groups.values() if len(values) > 1]
    if not repeated:
        return None
    squares = sum(float(((values - values.mean()) ** 2).sum()) for values in repeated)
    return float(np.sqrt(squares / sum(len(values) - 1 for values in repeated))) or None


def laws_table(fits: list[FamilyFit]) -> pa.Table:
    """Plain rows: parameters and intervals where there are any, the reason where there are none."""
    return pa.Table.from_pylist(
        [
            {
                "family": fit.family,
                "metric": fit.metric,
                "abscissa": fit.abscissa,
                "form": fit.law.form,
                "num_points": fit.law.num_points,
                "num_sizes": fit.law.num_sizes,
                "identifiable": fit.law.identifiable,
                "equation": fit.law.equation(),
                "exponent": _part(fit.law, "value"),
                "exponent_low": _part(fit.law, "low"),
                "exponent_high": _part(fit.law, "high"),
            }
            for fit in fits
        ],
        schema=LAWS,
    )


LAWS = pa.schema(
    [
        ("family", pa.string()),
        ("metric", pa.string()),
        ("abscissa", pa.string()),
        ("form", pa.string()),
        ("num_points", pa.int64()),
        ("num_sizes", pa.int64()),
        ("identifiable", pa.bool_()),
        ("equation", pa.string()),
        ("exponent", pa.float64()),
        ("exponent_low", pa.float64()),
        ("exponent_high", pa.float64()),
    ]
)


COLUMNS = (
    Column("Family"),
    Column("Metric"),
    Column("Form"),
    Column("Points", ","),
    Column("Sizes", ","),
    Column("Law"),
)


def laws_view(fits: Sequence[FamilyFit]) -> Table:
    """The laws as people read them, with the reason where there is none."""
    rows = [
        (
            fit.family,
            f"{fit.metric} over {fit.abscissa}",
            fit.law.form,
            fit.law.num_points,
            fit.law.num_sizes,
            Cell(fit.law.equation(), tone="" if fit.law.identifiable else "unknown"),
        )
        for fit in fits
    ]
    return Table(COLUMNS, rows)


def law_plot(fits: Sequence[FamilyFit], metric: str, abscissa: str) -> bytes:
    """PNG of all families' points, with line and band only where a law is identifiable."""
    from evaluation.plots.basic import FamilyPoints, scaling_plot

    same = [fit for fit in fits if fit.metric == metric and fit.abscissa == abscissa]
    families = sorted({fit.family for fit in same})
    chosen = [_drawn([fit for fit in same if fit.family == family]) for family in families]
    points = [FamilyPoints(fit.family, fit.x, fit.y, fit.noise, fit.law) for fit in chosen]
    labels = {"parameters": "parameters", "training_gflops": "training compute (GFLOP)"}
    names = {"denoising_error": "held-out denoising error", "judge_cosine": "judge cosine"}
    title = f"{names[metric].capitalize()} over {labels[abscissa]}"
    return scaling_plot(points, title=title, x_label=labels[abscissa], y_label=names[metric])


def law_picture(observations: pa.Table, fits: list[FamilyFit]) -> bytes:
    """A small JPEG of the main plot, for the asset page."""
    from PIL import Image

    from evaluation.plots.contact_sheets import inline_jpeg

    png = law_plot(fits, "denoising_error", "parameters")
    return inline_jpeg(Image.open(io.BytesIO(png)).convert("RGB"), max_bytes=80_000)


def _drawn(forms: list[FamilyFit]) -> FamilyFit:
    """The form whose line is drawn: the saturating one where it can be told, else the pure one."""
    return next((fit for fit in forms if fit.law.identifiable), forms[0])


def _fit(
    observations: pa.Table, family: str, metric: str, abscissa: str, form: Form, resamples: int
) -> FamilyFit:
    from evaluation.scaling.laws import fit_law

    chosen = pc.and_(pc.equal(observations["family"], family), pc.equal(observations["metric"], metric))
    rows = observations.filter(chosen)
    x = rows[abscissa].to_numpy().astype(np.float64)
    y = rows["value"].to_numpy().astype(np.float64)
    spread = seed_noise(observations, metric)
    noise = None if spread is None else np.full(len(y), spread)
    ceiling = 1.0 if metric == "judge_cosine" else None
    law = fit_law(x, y, form=form, ceiling=ceiling, resamples=resamples)
    return FamilyFit(family, metric, abscissa, x, y, noise, law)


def _part(law: Law, name: str) -> float | None:
    return None if law.parameters is None else float(getattr(law.parameters["b"], name))
