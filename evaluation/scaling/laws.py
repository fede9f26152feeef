"""Scaling laws: ``y = E + A x^-b`` fitted by variable projection, with an interval and an honest refusal.

For a fixed exponent ``b`` the law is linear in ``E`` and ``A``; so only ``b`` is searched (a grid, then
golden sections), for all resamples at once. A law that the data cannot tell comes back as *not
identifiable*, with the reason and without a curve.

Two forms:

``saturating``  ``y = E + A x^-b`` with E, A >= 0. A score with a known maximum: ``ceiling - score``.
``pure``        ``y = A x^-b`` with A >= 0 and b of either sign (the form the paper prints).

Resampling is parametric: new noise around the fitted curve, of the known size where it is given (widened when
the misfit is larger than that noise explains) or else of the size of the residuals. In the second case each
resample also draws its noise level, so that few points give wide (Student) intervals rather than narrow ones.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from evaluation.intervals import Interval
from evaluation.scaling.projection import FORM_PARAMETERS, Form, exponent_grid, fit_many, profile_misfit
from training.errors import FoundryError

MINIMUM_SIZES = 5
"""Distinct x below which no law is fitted: three parameters through four points prove nothing."""

MAXIMUM_EXPONENT_RATIO = 10.0
"""A saturating law whose exponent is only known to within a wider factor says nothing about its shape."""

BISECTIONS = 20  # from a grid cell to a millionth of it


@dataclass(frozen=True)
class Law:
    """A fitted law, or the reason why there is none.

    ``num_points`` counts observations, ``num_sizes`` distinct x. ``parameters`` and ``draws`` (columns E,
    A, b; one row a resample; A belongs to x in ``unit_x``) are None unless ``identifiable``.
    """

    form: Form
    identifiable: bool
    reason: str
    num_points: int
    num_sizes: int
    x_min: float
    x_max: float
    unit_x: float = 1.0
    ceiling: float | None = None
    level: float = 0.95
    misfit_ratio: float | None = None
    exponent_interval: tuple[float, float] | None = None
    parameters: dict[str, Interval] | None = None
    draws: Float[ndarray, "resamples 3"] | None = None

    def curve(self, x: Float[ndarray, " n"]) -> Float[ndarray, " n"]:
        """Fitted y at ``x``. Raises FoundryError for a law that is not identifiable."""
        parameters, _ = self._fitted()
        values = np.array([[parameters[name].value for name in ("E", "A", "b")]])
        return self._outward(_evaluate(values, x / self.unit_x))[0]

    def band(self, x: Float[ndarray, " n"]) -> tuple[Float[ndarray, " n"], Float[ndarray, " n"]]:
        """Pointwise interval of the curve at ``x``: low and high ends. Raises FoundryError as ``curve``."""
        _, draws = self._fitted()
        tail = (1.0 - self.level) / 2
        values = self._outward(_evaluate(draws, x / self.unit_x))
        low, high = np.quantile(values, [tail, 1.0 - tail], axis=0)
        return low, high

    def equation(self) -> str:
        """One line for people: the law with its exponent's interval, or why there is none."""
        if self.parameters is None:
            return f"not identifiable: {self.reason}"
        E, A, b = (self.parameters[name] for name in ("E", "A", "b"))
        # A at x = 1 is what papers print; inside we keep it at the middle of the data, where it is stable.
        power = f"{A.value * self.unit_x**b.value:.4g} x^{-b.value:+.4f}"
        body = power if self.form == "pure" else f"{E.value:.4g} + {power}"
        head = "y" if self.ceiling is None else f"{self.ceiling:g} - y"
        return f"{head} = {body}; b {b.value:.4f} ({b.low:.4f} to {b.high:.4f})"

    def _outward(self, values: Float[ndarray, "r n"]) -> Float[ndarray, "r n"]:
        return values if self.ceiling is None else self.ceiling - values

    def _fitted(self) -> tuple[dict[str, Interval], Float[ndarray, "resamples 3"]]:
        if self.parameters is None or self.draws is None:
            raise FoundryError(
                f"scaling law: found no curve (not identifiable: {self.reason}); a curve exists only for an "
                "identifiable law; add sizes or seeds, or show the points alone"
            )
        return self.parameters, self.draws


