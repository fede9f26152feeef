"""Is a smaller model as good as the one it was made from? Pictures of both for the same prompts and noise.

"As good" is defined, not felt: the judge's cosine relative to the parent's, prompt by prompt, with a bootstrap interval;
and how like the parent's pictures are at equal seeds (SSIM), which says whether it still paints the *same* picture.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, UInt8
from numpy import ndarray

from evaluation.intervals import Interval, paired_difference
from evaluation.metrics.alignment import JUDGE_COSINE
from evaluation.metrics.metric import Metric
from training.errors import FoundryError

Side = Literal["holds", "inside the noise", "fails"]
SSIM_SIGMA_PX = 1.5
_LUMA = np.array([0.299, 0.587, 0.114])
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2


@dataclass(frozen=True)
class SmallerScore:
    """``parent`` and ``child``: judge's cosines; ``relative``: mean of child minus parent, over the parent's mean;
    ``ssim``: mean structural similarity of the pictures, 1 for equal ones."""

    parent: Interval
    child: Interval
    relative: Interval
    ssim: Interval


def smaller_score(
    parent_cosines: Float[ndarray, " n"],
    child_cosines: Float[ndarray, " n"],
    parent_images: UInt8[ndarray, "n h w 3"],
    child_images: UInt8[ndarray, "n h w 3"],
) -> SmallerScore:
    """Score a child against its parent, both drawn from the same prompts and noise.

    Raises FoundryError where the parent's mean cosine is not above 0: nothing can be said in percent of it.
    """
    parent = JUDGE_COSINE.mean(parent_cosines)
    if parent.value <= 0:
        raise FoundryError(
            f"smaller model: the parent's mean judge cosine is {parent.value:.3f}; a parent that does not paint its "
            "prompts is no measure, train it longer"
        )
    difference = paired_difference(child_cosines, parent_cosines)
    low, high = difference.low / parent.value, difference.high / parent.value
    relative = Interval(difference.value / parent.value, low, high, difference.level, difference.count)
    alike = SSIM.mean(similarities(child_images, parent_images))
    return SmallerScore(parent, JUDGE_COSINE.mean(child_cosines), relative, alike)


def within_margin(relative: Interval, margin: float = 0.10) -> Side:
    """Whether a child loses at most ``margin`` of its parent's score, for the whole interval, for none or for a part of it."""
    if relative.low >= -margin:
        return "holds"
    return "fails" if relative.high < -margin else "inside the noise"


def similarities(
    images: UInt8[ndarray, "n h w 3"], reference: UInt8[ndarray, "n h w 3"]
) -> Float[ndarray, " n"]:
    """:func:`ssim` of each picture with the reference's."""
    return np.array([ssim(a, b) for a, b in zip(reference, images, strict=True)])


def ssim(first: UInt8[ndarray, "h w 3"], second: UInt8[ndarray, "h w 3"]) -> float:
    """Structural similarity (Wang et al. 2004) of two pictures' luma, Gaussian window of 1.5 px, 8-bit range; at most 1."""
    return float(ssim_map(first, second).mean())


def ssim_map(first: UInt8[ndarray, "h w 3"], second: UInt8[ndarray, "h w 3"]) -> Float[ndarray, "h w"]:
    """:func:`ssim` around every pixel."""
    from scipy.ndimage import gaussian_filter

    def smooth(values: Float[ndarray, "h w"]) -> Float[ndarray, "h w"]:
        return gaussian_filter(values, SSIM_SIGMA_PX, truncate=3.5)

    a, b = first @ _LUMA, second @ _LUMA
    mean_a, mean_b = smooth(a), smooth(b)
    variance_a, variance_b = smooth(a * a) - mean_a**2, smooth(b * b) - mean_b**2
    covariance = smooth(a * b) - mean_a * mean_b
    luminance = (2 * mean_a * mean_b + _C1) / (mean_a**2 + mean_b**2 + _C1)
    structure = (2 * covariance + _C2) / (variance_a + variance_b + _C2)
    return np.asarray(luminance * structure)


SSIM = Metric(
    name="ssim",
    title="SSIM to the model it was made from",
    scale="structural similarity of pictures from the same noise, 1 is equal",
    better="up",
    needs=("pictures", "reference"),
    by_unit=lambda evidence: similarities(evidence.pictures.images, evidence.reference.images),
)
