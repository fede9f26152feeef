"""Models as the metrics see them: one call from a noisy latent to the clean one, whatever the model predicts."""

from __future__ import annotations

from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from training.conditioning import Condition
from training.diffusion.noise_process import NUM_TIMESTEPS, Noising, alphas_cumprod
from training.model_folders.denoiser import Denoiser


def level_of_sigma(noising: Noising, sigma: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
    """Noise level t in [0, 1) at which a process has this noise-to-signal ratio sigma / alpha.

    The flow path: t / (1 - t) = sigma. DDPM knows 1000 levels: the middle of the one whose ratio is nearest.
    """
    if noising.is_flow_path:
        return sigma / (1 + sigma)
    kept = alphas_cumprod(noising.schedule, noising.zero_terminal_snr).to(sigma.device)
    ratios = ((1 - kept) / kept).sqrt().log()
    index = (ratios[None] - sigma.double().log()[:, None]).abs().argmin(dim=1)
    return (index + 0.5) / NUM_TIMESTEPS


class CleanPredictor:
    """``predict_clean`` of :mod:`evaluation.metrics.denoising` around a denoiser of any target."""

    def __init__(self, denoiser: Denoiser) -> None:
        self.denoiser = denoiser

    def __call__(
        self, x_noisy: Float[Tensor, "b c h w"], sigma: Float[Tensor, " b"], condition: Condition
    ) -> Float[Tensor, "b c h w"]:
        """Clean latents seen in ``x_noisy = x + sigma * noise``, scaled to what the model was trained on."""
        device = self.denoiser.device
        level = level_of_sigma(self.denoiser.noising, sigma.to(device))
        alpha, _ = self.denoiser.noising.coefficients(level)
        return self.denoiser.predict_clean(alpha * x_noisy.to(device), level, condition.to(device)).cpu()


def load_predictor(model_folder: Path, *, raw: bool = False, device: str = "cpu") -> CleanPredictor:
    """Load a model folder for measuring; ``raw`` takes the weights before averaging where both are kept.

    Raises FoundryError when the folder holds no model of ours.
    """
    return CleanPredictor(Denoiser.load(model_folder, device, raw=raw))