@dataclass(frozen=True)
class _Data:
    """Checked observations in the units of the fit."""

    x: Float[ndarray, " n"]  # divided by unit_x, the geometric mean
    y: Float[ndarray, " n"]  # what falls: the loss, or ceiling minus score
    weight: Float[ndarray, " n"]  # 1 / noise^2, or ones
    noise_known: bool
    unit_x: float

    @property
    def num_sizes(self) -> int:
        return len(np.unique(self.x))


def fit_law(
    x: Float[ndarray, " n"],
    y: Float[ndarray, " n"],
    *,
    form: Form = "saturating",
    noise: Float[ndarray, " n"] | None = None,
    ceiling: float | None = None,
    resamples: int = 10_000,
    level: float = 0.95,
    seed: int = 0,
) -> Law:
    """Fit one law to ``y`` over ``x`` (parameters, images, compute: any positive unit).

    ``noise``: standard deviation of each y where it is known from elsewhere. A spread estimated from a few seeds
    that are themselves among the points is not: leave it out, the residuals hold it with the right freedom.
    ``ceiling``: the largest value a score can take; then ``ceiling - y`` is fitted as a falling quantity.
    Raises FoundryError for lengths that differ and for values that are not finite or not positive.
    """
    data = _check(x, y, noise, ceiling)
    base = Law(
        form=form,
        identifiable=False,
        reason="",
        num_points=len(x),
        num_sizes=data.num_sizes,
        x_min=float(x.min()) if len(x) else 0.0,
        x_max=float(x.max()) if len(x) else 0.0,
        unit_x=data.unit_x,
        ceiling=ceiling,
        level=level,
    )
    freedom = len(x) - FORM_PARAMETERS[form]
    if data.num_sizes < MINIMUM_SIZES:
        return _refuse(base, f"{data.num_sizes} distinct sizes, at least {MINIMUM_SIZES} are needed")
    if freedom < 1 and not data.noise_known:
        return _refuse(base, f"{len(x)} points leave no freedom to estimate the noise")
    best = fit_many(form, data.x, data.y[None], data.weight)
    misfit = float(best.misfit[0])
    # Birge ratio: known noise is scaled up, never down, when the curve misses the points by more than it.
    ratio = misfit / freedom if freedom >= 1 else 1.0
    variance = max(1.0, ratio) if data.noise_known else ratio
    allowed = misfit + variance * _threshold(data.noise_known, freedom, level)
    interval = _profile_interval(form, data, float(best.parameters[0, 2]), allowed)
    reason = _why_not(form, data, allowed, interval)
    base = replace(base, misfit_ratio=ratio if data.noise_known else None, exponent_interval=interval.ends)
    if reason:
        return _refuse(base, reason)
    draws = _resample(form, data, best.parameters[0], variance, freedom, resamples, seed)
    return replace(
        base, identifiable=True, parameters=_summarise(best.parameters[0], draws, level), draws=draws
    )


def _check(
    x: Float[ndarray, " n"],
    y: Float[ndarray, " n"],
    noise: Float[ndarray, " n"] | None,
    ceiling: float | None,
) -> _Data:
    if noise is not None and (not np.all(np.isfinite(noise)) or np.any(noise <= 0)):
        raise FoundryError(
            f"scaling law: noise holds {noise.min()}; standard deviations are finite and above 0; "
            "leave noise out where it is unknown"
        )
    for name, values in (("x", x), ("y", y)):
        if not np.all(np.isfinite(values)):
            raise FoundryError(f"scaling law: {name} holds a value that is not finite; drop the failed run")
    if np.any(x <= 0):
        raise FoundryError(f"scaling law: x holds {x.min()}; sizes are above 0; drop or mend that row")
    falling = y if ceiling is None else ceiling - y
    if np.any(falling <= 0):
        what = "y" if ceiling is None else f"ceiling {ceiling} minus y"
        raise FoundryError(
            f"scaling law: {what} holds {falling.min()}; it must be above 0; check the ceiling"
        )
    unit_x = float(np.exp(np.mean(np.log(x)))) if len(x) else 1.0
    weight = np.ones_like(falling) if noise is None else noise**-2.0
    return _Data(x / unit_x, falling, weight, noise is not None, unit_x)


