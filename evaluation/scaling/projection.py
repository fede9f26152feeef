"""Variable projection for ``y = E + A x^-b``: given b, the best E >= 0 and A >= 0 have a closed form.

Everything works on R sets of y at once over the same x; sums over the points are matrix products.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float
from numpy import ndarray

Form = Literal["saturating", "pure"]
FORM_PARAMETERS: dict[Form, int] = {"saturating": 3, "pure": 2}

GOLDEN = (np.sqrt(5.0) - 1.0) / 2.0
GOLDEN_STEPS = 26  # narrows two grid cells by 4e-6
SPREAD_MIN, SPREAD_MAX = 0.02, 30.0  # x^-b falls by exp(b * ln(x_max / x_min)) over the data
PURE_SPREAD_MAX = 12.0


@dataclass(frozen=True)
class ManyFits:
    """Best parameters (columns E, A, b) and weighted squared misfit of each row of y."""

    parameters: Float[ndarray, "r 3"]
    misfit: Float[ndarray, " r"]


def exponent_grid(form: Form, x: Float[ndarray, " n"], points: int = 64) -> Float[ndarray, " points"]:
    """Exponents worth trying, ascending: relative to the spread of x, so that units of x do not matter."""
    spread = float(np.log(x.max() / x.min()))
    if form == "pure":
        return np.linspace(-PURE_SPREAD_MAX, PURE_SPREAD_MAX, points) / spread
    return np.geomspace(SPREAD_MIN, SPREAD_MAX, points) / spread


def fit_many(
    form: Form, x: Float[ndarray, " n"], y: Float[ndarray, "r n"], weight: Float[ndarray, " n"]
) -> ManyFits:
    """Weighted least squares of every row of ``y``: grid over b, then golden sections around the best."""
    log_x = np.log(x)
    grid = exponent_grid(form, x)
    g = np.exp(-grid[:, None] * log_x[None])  # [grid, n]
    sums = _Sums(
        w=float(weight.sum()),
        wg=(g @ weight)[None],
        wgg=(g**2 @ weight)[None],
        wy=(y @ weight)[:, None],
        wgy=(y * weight) @ g.T,
        wyy=(y**2 @ weight)[:, None],
    )
    best = np.argmin(_solve(form, sums)[2], axis=1)
    low = grid[np.maximum(best - 1, 0)]
    high = grid[np.minimum(best + 1, len(grid) - 1)]
    b = _golden_sections(form, log_x, y, weight, low, high)
    E, A, misfit = _solve(form, _sums_each(log_x, y, weight, b))
    return ManyFits(np.concatenate([E, A, b[:, None]], axis=1), misfit[:, 0])


def profile_misfit(
    form: Form,
    x: Float[ndarray, " n"],
    y: Float[ndarray, " n"],
    weight: Float[ndarray, " n"],
    exponents: Float[ndarray, " g"],
) -> Float[ndarray, " g"]:
    """Weighted squared misfit of the best E and A at each exponent."""
    repeated = np.broadcast_to(y, (len(exponents), len(y)))
    return _solve(form, _sums_each(np.log(x), repeated, weight, exponents))[2][:, 0]


@dataclass(frozen=True)
class _Sums:
    """Weighted sums over the points, broadcastable to [rows, exponents]; g is x^-b."""

    w: float
    wg: ndarray
    wgg: ndarray
    wy: ndarray
    wgy: ndarray
    wyy: ndarray


def _sums_each(
    log_x: Float[ndarray, " n"],
    y: Float[ndarray, "r n"],
    weight: Float[ndarray, " n"],
    b: Float[ndarray, " r"],
) -> _Sums:
    """Sums where every row of y has an exponent of its own."""
    g = np.exp(-b[:, None] * log_x[None])
    weighted_g = g * weight
    return _Sums(
        w=float(weight.sum()),
        wg=weighted_g.sum(axis=1, keepdims=True),
        wgg=np.einsum("rn,rn->r", weighted_g, g)[:, None],
        wy=(y @ weight)[:, None],
        wgy=np.einsum("rn,rn->r", weighted_g, y)[:, None],
        wyy=(y**2 @ weight)[:, None],
    )


def _solve(form: Form, s: _Sums) -> tuple[ndarray, ndarray, ndarray]:
    """Best non-negative E and A, and the misfit they leave. Shapes broadcast from the sums."""
    A_alone = np.maximum(s.wgy / s.wgg, 0.0)
    if form == "pure":
        A = A_alone
        E = np.zeros_like(A)
    else:
        determinant = np.maximum(s.w * s.wgg - s.wg**2, np.finfo(float).tiny)
        A = (s.w * s.wgy - s.wg * s.wy) / determinant
        E = (s.wy - A * s.wg) / s.w
        # The problem is convex: where the free solution leaves the quadrant, an edge is best.
        A = np.where(E < 0, A_alone, A)
        E = np.where(E < 0, 0.0, E)
        E = np.where(A < 0, np.maximum(s.wy / s.w, 0.0), E)
        A = np.where(A < 0, 0.0, A)
    misfit = s.wyy - 2 * E * s.wy - 2 * A * s.wgy + E**2 * s.w + 2 * E * A * s.wg + A**2 * s.wgg
    return E, A, np.maximum(misfit, 0.0)


def _golden_sections(
    form: Form,
    log_x: Float[ndarray, " n"],
    y: Float[ndarray, "r n"],
    weight: Float[ndarray, " n"],
    low: Float[ndarray, " r"],
    high: Float[ndarray, " r"],
) -> Float[ndarray, " r"]:
    def misfit(b: Float[ndarray, " r"]) -> Float[ndarray, " r"]:
        return _solve(form, _sums_each(log_x, y, weight, b))[2][:, 0]

    left, right = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
    f_left, f_right = misfit(left), misfit(right)
    for _ in range(GOLDEN_STEPS):
        go_left = f_left < f_right
        low, high = np.where(go_left, low, left), np.where(go_left, right, high)
        # One of the two inner points is kept, the other is new; each row decides for itself.
        kept, f_kept = np.where(go_left, left, right), np.where(go_left, f_left, f_right)
        new = np.where(go_left, high - GOLDEN * (high - low), low + GOLDEN * (high - low))
        f_new = misfit(new)
        left, right = np.where(go_left, new, kept), np.where(go_left, kept, new)
        f_left, f_right = np.where(go_left, f_new, f_kept), np.where(go_left, f_kept, f_new)
    return (low + high) / 2.0
