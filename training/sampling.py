"""Sampling from a model folder without text encoder: the same pictures as the stock diffusers pipeline."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, DPMSolverMultistepScheduler
from jaxtyping import Bool, Float, UInt8
from PIL import Image
from torch import Tensor, nn

from training.backbones import NO_CONDITIONS, Conditions, denoise
from training.errors import FoundryError
from training.latent_space import unscaled
from training.noising import BETAS, NUM_TIMESTEPS, PREDICTION_TYPES, Noising
from training.pretrained import check_safetensors, load_scheduler
from training.prompts import Prompts
from training.run_folder import write_error
from training.schedulers import FEW_STEPS, few_step_scheduler_of, is_few_step, read_scheduler_config
from training.stepping import draw_noise, generators_of, sample_latents

BACKBONE_CLASSES = (
    "PixArtTransformer2DModel",
    "UNet2DConditionModel",
    "SD3Transformer2DModel",
    "FluxTransformer2DModel",
)
AUTOENCODER_FILES = ("config.json", "diffusion_pytorch_model.safetensors")


@dataclass(frozen=True)
class Denoiser:
    """A backbone with its autoencoder and noise process, ready to sample or to be measured.

    ``few_step`` tells a consistency model, which is sampled by fresh noise between its steps and without guidance.
    ``scheduler`` is the stock one that its folder names; None for the one that fits ``noising``.
    """

    backbone: Any  # one of BACKBONE_CLASSES
    autoencoder: Any  # AutoencoderKL
    noising: Noising
    few_step: bool = False
    scheduler: Any | None = None

    @classmethod
    def load(cls, folder: Path, device: str = "cpu", *, raw: bool = False) -> Denoiser:
        """Load a model folder; ``raw`` takes the weights before averaging where both are kept.

        Raises FoundryError when the folder is no model of ours.
        """
        folder = Path(folder)
        part, kind = backbone_part(folder)
        source = folder / "raw" if raw and (folder / "raw").is_dir() else folder / part
        return cls(
            load_part(kind, source).to(device),
            load_part(AutoencoderKL, folder / "vae").to(device),
            noising_of(read_scheduler_config(folder)),
            is_few_step(folder),
            load_scheduler(folder),
        )

    @classmethod
    def from_parts(
        cls,
        backbone: nn.Module,
        autoencoder_folder: Path,
        noising: Noising | str,
        *,
        few_step: bool = False,
        scheduler: Any | None = None,
    ) -> Denoiser:
        """A denoiser around a backbone in memory, for samples during training; a prediction alone will do."""
        autoencoder = load_part(AutoencoderKL, autoencoder_folder).to(device_of(backbone))
        noising = Noising(noising) if isinstance(noising, str) else noising
        return cls(backbone, autoencoder, noising, few_step, scheduler)

    def fresh_scheduler(self) -> Any:
        """A scheduler without memory of earlier samples."""
        if self.scheduler is not None:
            return type(self.scheduler).from_config(self.scheduler.config)
        return (few_step_scheduler_of if self.few_step else scheduler_of)(self.noising)

    @torch.inference_mode()
    def predict_clean(
        self,
        noisy: Float[Tensor, "b c h w"],
        level: Float[Tensor, " b"],
        states: Float[Tensor, "b tokens dim"],
        mask: Bool[Tensor, "b tokens"],
        conditions: Conditions = NO_CONDITIONS,
    ) -> Float[Tensor, "b c h w"]:
        """The clean latent the model sees in noisy ones; ``level`` is t in [0, 1), see :mod:`training.noising`."""
        timestep = self.noising.timestep(level)
        output = denoise(self.backbone, noisy, timestep, states, mask, conditions=conditions)
        return self.noising.clean(noisy, output, level)

    @property
    def device(self) -> torch.device:
        """Where the backbone lies."""
        return device_of(self.backbone)

    def steps_and_guidance(self, steps: int, guidance: float) -> tuple[int, float]:
        """How it is sampled: as asked for, but a few-step model in 4 steps without guidance."""
        return (FEW_STEPS, 1.0) if self.few_step else (steps, guidance)


def backbone_part(folder: Path) -> tuple[str, Any]:
    """Sub-folder and class of the backbone in a pipeline folder. Raises FoundryError when there is none."""
    for part in ("transformer", "unet"):
        if (folder / part).is_dir():
            return part, _backbone_class(folder / part / "config.json")
    raise FoundryError(
        f"{folder}: holds neither transformer/ nor unet/; name the model/ folder of a finished run"
    )


def _backbone_class(path: Path) -> Any:
    import diffusers

    from training.pruning.saving import pruned_class_named  # whose plans look into folders by this module

    try:
        name = json.loads(path.read_text(encoding="utf-8")).get("_class_name")
    except (OSError, ValueError) as error:
        raise FoundryError(f"{path}: cannot be read ({error}); fetch the model again") from error
    pruned = pruned_class_named(str(name))
    if pruned is not None:
        return pruned
    if name not in BACKBONE_CLASSES:
        raise FoundryError(
            f"{path}: class '{name}' is no backbone that we know; known are {', '.join(BACKBONE_CLASSES)}"
        )
    return getattr(diffusers, name)


def load_part(kind: Any, folder: Path) -> Any:
    """A diffusers model in float32 and evaluation mode. Raises FoundryError when its weights are not safetensors."""
    check_safetensors(folder)
    return kind.from_pretrained(folder, low_cpu_mem_usage=False, use_safetensors=True).eval()


def sampling_device() -> str:
    """The accelerator of this process, where it sees one: a worker sees those that it was given."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def device_of(module: nn.Module) -> torch.device:
    """Where a model computes: where its trained weights lie, or else its first."""
    parameters = list(module.parameters())
    return next((p for p in parameters if p.requires_grad), parameters[0]).device


