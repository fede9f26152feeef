"""Fidelity and diversity of drawn pictures beside real ones: improved precision and recall (arXiv 1904.06991, eqs. 1 to 3).

Each set of features spans a manifold: balls around its members, as wide as to their k-th nearest neighbour. Precision is the
share of drawn pictures inside the real ones' manifold, recall the share of real pictures inside the drawn ones'. Here on features of
the packaged EfficientNet-Lite0, so that values compare with none that is published.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from training.errors import FoundryError

NEIGHBOURS = 3
"""k of the paper."""


@dataclass(frozen=True)
class Manifolds:
    """``fidelity``: by drawn picture, whether real ones are around it. ``diversity``: by real picture, whether drawn ones are."""

    fidelity: Float[ndarray, " drawn"]
    diversity: Float[ndarray, " real"]


def manifolds(
    drawn: Float[ndarray, "m d"], real: Float[ndarray, "n k"], *, neighbours: int = NEIGHBOURS
) -> Manifolds:
    """Which members of either set lie in the other's manifold, as 0 and 1; their means are precision and recall.

    Raises FoundryError for sets with no more than ``neighbours`` members, and for unequal widths.
    """
    if min(len(drawn), len(real)) <= neighbours or drawn.shape[1] != real.shape[1]:
        raise FoundryError(
            f"fidelity and diversity: {len(drawn)} drawn and {len(real)} real pictures with {drawn.shape[1]} and {real.shape[1]} "
            f"features; give more than {neighbours} of each, with features by the same network"
        )
    between = _squared_distances(drawn, real)
    around_drawn, around_real = (_radii(rows, neighbours) for rows in (drawn, real))
    return Manifolds(
        np.any(between <= around_real[None, :], axis=1).astype(np.float64),
        np.any(between <= around_drawn[:, None], axis=0).astype(np.float64),
    )


def _radii(rows: Float[ndarray, "n d"], neighbours: int) -> Float[ndarray, " n"]:
    """Squared distance of each row to its k-th nearest other row."""
    apart = _squared_distances(rows, rows)
    np.fill_diagonal(apart, -1.0)  # itself first, whatever rounding says
    return np.partition(apart, neighbours, axis=1)[:, neighbours]


def _squared_distances(first: Float[ndarray, "m d"], second: Float[ndarray, "n d"]) -> Float[ndarray, "m n"]:
    x, y = first.astype(np.float64), second.astype(np.float64)
    return np.maximum((x**2).sum(1)[:, None] + (y**2).sum(1)[None, :] - 2 * x @ y.T, 0.0)
