"""Denoising latents under a caption: flow matching, or epsilon and v under DDPM."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import FluxTransformer2DModel, UNet2DConditionModel
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from training.backbones import Conditions, bare, denoise, latent_shape, pooled_dim, takes_mask, text_dim
from training.errors import FoundryError
from training.noising import Noising
from training.objectives import input_folder
from training.prompts import Prompts
from training.randomness import Draw
from training.shards import TextBatch, TrainingShards
from training.spec import DiffusionOptions, Execution, TrainingSpecification

NULL_CAPTION = -1
LORA_FOLDER = "lora"


@dataclass(frozen=True)
class DiffusionBatch:
    """Latents with the token states of the captions drawn; caption -1 is the empty text."""

    latents: Float[Tensor, "b c h w"]
    states: Float[Tensor, "b tokens dim"]
    mask: Bool[Tensor, "b tokens"]
    captions: Int64[np.ndarray, " b"]
    pooled: Float[Tensor, "b pooled_dim"] | None = None


class DiffusionObjective:
    """Owns the backbone and the training shards. ``few_step`` tells one whose model is sampled in 1 to 4 steps, unguided."""

    few_step = False

    def __init__(self, spec: TrainingSpecification, execution: Execution, device: str) -> None:
        recipe = spec.recipe
        self.spec = spec
        self.options, backbone = self.start(spec, execution)
        self.device = device
        self.noising = Noising(
            self.options.prediction, self.options.noise_schedule, self.options.zero_terminal_snr
        )
        self.shards = TrainingShards.open(input_folder(execution, "dataset"))
        check_input_digests(spec, self.shards)
        self.rows = self.shards.select(
            recipe.dataset.splits,
            recipe.dataset.max_samples,
            raw=recipe.dataset.filter == "raw",
            max_concepts=recipe.dataset.max_concepts,
        )
        self.num_samples = len(self.rows)
        self.caption_keys = self.shards.sample_keys(self.rows)
        self.parent = input_folder(execution, "parent") if recipe.parent and not self.few_step else None
        from training.fine_tuning import adapt

        adapt(backbone, recipe, execution)
        self.module = backbone.to(device)
        _place(self.module, execution, device)
        self._check_shapes()
        # A model whose stock pipeline passes no mask must meet the same padding in training.
        self.pad_to = None if takes_mask(self.module) else self.shards.description.max_tokens
        self.autoencoder_folder = input_folder(execution, "autoencoder")
        self.forward = torch.compile(denoise) if execution.compile else denoise

    def start(self, spec: TrainingSpecification, execution: Execution) -> tuple[DiffusionOptions, Any]:
        """Options and the backbone to train, from the seed or from the recipe's parent. Raises FoundryError."""
        from training.parents import initial_backbone

        options = spec.recipe.diffusion
        if options is None:
            raise FoundryError(f"recipe '{spec.recipe.name}': lacks the section 'diffusion'; add it")
        noising = Noising(options.prediction, options.noise_schedule, options.zero_terminal_snr)
        return options, initial_backbone(spec, execution, noising)

    def load(self, draw: Draw) -> DiffusionBatch:
        """Latents and the states of one caption each, some replaced by the empty text."""
        rows = self.rows[draw.rows]
        captions = self.draw_captions(draw)
        texts = np.where(
            captions == NULL_CAPTION,
            self.shards.null_text(len(rows)),
            self.shards.text_of(rows, np.maximum(captions, 0)),
        )
        text = self.shards.gather_text(texts, self.pad_to)
        return DiffusionBatch(
            self._to_device(self.shards.gather_latents(rows)),
            *self._text_tensors(text),
            captions,
            self._to_device(self._pooled(texts)) if self.takes_pooled else None,
        )

    def draw_captions(self, draw: Draw) -> Int64[np.ndarray, " b"]:
        """Caption numbers of a batch, -1 where the caption is dropped."""
        mix = self.spec.recipe.dataset.captions
        counts = self.shards.num_captions(self.rows[draw.rows])
        captions = draw.captions(self.caption_keys, counts, mix.original_probability, mix.max_generated)
        dropped = draw.uniform("caption_dropout") < self.options.caption_dropout
        return np.where(dropped, NULL_CAPTION, captions)

    def draw_levels(self, draw: Draw) -> Float[Tensor, " b"]:
        """Noise levels t in [0, 1]: uniform, or the sigmoid of a normal (Esser et al. 2024, section 3.1)."""
        level = torch.from_numpy(draw.uniform("noise_level"))
        if self.options.time_sampling == "logit_normal":
            level = torch.sigmoid(
                self.options.logit_mean + self.options.logit_std * torch.special.ndtri(level)
            )
        return level.float().to(self.device)

    def loss(self, batch: DiffusionBatch, draw: Draw) -> tuple[Tensor, dict[str, Tensor | float]]:
        """Mean squared error of the prediction, and how often each caption was shown."""
        noise = self._to_device(draw.normal("noise", batch.latents.shape[1:]))
        level = self.draw_levels(draw)
        noisy = self.noising.add_noise(batch.latents, noise, level)
        timestep, conditions = self.noising.timestep(level), Conditions(pooled=batch.pooled)
        output = self.forward(self.module, noisy, timestep, batch.states, batch.mask, conditions=conditions)
        target = self.noising.target(batch.latents, noise, level)
        squared = (output.float() - target).square()
        if self.options.min_snr_gamma is not None:
            weights = self.noising.min_snr_weights(level, self.options.min_snr_gamma)
            squared = squared * weights[:, None, None, None]
        return squared.mean(), self._caption_counts(batch.captions)

    def export(self, folder: Path) -> None:
        """Write a diffusers pipeline folder without text encoder, and adapters beside where they were trained."""
        from training.export import export_pipeline

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
        from training.export import save_backbone

        save_backbone(self._whole(), folder)
        self._export_adapters(folder)

    def write_samples(self, path: Path, execution: Execution) -> None:
        """A sheet of samples for the first alt-texts of the data, the same noise every time."""
        from training.pretrained import load_scheduler
        from training.sampling import Denoiser, sample_with, write_sheet
        from training.schedulers import FEW_STEPS

        rows = self.rows[: execution.sample_count]
        texts = self.shards.text_of(rows, np.zeros_like(rows))
        text = self.shards.gather_text(texts, self.shards.description.max_tokens)
        null = self.shards.gather_text(self.shards.null_text(1), self.shards.description.max_tokens)
        pooled = (self._pooled(texts), self._pooled(self.shards.null_text(1))[0])
        prompts = Prompts(
            text.states, text.mask, null.states[0], null.mask[0], *(pooled if self.takes_pooled else ())
        )
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
        _, height, width = self.shards.description.latent_shape or (0, 0, 0)
        images = sample_with(
            denoiser, prompts, list(range(len(rows))), steps, guidance, latent_size=(height, width)
        )
        write_sheet(path, images)

    def _caption_counts(self, captions: np.ndarray) -> dict[str, Tensor | float]:
        most = self.spec.recipe.dataset.captions.max_generated
        counts = np.bincount(captions + 1, minlength=most + 2)
        names = ["null", *(str(index) for index in range(most + 1))]
        return {f"count_caption_{name}": float(count) for name, count in zip(names, counts, strict=True)}

    @property
    def takes_pooled(self) -> bool:
        """Whether the backbone is told pooled text beside token states."""
        return pooled_dim(bare(self.module).config) is not None

    def _pooled(self, texts: np.ndarray) -> Float[np.ndarray, "b pooled_dim"]:
        return self.shards.pooled[texts].astype(np.float32)

    def _whole(self) -> Any:
        from training.fine_tuning import whole_backbone

        return whole_backbone(self.module, self.spec.recipe, self.parent)

    def _export_adapters(self, folder: Path) -> None:
        from training.export import part_of
        from training.lora import save_adapters

        options = self.spec.recipe.lora
        if options is not None:
            save_adapters(self.module, folder, part_of(self.module), options)

    def _text_tensors(self, text: TextBatch) -> tuple[Tensor, Tensor]:
        return self._to_device(text.states), torch.from_numpy(text.mask).to(self.device)

    def _to_device(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(array).to(self.device)

    def _check_shapes(self) -> None:
        about, config = self.shards.description, self.module.config
        shape, latents = latent_shape(self.module), about.latent_shape
        if isinstance(self.module, FluxTransformer2DModel) and latents is not None:
            shape = (shape[0], *latents[1:])  # any size will do
        found = (latents, about.text_dim, self.shards.pooled.shape[1] if self.takes_pooled else None)
        wanted = (shape, text_dim(config), pooled_dim(config))
        if found != wanted:
            name = self.spec.recipe.backbone or self.spec.recipe.parent
            raise FoundryError(
                f"backbone '{name}' takes latents, text width and pooled width {wanted}, the dataset "
                f"{self.shards.folder} holds {found}; name a backbone of this latent space"
            )


def _place(module: Any, execution: Execution, device: str) -> None:
    """Memory format and recomputation, which change no result but for its last bits."""
    wanted = execution.channels_last if execution.channels_last is not None else device == "cuda"
    if wanted and isinstance(module, UNet2DConditionModel):
        module.to(memory_format=torch.channels_last)
    if execution.activation_checkpointing:
        module.enable_gradient_checkpointing()


def check_input_digests(spec: TrainingSpecification, shards: TrainingShards) -> None:
    """Refuse data made by another autoencoder or text encoder than the specification names."""
    found = {
        "autoencoder": shards.description.autoencoder_digest,
        "text_encoder": shards.description.text_encoder_digest,
    }
    for name, digest in found.items():
        wanted = spec.inputs.get(name)
        if wanted is not None and digest != wanted:
            raise FoundryError(
                f"{shards.folder}: made with {name} {str(digest)[:12]}…, the specification names {wanted[:12]}…; "
                "write the training shards again or name that model"
            )
