"""The mathematics of consistency distillation, apart from networks and data.

A consistency function maps any point of a trajectory of the probability-flow ODE to that trajectory's clean end:
f(x_t, t) = x_0, and f(x, 0) = x (Song et al. 2023, "Consistency Models", section 3). It is learned on the grid
0 = t_0 < t_1 < ... < t_N by making neighbours agree, the teacher's solver leading from one to the next.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from training.diffusion.noise_process import NUM_TIMESTEPS, Noising

TIMESTEP_SCALING = 10.0  # of LCMScheduler, and of Luo et al. 2023
SIGMA_DATA = 0.5


def level_of_interval(
    noising: Noising, index: Int64[Tensor, " b"], num_intervals: int
) -> Float[Tensor, " b"]:
    """Noise level t of grid point ``index`` out of 0 .. ``num_intervals``.

    Flow path: evenly from 0 to 1. DDPM: the middle of timestep k n - 1 with k = 1000 / N, the grid of LCMScheduler;
    grid point 0 is the clean latent itself.
    """
    level = index.float() / num_intervals
    if noising.is_flow_path:
        return level
    return torch.where(index > 0, level - 0.5 / NUM_TIMESTEPS, level)


def coefficients(
    noising: Noising, level: Float[Tensor, " b"]
) -> tuple[Float[Tensor, "b 1 1 1"], Float[Tensor, "b 1 1 1"]]:
    """alpha and sigma, exactly 1 and 0 at level 0, where DDPM's first timestep has some noise left."""
    alpha, sigma = noising.coefficients(level)
    clean = (level <= 0)[:, None, None, None]
    return torch.where(clean, 1.0, alpha), torch.where(clean, 0.0, sigma)


def ode_step(
    noising: Noising,
    noisy: Float[Tensor, "b c h w"],
    clean: Float[Tensor, "b c h w"],
    level: Float[Tensor, " b"],
    lower: Float[Tensor, " b"],
) -> Float[Tensor, "b c h w"]:
    """One DDIM step from ``level`` down to ``lower`` with the predicted clean latent (Song et al. 2021, eq. 12).

    x_s = alpha_s x_0 + sigma_s (x_t - alpha_t x_0) / sigma_t; on the flow path this is Euler's step.
    """
    alpha, sigma = coefficients(noising, level)
    alpha_lower, sigma_lower = coefficients(noising, lower)
    return alpha_lower * clean + sigma_lower * (noisy - alpha * clean) / sigma


def boundary_scalings(
    noising: Noising, level: Float[Tensor, " b"]
) -> tuple[Float[Tensor, "b 1 1 1"], Float[Tensor, "b 1 1 1"]]:
    """c_skip and c_out of Luo et al. 2023, "Latent Consistency Models", section 4.1: 1 and 0 at t = 0.

    c_skip = d^2 / ((10 t)^2 + d^2), c_out = 10 t / sqrt((10 t)^2 + d^2), t in timesteps of 0 .. 999 and d = 0.5: from
    the first grid point on, f is the predicted clean latent to 1 in 10,000, which is what stock schedulers sample with.
    """
    scaled = torch.where(level <= 0, 0.0, TIMESTEP_SCALING * noising.timestep(level))[:, None, None, None]
    skip = SIGMA_DATA**2 / (scaled**2 + SIGMA_DATA**2)
    return skip, scaled / (scaled**2 + SIGMA_DATA**2).sqrt()


def consistency_function(
    noising: Noising,
    noisy: Float[Tensor, "b c h w"],
    output: Float[Tensor, "b c h w"],
    level: Float[Tensor, " b"],
) -> Float[Tensor, "b c h w"]:
    """f(x, t) = c_skip x + c_out x_0(output) (Song et al. 2023, eq. 5; Luo et al. 2023, section 4.1)."""
    skip, out = boundary_scalings(noising, level)
    return skip * noisy + out * noising.clean(noisy, output, level)


def guided(
    unconditional: Float[Tensor, "b c h w"],
    conditional: Float[Tensor, "b c h w"],
    guidance: Float[Tensor, " b"],
) -> Float[Tensor, "b c h w"]:
    """u + g (c - u), the pipelines' form: g = 1 + w of Luo et al. 2023, section 4.2; g = 1 is none."""
    return unconditional + guidance[:, None, None, None] * (conditional - unconditional)


def distance(
    student: Float[Tensor, "b c h w"], target: Float[Tensor, "b c h w"], huber: float | None
) -> Float[Tensor, ""]:
    """Mean squared distance, or the pseudo-Huber one with ``huber`` as its scale c (Song and Dhariwal 2023, section 3.3).

    sqrt(d^2 + c^2) - c, element by element.
    """
    squared = (student - target).square()
    if huber is None:
        return squared.mean()
    return ((squared + huber**2).sqrt() - huber).mean()
