"""From similarities to probabilities: one-dimensional logistic regression and a softmax temperature."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

_RIDGE = 0.05  # keeps slopes finite where the two groups do not overlap
_TEMPERATURES = np.geomspace(0.01, 0.5, 40)


@dataclass(frozen=True)
class Logistic:
    """Probability ``1 / (1 + exp(-(slope * x + intercept)))``."""

    slope: float
    intercept: float

    def __call__(self, x: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        """Probability of each ``x``, in [0, 1]."""
        return 1.0 / (1.0 + np.exp(-np.clip(self.slope * x + self.intercept, -60.0, 60.0)))


def fit_logistic(x: Float[np.ndarray, " n"], is_positive: Bool[np.ndarray, " n"]) -> Logistic:
    """Logistic regression by Newton steps, with a small ridge on the standardised slope.

    With one group only (all right or all wrong) the slope is 0 and the probability (k + 0.5) / (n + 1).
    """
    count, positives = len(x), int(is_positive.sum())
    base = (positives + 0.5) / (count + 1.0)
    if positives in (0, count) or float(np.std(x)) == 0.0:
        return Logistic(0.0, float(np.log(base / (1.0 - base))))
    center, scale = float(np.mean(x)), float(np.std(x))
    design = np.stack([(x - center) / scale, np.ones(count)], axis=1)
    penalty = np.diag([_RIDGE * count * 0.1, 1e-6])
    weights = np.zeros(2)
    for _ in range(50):
        probability = 1.0 / (1.0 + np.exp(-np.clip(design @ weights, -30, 30)))
        gradient = design.T @ (probability - is_positive) + penalty @ weights
        curvature = (design * (probability * (1 - probability))[:, None]).T @ design + penalty
        step = np.linalg.solve(curvature, gradient)
        weights = weights - np.clip(step, -2.0, 2.0)
        if float(np.abs(step).max()) < 1e-9:
            break
    slope = float(weights[0] / scale)
    return Logistic(slope, float(weights[1] - slope * center))


def softmax(scores_nc: Float[np.ndarray, "n c"], temperature: float) -> Float[np.ndarray, "n c"]:
    """Softmax over the last axis."""
    scaled = scores_nc / temperature
    powers = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def fit_temperature(scores_nc: Float[np.ndarray, "n c"], truth_n: Int[np.ndarray, " n"]) -> float:
    """The temperature on a grid (0.01 .. 0.5) with the best mean log probability of the right column."""
    rows = np.arange(len(truth_n))
    losses = [
        -np.log(np.maximum(softmax(scores_nc, float(temperature))[rows, truth_n], 1e-9)).mean()
        for temperature in _TEMPERATURES
    ]
    return float(_TEMPERATURES[int(np.argmin(losses))])