def build_scheduler(
    prediction: str, schedule: str = "scaled_linear", *, zero_terminal_snr: bool = False
) -> DPMSolverMultistepScheduler:
    """DPM-Solver++ (order 2) for a prediction: flow sigmas on the flow path, the betas of the schedule else."""
    beta_schedule, first, last = BETAS[schedule]
    return DPMSolverMultistepScheduler(
        num_train_timesteps=NUM_TIMESTEPS,
        beta_start=first,
        beta_end=last,
        beta_schedule=beta_schedule,
        prediction_type=PREDICTION_TYPES[prediction],
        use_flow_sigmas=Noising(prediction).is_flow_path,
        rescale_betas_zero_snr=zero_terminal_snr,
    )


def scheduler_of(noising: Noising) -> DPMSolverMultistepScheduler:
    """:func:`build_scheduler` of a noise process."""
    return build_scheduler(noising.prediction, noising.schedule, zero_terminal_snr=noising.zero_terminal_snr)


def noising_of(config: Mapping[str, Any]) -> Noising:
    """The noise process that a scheduler's configuration describes. Raises FoundryError for one we do not know."""
    if config.get("_class_name") == "FlowMatchEulerDiscreteScheduler":
        return Noising("flow")
    predictions = {value: key for key, value in PREDICTION_TYPES.items()}
    schedules = {beta_schedule: name for name, (beta_schedule, _, _) in BETAS.items()}
    prediction, schedule = (
        config.get("prediction_type", "epsilon"),
        config.get("beta_schedule", "scaled_linear"),
    )
    if prediction not in predictions or schedule not in schedules:
        raise FoundryError(
            f"scheduler_config.json: prediction_type '{prediction}' with beta_schedule '{schedule}'; known are "
            f"{', '.join(predictions)} with {', '.join(schedules)}"
        )
    _check_betas(config, schedules[schedule])
    return Noising(predictions[prediction], schedules[schedule], bool(config.get("rescale_betas_zero_snr")))


def _check_betas(config: Mapping[str, Any], schedule: str) -> None:
    _, *wanted = BETAS[schedule]
    found = [config.get("beta_start", wanted[0]), config.get("beta_end", wanted[1])]
    if schedule != "cosine" and found != wanted:
        raise FoundryError(
            f"scheduler_config.json: betas run from {found[0]} to {found[1]}; '{schedule}' is known with "
            f"{wanted[0]} to {wanted[1]}"
        )


def initial_noise(seeds: Sequence[int], shape: Sequence[int]) -> Float[Tensor, "n c h w"]:
    """One latent of noise per seed, as ``torch.Generator().manual_seed(seed)`` draws it in a stock pipeline."""
    return draw_noise(generators_of(seeds), shape)


def sample(
    model_folder: Path,
    prompts: Prompts,
    seeds: Sequence[int],
    *,
    steps: int = 20,
    guidance: float = 3.0,
    threads: int | None = None,
    batch_size: int = 64,
    raw: bool = False,
) -> UInt8[np.ndarray, "n height width 3"]:
    """Sample one picture per prompt and seed from a model folder; guidance 1 uses no empty text.

    Raises FoundryError when seeds and prompts differ in number or the folder is no model.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    return sample_with(Denoiser.load(model_folder, raw=raw), prompts, seeds, steps, guidance, batch_size)


@torch.inference_mode()
def sample_with(
    denoiser: Denoiser,
    prompts: Prompts,
    seeds: Sequence[int],
    steps: int,
    guidance: float,
    batch_size: int = 64,
    latent_size: tuple[int, int] | None = None,
) -> UInt8[np.ndarray, "n height width 3"]:
    """Like :func:`sample`, for a loaded denoiser; ``latent_size`` is height and width, None for the backbone's own."""
    if len(seeds) != len(prompts.states):
        raise FoundryError(f"{len(prompts.states)} prompts but {len(seeds)} seeds; give one seed a prompt")
    pictures = []
    for start in range(0, len(seeds), batch_size):
        chosen = slice(start, start + batch_size)
        latents = sample_latents(
            denoiser, prompts.part(start, start + batch_size), seeds[chosen], steps, guidance, latent_size
        )
        pictures.append(decode(denoiser.autoencoder, latents))
    return np.concatenate(pictures)


@torch.inference_mode()
def decode(autoencoder: Any, latents: Float[Tensor, "n c h w"]) -> UInt8[np.ndarray, "n height width 3"]:
    """Pictures of scaled latents, rounded as diffusers rounds them."""
    images = autoencoder.decode(unscaled(autoencoder.config, latents), return_dict=False)[0]
    unit = (images / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).cpu().float().numpy()
    return (unit * 255).round().astype(np.uint8)


def write_sheet(path: Path, images: UInt8[np.ndarray, "n height width 3"], columns: int = 8) -> None:
    """Write pictures as one PNG sheet. Raises FoundryError when it cannot be written."""
    count, height, width, _ = images.shape
    columns = min(columns, count)
    sheet = np.full((-(-count // columns) * height, columns * width, 3), 255, np.uint8)
    for index, image in enumerate(images):
        top, left = index // columns * height, index % columns * width
        sheet[top : top + height, left : left + width] = image
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        Image.fromarray(sheet).save(temporary, "PNG")
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise write_error(path, error) from error
