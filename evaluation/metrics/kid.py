"""KID on EfficientNet-Lite0 features (called KID-EffLite0): never comparable with Inception KID or FID.

Kernel Inception Distance (arXiv 1801.01401): the squared maximum mean discrepancy under the kernel
``k(x, y) = (x . y / d + 1)^3``, in its unbiased form, over all pairs, with a jackknife standard error.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from evaluation.intervals import Interval
from evaluation.metrics.metric import Evidence, Metric
from training.errors import FoundryError

KID_NAME = "KID-EffLite0"
NORMAL_95 = 1.959963984540054  # of a 95 % interval, in standard errors


@dataclass(frozen=True)
class KernelDistance:
    """Unbiased squared distance (may be slightly negative for equal sets) and its standard error."""

    value: float
    standard_error: float
    num_generated: int
    num_real: int


@dataclass(frozen=True)
class _RowSums:
    """Sums of the kernel by row and by column, diagonal left out where the two sets are the same."""

    rows: Float[ndarray, " m"]
    columns: Float[ndarray, " n"]


def kernel_distance(
    generated: Float[ndarray, "m d"], real: Float[ndarray, "n k"], *, block: int = 1024
) -> KernelDistance:
    """KID between two sets of features. Memory: two blocks of ``block`` x ``block`` float64.

    Raises FoundryError for fewer than three rows in a set, unequal widths or features that are not finite.
    """
    _check(generated, real)
    x, y = generated.astype(np.float64), real.astype(np.float64)
    m, n = len(x), len(y)
    xx, yy = _kernel_sums(x, x, block, True).rows, _kernel_sums(y, y, block, True).rows
    xy = _kernel_sums(x, y, block, False)
    total_xx, total_yy, total_xy = xx.sum(), yy.sum(), xy.rows.sum()
    value = _statistic(total_xx, total_yy, total_xy, m, n)
    # Leaving one row out changes the totals by its own sums: no kernel is computed again.
    without_x = _statistic(total_xx - 2 * xx, total_yy, total_xy - xy.rows, m - 1, n)
    without_y = _statistic(total_xx, total_yy - 2 * yy, total_xy - xy.columns, m, n - 1)
    variance = (m - 1) ** 2 / m * np.var(without_x, ddof=1) + (n - 1) ** 2 / n * np.var(without_y, ddof=1)
    return KernelDistance(float(value), float(np.sqrt(variance)), m, n)


def _statistic(
    xx: ndarray | float, yy: ndarray | float, xy: ndarray | float, m: int, n: int
) -> ndarray | float:
    return xx / (m * (m - 1)) + yy / (n * (n - 1)) - 2 * xy / (m * n)


def _kernel_sums(x: Float[ndarray, "m d"], y: Float[ndarray, "n d"], block: int, same: bool) -> _RowSums:
    rows, columns = np.zeros(len(x)), np.zeros(len(y))
    for i in range(0, len(x), block):
        # The kernel of a set with itself is symmetric: blocks above the diagonal stand for those below.
        for j in range(i if same else 0, len(y), block):
            kernel = (x[i : i + block] @ y[j : j + block].T / x.shape[1] + 1.0) ** 3
            if same and i == j:
                np.fill_diagonal(kernel, 0.0)
            rows[i : i + block] += kernel.sum(axis=1)
            if same and i != j:
                rows[j : j + block] += kernel.sum(axis=0)
            columns[j : j + block] += kernel.sum(axis=0)
    return _RowSums(rows, columns)


def _check(generated: Float[ndarray, "m d"], real: Float[ndarray, "n k"]) -> None:
    for name, features in (("generated", generated), ("real", real)):
        if len(features) < 3:
            raise FoundryError(
                f"{KID_NAME}: found {len(features)} {name} pictures; at least 3 are needed for an error bar; "
                "raise the number of samples"
            )
        if not np.all(np.isfinite(features)):
            raise FoundryError(f"{KID_NAME}: {name} features are not all finite; look at those pictures")
    if generated.shape[1] != real.shape[1]:
        raise FoundryError(
            f"{KID_NAME}: generated features have {generated.shape[1]} channels, real ones {real.shape[1]}; "
            "both must come from one extractor; recompute the older set"
        )


def distance_to_real(features: Float[ndarray, "m d"], evidence: Evidence) -> KernelDistance:
    """The distance of a model's pictures, by their features, to real ones."""
    return kernel_distance(features, evidence.real_features)


def _distance_interval(features: Float[ndarray, "m d"], evidence: Evidence) -> Interval:
    """The distance with the normal interval of its jackknife error, which leaves out one picture at a time."""
    found = distance_to_real(features, evidence)
    half = NORMAL_95 * found.standard_error
    return Interval(found.value, found.value - half, found.value + half, count=found.num_generated)


KID = Metric(
    name="kid_efflite0",
    title=KID_NAME,
    scale="kernel distance of features to real pictures, 0 is equal",
    better="down",
    needs=("pictures", "real_pictures"),
    by_unit=lambda evidence: evidence.features,
    interval=_distance_interval,
    by_split=False,
)