@dataclass(frozen=True)
class _ProfileInterval:
    """Ends of the exponent's profile-likelihood interval, and whether the search range cut it off."""

    ends: tuple[float, float]
    open_below: bool
    open_above: bool


def _profile_interval(form: Form, data: _Data, best_b: float, allowed: float) -> _ProfileInterval:
    """Exponents around the best whose misfit stays within ``allowed``; the ends by bisection."""
    grid = exponent_grid(form, data.x)
    outside = profile_misfit(form, data.x, data.y, data.weight, grid) > allowed
    ends: list[float] = []
    open_side: list[bool] = []
    for candidates in (grid[outside & (grid < best_b)][::-1], grid[outside & (grid > best_b)]):
        below = len(ends) == 0
        open_side.append(len(candidates) == 0)
        if len(candidates) == 0:
            ends.append(float(grid[0] if below else grid[-1]))
            continue
        inner, outer = best_b, float(candidates[0])
        for _ in range(BISECTIONS):
            middle = (inner + outer) / 2
            misfit = profile_misfit(form, data.x, data.y, data.weight, np.array([middle]))[0]
            inner, outer = (middle, outer) if misfit <= allowed else (inner, middle)
        ends.append(inner)
    return _ProfileInterval((ends[0], ends[1]), open_side[0], open_side[1])


def _threshold(noise_known: bool, freedom: int, level: float) -> float:
    """Rise of the misfit, in units of the noise variance, that a one-parameter interval allows."""
    from scipy import stats

    if noise_known:
        return float(stats.chi2.ppf(level, 1))
    return float(stats.f.ppf(level, 1, freedom))


def _why_not(form: Form, data: _Data, allowed: float, interval: _ProfileInterval) -> str:
    """The reason for a refusal, or an empty string."""
    if form == "pure":
        if interval.ends[0] <= 0.0 <= interval.ends[1]:
            return (
                f"the exponent's profile interval ({interval.ends[0]:.3g} to {interval.ends[1]:.3g}) covers "
                "no change with size"
            )
    else:
        mean = np.average(data.y, weights=data.weight)
        flat = float(np.sum(data.weight * (data.y - mean) ** 2))
        if flat <= allowed:
            return "a constant fits as well: no decrease with size beyond the noise"
    if interval.open_below or interval.open_above:
        side = "below" if interval.open_below else "above"
        return f"flat exponent: its profile interval is unbounded {side}"
    low, high = interval.ends
    if form == "saturating" and high > MAXIMUM_EXPONENT_RATIO * low:
        return f"the exponent may be anything from {low:.2g} to {high:.2g}"
    return ""


def _resample(
    form: Form,
    data: _Data,
    best: Float[ndarray, " 3"],
    variance: float,
    freedom: int,
    resamples: int,
    seed: int,
) -> Float[ndarray, "resamples 3"]:
    random = np.random.default_rng(seed)
    fitted = _evaluate(best[None], data.x)
    noise = random.standard_normal((resamples, len(data.x))) * np.sqrt(variance / data.weight)
    if not data.noise_known:  # the noise level is itself only known to within chi-square
        noise *= np.sqrt(freedom / random.chisquare(freedom, size=(resamples, 1)))
    return fit_many(form, data.x, fitted + noise, data.weight).parameters


def _summarise(
    best: Float[ndarray, " 3"], draws: Float[ndarray, "resamples 3"], level: float
) -> dict[str, Interval]:
    tail = (1.0 - level) / 2
    low, high = np.quantile(draws, [tail, 1.0 - tail], axis=0)
    return {
        name: Interval(float(best[i]), float(low[i]), float(high[i]), level) for i, name in enumerate("EAb")
    }


def _evaluate(parameters: Float[ndarray, "r 3"], x: Float[ndarray, " n"]) -> Float[ndarray, "r n"]:
    E, A, b = parameters[:, 0:1], parameters[:, 1:2], parameters[:, 2:3]
    return E + A * np.exp(-b * np.log(x)[None])


def _refuse(law: Law, reason: str) -> Law:
    return replace(law, reason=reason)
