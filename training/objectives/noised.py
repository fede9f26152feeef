"""What objectives over noised latents share: backbone, feed, noise and level of a draw, forward pass, export, samples.

Each of them is a subclass in a file of its own that says where it starts and what its loss is.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from training.backbones import (
    bare,
    denoise,
    family_of,
    hidden_matrices,
    is_part_of,
    latent_channels,
    own_size,
    pooled_dim,
    text_dim,
)
from training.conditioning import Condition
from training.diffusion.noise_process import Noising
from training.errors import FoundryError
from training.feed.latents import LatentBatch, LatentFeed
from training.feed.order import Order
from training.feed.shapes import check_latent_sizes
from training.hardware import to_device
from training.model_folders.autoencoder_config import pixels_per_latent, read_autoencoder_config
from training.randomness import Draw
from training.recipes.diffusion import DiffusionOptions
from training.recipes.execution import Execution, input_folder
from training.recipes.specification import TrainingSpecification

LORA_FOLDER = "lora"


@dataclass(frozen=True)
class NoisedLatents:
    """A batch on its way to pure noise: level 0 is clean. What a network is asked, and what its answer is held against."""

    clean: Float[Tensor, "b c h w"]
    noise: Float[Tensor, "b c h w"]
    level: Float[Tensor, " b"]
    noisy: Float[Tensor, "b c h w"]
    condition: Condition


class NoisedObjective(ABC):
    """Owns the backbone and the feed of latents. ``few_step`` tells one whose model is sampled in 1 to 4 steps, unguided.

    ``arrays`` names what a batch carries of every sample beside latents and text (:mod:`training.shards.arrays`).
    """

    few_step = False
    arrays: tuple[str, ...] = ()

    def __init__(self, spec: TrainingSpecification, execution: Execution, device: str) -> None:
        recipe = spec.recipe
        self.spec = spec
        self.options, backbone = self.start(spec, execution)
        self.device = device
        self.noising = Noising(
            self.options.prediction, self.options.noise_schedule, self.options.zero_terminal_snr
        )
        self.feed = LatentFeed(
            spec, execution, device, pooled=pooled_dim(bare(backbone).config) is not None, arrays=self.arrays
        )
        self.shards, self.rows = self.feed.shards, self.feed.rows
        self.num_samples = len(self.rows)
        self.parent = input_folder(execution, "parent") if recipe.parent and not self.few_step else None
        from training.adapters.adapt import adapt

        adapt(backbone, recipe, execution)
        self.module = backbone.to(device)
        place(self.module, execution, device)
        self._check_shapes()
        # A model whose stock pipeline passes no mask must meet the same padding in training.
        self.feed.pad_to = None if family_of(self.module).takes_mask else self.shards.description.max_tokens
        self.autoencoder_folder = input_folder(execution, "autoencoder")
        self.pixels_per_latent = pixels_per_latent(read_autoencoder_config(self.autoencoder_folder))
        self.forward = torch.compile(denoise) if execution.compile else denoise

    @abstractmethod
    def start(self, spec: TrainingSpecification, execution: Execution) -> tuple[DiffusionOptions, Any]:
        """Options and the backbone to train. Raises FoundryError."""

    @abstractmethod
    def loss(self, batch: LatentBatch, draw: Draw) -> tuple[Tensor, dict[str, Tensor | float]]:
        """Mean loss over the batch, and named scalars, among them :meth:`caption_counts`."""

    def hidden_matrices(self, *, convolutions: bool) -> list[nn.Parameter]:
        """See :class:`training.objectives.HasHiddenMatrices`."""
        return hidden_matrices(self.module, convolutions=convolutions)

    def build_order(self) -> Order:
        """The order of samples that the recipe asks for."""
        return self.feed.build_order()

    def look_ahead(self, draws: Iterator[Draw]) -> None:
        """Take over the coming draws, for texts that are encoded ahead."""
        self.feed.look_ahead(draws, self.options.caption_dropout)

    def load(self, draw: Draw) -> LatentBatch:
        """Latents and the states of one caption each, some replaced by the empty text."""
        batch = self.feed.load(draw, self.options.caption_dropout)
        told = replace(batch.condition, pixels_per_latent=self.pixels_per_latent)
        return replace(batch, condition=told)

    def close(self) -> None:
        """End what the feed runs beside the training."""
        self.feed.close()

    def draw_levels(self, draw: Draw) -> Float[Tensor, " b"]:
        """Noise levels t in [0, 1]: uniform, or the sigmoid of a normal (Esser et al. 2024, section 3.1)."""
        level = torch.from_numpy(draw.uniform("noise_level"))
        if self.options.time_sampling == "logit_normal":
            level = torch.sigmoid(
                self.options.logit_mean + self.options.logit_std * torch.special.ndtri(level)
            )
        return to_device(level.float(), self.device)

    def noised(
        self, batch: LatentBatch, draw: Draw, level: Float[Tensor, " b"] | None = None
    ) -> NoisedLatents:
        """The batch under the draw's noise, at the draw's levels unless others are given."""
        noise = to_device(draw.normal("noise", batch.latents.shape[1:]), self.device)
        level = self.draw_levels(draw) if level is None else level
        noisy = self.noising.add_noise(batch.latents, noise, level)
        return NoisedLatents(batch.latents, noise, level, noisy, batch.condition)

    def predict(
        self,
        network: Any,
        noisy: Float[Tensor, "b c h w"],
        level: Float[Tensor, " b"],
        condition: Condition,
    ) -> Float[Tensor, "b c h w"]:
        """What a network answers, in float32."""
        return self.forward(network, noisy, self.noising.timestep(level), condition).float()

    def data_target(self, noised: NoisedLatents) -> Float[Tensor, "b c h w"]:
        """What the data says the answer is, in the form that is predicted."""
        return self.noising.target(noised.clean, noised.noise, noised.level)

    def caption_counts(self, captions: Int64[np.ndarray, " b"]) -> dict[str, Tensor | float]:
        """How often each caption was shown, as scalars that are summed."""
        most = self.spec.recipe.dataset.captions.max_generated
        counts = np.bincount(captions + 1, minlength=most + 2)
        names = ["null", *(str(index) for index in range(most + 1))]
        return {f"count_caption_{name}": float(count) for name, count in zip(names, counts, strict=True)}

    def export(self, folder: Path) -> None:
        """Write a diffusers pipeline folder without text encoder, and adapters beside where they were trained."""
        from training.model_folders.export import export_pipeline

        export_pipeline(
            folder,
            self._whole(),
            self.autoencoder_folder,
            self.noising,
            few_step=self.few_step,
            parent=self.parent,
        )
        self._export_adapters(folder / LORA_FOLDER)

    def export_weights(self, folder: Path) -> None:
        """Write the backbone alone, and adapters beside where they were trained."""
        from training.model_folders.export import save_backbone

        save_backbone(self._whole(), folder)
        self._export_adapters(folder)

    def write_samples(self, path: Path, execution: Execution) -> None:
        """A sheet of samples for the first alt-texts of the data, the same noise every time."""
        from training.diffusion.few_step_schedulers import FEW_STEPS
        from training.model_folders.denoiser import Denoiser, sample_with
        from training.model_folders.pretrained import load_scheduler
        from training.model_folders.sample_sheet import write_sheet

        prompts = self.prompts(execution.sample_count)
        denoiser = Denoiser.from_parts(
            self.module,
            self.autoencoder_folder,
            self.noising,
            few_step=self.few_step,
            scheduler=load_scheduler(self.parent) if self.parent else None,
        )
        steps, guidance = (
            (FEW_STEPS, 1.0) if self.few_step else (execution.sample_steps, execution.sample_guidance)
        )
        _, height, width = self.shards.description.latent_shapes[0]
        seeds = list(range(len(prompts)))
        images = sample_with(denoiser, prompts, seeds, steps, guidance, latent_size=(height, width))
        write_sheet(path, images)

    def prompts(self, count: int) -> Condition:
        """What samples are drawn for: the first alt-texts of the data, with the empty text as their null."""
        return self.feed.prompts(count)

    def _whole(self) -> Any:
        from training.adapters.adapt import whole_backbone

        return whole_backbone(self.module, self.spec.recipe, self.parent)

    def _export_adapters(self, folder: Path) -> None:
        from training.adapters.lora import save_adapters
        from training.model_folders.export import part_of

        options = self.spec.recipe.lora
        if options is not None:
            save_adapters(self.module, folder, part_of(self.module), options)

    def weights_of(self, level: Float[Tensor, " b"]) -> Float[Tensor, " b"] | None:
        """What each picture's error weighs at its noise level, as the options say; None for all alike."""
        if self.options.min_snr_gamma is not None:
            return self.noising.min_snr_weights(level, self.options.min_snr_gamma)
        if self.options.velocity_floor is not None:
            return self.noising.velocity_weights(level, self.options.velocity_floor)
        return None

    def _check_shapes(self) -> None:
        about, config = self.shards.description, self.module.config
        shapes = about.latent_shapes
        size = own_size(self.module) or shapes[0][1:]
        size = next((shape[1:] for shape in shapes if is_part_of(shape, size)), size)
        own = (latent_channels(self.module), *size)
        pooled = pooled_dim(bare(self.module).config)
        widths = (
            about.text_dim if about.has_states else text_dim(config),
            self.shards.pooled(self.shards.null_text(1)).shape[1] if pooled and about.has_states else pooled,
        )
        if own not in shapes or widths != (text_dim(config), pooled):
            name = self.spec.recipe.backbone or self.spec.recipe.parent
            wanted = (own, text_dim(config), pooled)
            found = (shapes[0] if len(shapes) == 1 else shapes, *widths)
            raise FoundryError(
                f"backbone '{name}' takes latents, text width and pooled width {wanted}, the dataset "
                f"{self.shards.folder} holds {found}; name a backbone of this latent space"
            )
        check_latent_sizes(self.module, shapes, str(self.shards.folder))


def place(module: Any, execution: Execution, device: str) -> None:
    """Memory format and recomputation, which change no result but for its last bits."""
    wanted = execution.channels_last if execution.channels_last is not None else device == "cuda"
    if wanted and family_of(module).part == "unet":
        module.to(memory_format=torch.channels_last)
    if execution.activation_checkpointing:
        module.enable_gradient_checkpointing()


def options_under(noising: Noising, **others: Any) -> DiffusionOptions:
    """Options with a teacher's prediction and noise, and others of one's own."""
    own = {
        "prediction": noising.prediction,
        "noise_schedule": noising.schedule,
        "zero_terminal_snr": noising.zero_terminal_snr,
    }
    return DiffusionOptions.model_validate({**own, **others})
