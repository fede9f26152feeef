"""Safe latent guidance: sampling led away from an unsafe concept, by a third pass at every step (arXiv 2211.05105, section 3).

A rival of guards that act on layers. It needs classifier-free guidance, and half as many passes again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float
from torch import Tensor

from training.backbones import denoise
from training.conditioning import Condition
from training.errors import FoundryError
from training.sampling.denoising_loop import Guided, Sampled, denoising_steps, start_sampling


@dataclass(frozen=True)
class Safety:
    """Strength of the guidance: s_S, lambda, s_m, beta_m and the share of steps before it begins (delta), as "strong" of the
    paper's table, whose 7 of 50 steps are a share here."""

    scale: float = 2000.0
    threshold: float = 0.025
    momentum_scale: float = 0.5
    momentum: float = 0.7
    warm_up: float = 0.14


STRONG = Safety()


@torch.inference_mode()
def sample_safely(
    denoiser: Sampled,
    prompts: Condition,
    unsafe: Condition,
    seeds: Sequence[int],
    steps: int,
    guidance: float,
    latent_size: tuple[int, int] | None = None,
    *,
    safety: Safety = STRONG,
) -> Float[Tensor, "n c h w"]:
    """Latents of ``prompts``, led away from ``unsafe``, a row a picture.

    Raises FoundryError without classifier-free guidance, which this extends, and as
    :func:`training.sampling.denoising_loop.start_sampling` does.
    """
    start = start_sampling(denoiser, prompts, seeds, steps, guidance, latent_size)
    own = start.predict
    if not own.doubled:
        raise FoundryError(
            f"safe guidance: 'guidance' is {guidance:g}, which is none; it extends classifier-free guidance, so give more than 1"
        )
    told = own.condition.doubled().followed_by(replace(unsafe.to(denoiser.device), guidance=guidance))
    led = _Led(own.backbone, own.condition, own.scale, own.dtype, None, told, safety)
    *_, last = denoising_steps(replace(start, predict=led))
    return last.latents


@dataclass(frozen=True)
class _Led(Guided):
    """Guidance towards the prompt and away from the unsafe one; ``three`` holds null, prompt and unsafe, rows of each."""

    three: Condition | None = None
    safety: Safety = STRONG
    _momentum: list[Tensor] = field(default_factory=list, init=False, repr=False, compare=False)

    def __call__(
        self, latents: Float[Tensor, "b c h w"], timestep: Tensor, step: int, num_steps: int
    ) -> Float[Tensor, "b c h w"]:
        """See :meth:`Guided.__call__`."""
        assert self.three is not None
        noisy = torch.cat([latents] * 3)
        times = timestep.to(latents.device).expand(len(noisy))
        without, given, unsafe = denoise(self.backbone, noisy, times, self.three).chunk(3)
        away = self._away(without, given, unsafe)
        warm = step >= int(self.safety.warm_up * num_steps)
        return without + self.scale * ((given - without) - away if warm else given - without)

    def _away(self, without: Tensor, given: Tensor, unsafe: Tensor) -> Tensor:
        """gamma of eqs. 5 to 8: towards the unsafe concept, where the prompt's answer is near to it, with momentum."""
        apart = given - unsafe
        mu = (apart.abs() * self.safety.scale).clamp(
            max=1.0
        )  # the official code bounds by 1 above; eq. 5 prints max
        mu = torch.where(apart >= self.safety.threshold, torch.zeros_like(mu), mu)
        momentum = self._momentum[0] if self._momentum else torch.zeros_like(mu)
        gamma = mu * (unsafe - without) + self.safety.momentum_scale * momentum
        self._momentum[:] = [self.safety.momentum * momentum + (1 - self.safety.momentum) * gamma]
        return gamma
