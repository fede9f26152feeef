"""Denoising error as a metric: :mod:`evaluation.metrics.denoising` measures it, a row a held-out sample."""

from __future__ import annotations

from evaluation.metrics.metric import Metric

DENOISING_ERROR = Metric(
    name="denoising_error",
    title="denoising error",
    scale="mean squared error of the predicted clean latent",
    better="down",
    needs=("held_out_errors",),
    by_unit=lambda evidence: evidence.held_out_errors.errors,
    unit="held-out sample",
)
