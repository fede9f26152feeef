"""A small diffusers AutoencoderKL: L1 on pixels and their gradients, a small KL term, no adversary."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from safetensors.torch import save_file
from torch import Tensor, nn

from training.model_folders.autoencoders import build_autoencoder, write_autoencoder_probe
from training.model_folders.linear_encoders import (
    LinearMap,
    check_widths,
    principal_components,
    set_linear_encoder,
)
from training.randomness import Draw
from training.recipes.autoencoder import AutoencoderOptions
from training.recipes.execution import Execution, input_folder
from training.recipes.specification import TrainingSpecification
from training.shards import ImageShards

SCALE_SAMPLES = 512  # pictures that the latents' mean and spread are measured on

SCALE_BATCH = 64


class AutoencoderObjective:
    """Owns the autoencoder and a folder of pictures."""

    def __init__(self, spec: TrainingSpecification, execution: Execution, device: str) -> None:
        self.options = spec.recipe.options_of(AutoencoderOptions)
        self.seed = spec.recipe.seed
        self.device = device
        self.shards = ImageShards.open(input_folder(execution, "dataset"))
        self.rows = self.shards.select(spec.recipe.dataset.splits, spec.recipe.dataset.max_samples)
        self.num_samples = len(self.rows)
        self.module = build_autoencoder(self.options, self.shards.images.shape[1], spec.recipe.seed)
        if self.options.encoder == "principal_components":
            set_linear_encoder(self.module, self._components(), self.options.latent_noise)
        self.module = self.module.to(device, memory_format=torch.channels_last)

    def _components(self) -> LinearMap:
        """The linear map of the data: the same in every process and after every restart."""
        images = torch.from_numpy(self.shards.gather_images(self.rows[:SCALE_SAMPLES]))
        options = self.options
        side_px = 2 ** (len(options.block_channels) - 1)
        check_widths(options.block_channels, options.latent_channels)
        return principal_components(images, side_px, options.latent_channels, options.smallest_spread)

    def hidden_matrices(self, *, convolutions: bool) -> list[nn.Parameter]:
        """Trained weights inside the blocks; see :class:`training.objectives.HasHiddenMatrices`."""
        return [
            parameter
            for name, parameter in self.module.named_parameters()
            if "block" in name
            and parameter.requires_grad
            and (parameter.ndim == 2 or (convolutions and parameter.ndim > 2))
        ]

    def load(self, draw: Draw) -> Float[Tensor, "b 3 h w"]:
        """Pictures in [-1, 1]."""
        images = torch.from_numpy(self.shards.gather_images(self.rows[draw.rows]))
        return images.to(self.device, memory_format=torch.channels_last)

    def loss(self, batch: Float[Tensor, "b 3 h w"], draw: Draw) -> tuple[Tensor, dict[str, Tensor | float]]:
        """Weighted sum of absolute, squared, gradient and KL terms, and each of them."""
        posterior = self.module.encode(batch).latent_dist
        noise = torch.from_numpy(draw.normal("posterior", posterior.mean.shape[1:])).to(self.device)
        restored = self.module.decode(posterior.mean + posterior.std * noise).sample
        error = restored - batch
        absolute, squared = error.abs().mean(), error.square().mean()
        edges = (error.diff(dim=2).abs().mean() + error.diff(dim=3).abs().mean()) / 2
        kl = 0.5 * (posterior.mean.square() + posterior.var - 1 - posterior.logvar).mean()
        options = self.options
        loss = (
            absolute + options.squared_weight * squared + options.edge_weight * edges + options.kl_weight * kl
        )
        parts = {"absolute": absolute, "squared": squared, "edges": edges, "kl": kl}
        return loss, {name: value.detach() for name, value in parts.items()}

    def export(self, folder: Path) -> None:
        """Write config and weights; latents are centred per channel and scaled to unit spread as a whole.

        The channel means move into the 1x1 convolutions around the latent (exact), the spread into
        ``scaling_factor``, as stock pipelines expect.
        """
        mean, std = self._latent_moments()
        state = {name: value.clone() for name, value in self.module.state_dict().items()}
        _centre(state, mean)
        self._save(folder, state, scaling_factor=float(1 / std))
        write_autoencoder_probe(folder)

    def export_weights(self, folder: Path) -> None:
        """Write the weights as they were trained, uncentred."""
        self._save(folder, self.module.state_dict(), scaling_factor=1.0)

    def write_samples(self, path: Path, execution: Execution) -> None:
        """Originals above, reconstructions below."""
        from training.model_folders.sample_sheet import write_sheet

        images = self.shards.images[self.rows[: execution.sample_count]]
        with torch.inference_mode():
            batch = torch.from_numpy(self.shards.gather_images(self.rows[: execution.sample_count]))
            restored = self.module.decode(self.module.encode(batch.to(self.device)).latent_dist.mean).sample
        unit = (restored / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).cpu().numpy()
        both = np.concatenate([images, (unit * 255).round().astype(np.uint8)])
        write_sheet(path, both, columns=len(images))

    @torch.inference_mode()
    def _latent_moments(self) -> tuple[Tensor, Tensor]:
        """Mean per channel, and standard deviation over all after centring, of the posterior means."""
        rows = self.rows[:SCALE_SAMPLES]
        parts = []
        for start in range(0, len(rows), SCALE_BATCH):
            images = torch.from_numpy(self.shards.gather_images(rows[start : start + SCALE_BATCH]))
            parts.append(self.module.encode(images.to(self.device)).latent_dist.mean.double())
        latents = torch.cat(parts)
        mean = latents.mean((0, 2, 3))
        return mean, (latents - mean[:, None, None]).std()

    def _save(self, folder: Path, state: dict[str, Tensor], scaling_factor: float) -> None:
        folder.mkdir(parents=True)
        config = json.loads(self.module.to_json_string()) | {"scaling_factor": scaling_factor}
        (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
        tensors = {name: value.contiguous().cpu() for name, value in state.items()}
        save_file(tensors, folder / "diffusion_pytorch_model.safetensors", metadata={"format": "pt"})


def _centre(state: dict[str, Tensor], mean: Tensor) -> None:
    """Subtract ``mean`` behind the encoder's 1x1 convolution and add it back before the decoder's."""
    channels = len(mean)
    weight = state["post_quant_conv.weight"][:, :, 0, 0].double()
    state["quant_conv.bias"][:channels] -= mean.to(state["quant_conv.bias"].dtype)
    state["post_quant_conv.bias"] += (weight @ mean).to(state["post_quant_conv.bias"].dtype)
