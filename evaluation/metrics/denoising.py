"""Denoising error: how well a model predicts the clean latent, on one grid of noise levels for all targets.

A loss on noise, velocity or flow means something else for each target. The error of the *predicted clean
latent* does not: same held-out latents, same noise, same noise-to-signal ratios, whatever the model predicts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from training.conditioning import Condition
from training.errors import FoundryError

NOISE_SEED = 20240402
SIGMA_MIN, SIGMA_MAX, NUM_LEVELS = 0.2, 5.0, 8


PredictClean = Callable[[Tensor, Tensor, Condition], Tensor]
"""``predict_clean(x_noisy, sigma, condition) -> x_clean`` with ``x_noisy = x + sigma * noise``: [b, c, h, w], [b].

The signal stands unscaled (alpha = 1), so sigma is the noise-to-signal ratio; adapters rescale as their
target needs: flow t = sigma / (1 + sigma), variance preserving alpha = (1 + sigma^2)^-1/2.
"""


def noise_levels(
    count: int = NUM_LEVELS, sigma_min: float = SIGMA_MIN, sigma_max: float = SIGMA_MAX
) -> Float[ndarray, " levels"]:
    """Noise-to-signal ratios, evenly spaced in their logarithm, ascending."""
    return np.geomspace(sigma_min, sigma_max, count)


def evaluation_noise(
    sample_ids: Sequence[str], num_levels: int, latent_shape: tuple[int, int, int], seed: int = NOISE_SEED
) -> Float[Tensor, "n levels c h w"]:
    """Standard normal noise that depends on (seed, sample, level) alone: not on order, batch or company."""
    noise = np.empty((len(sample_ids), num_levels, *latent_shape), dtype=np.float32)
    for row, sample_id in enumerate(sample_ids):
        key = hashlib.sha256(f"denoising/{seed}/{sample_id}".encode()).digest()
        random = np.random.Generator(np.random.Philox(key=int.from_bytes(key[:16], "little")))
        noise[row] = random.standard_normal((num_levels, *latent_shape), dtype=np.float32)
    return torch.from_numpy(noise)


@torch.inference_mode()
def denoising_errors(
    predict_clean: PredictClean,
    sample_ids: Sequence[str],
    latents: Float[Tensor, "n c h w"],
    condition: Condition,
    *,
    sigmas: Float[ndarray, " levels"] | None = None,
    batch_size: int = 64,
    seed: int = NOISE_SEED,
) -> Float[ndarray, "n levels"]:
    """Mean squared error of the predicted clean latent for every sample and noise level.

    Raises FoundryError when lengths differ or the model returns values that are not finite.
    """
    sigmas = noise_levels() if sigmas is None else sigmas
    if not len(sample_ids) == len(latents) == len(condition):
        raise FoundryError(
            f"denoising error: found {len(sample_ids)} sample ids, {len(latents)} latents and "
            f"{len(condition)} texts; there must be one of each per sample; rebuild the training shards"
        )
    _, channels, height, width = latents.shape
    noise = evaluation_noise(sample_ids, len(sigmas), (channels, height, width), seed)
    errors = np.empty((len(latents), len(sigmas)), dtype=np.float64)
    for start in range(0, len(latents), batch_size):
        rows = slice(start, min(start + batch_size, len(latents)))
        clean, own = latents[rows].float(), condition.part(rows.start, rows.stop)
        for level, sigma in enumerate(sigmas):
            sigma_b = torch.full((len(clean),), float(sigma))
            predicted = predict_clean(clean + float(sigma) * noise[rows, level], sigma_b, own)
            errors[rows, level] = (predicted.float() - clean).square().mean(dim=(1, 2, 3)).numpy()
    if not np.all(np.isfinite(errors)):
        raise FoundryError(
            f"denoising error: {int(np.sum(~np.isfinite(errors)))} of {errors.size} errors are not finite; "
            "a trained model predicts finite latents; look at the model's loss curve and train it again"
        )
    return errors
