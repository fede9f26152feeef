"""Tiny pipelines of the stock classes with random weights, as somebody else would have saved them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DiffusionPipeline,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    PixArtAlphaPipeline,
    PixArtTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)

from training.conditioning import Condition
from training.digests import OUTSIDE_MODEL_DIGEST, folder_digest
from training.model_folders.pretrained import fine_tuning_inputs
from training.recipes.execution import Execution
from training.recipes.files import load_recipe
from training.recipes.specification import TrainingSpecification
from training.run_folder import RunFolder, prepare
from training.shards import write_training_shards

CHANNELS, SIDE, TEXT, POOLED, TOKENS = 4, 8, 16, 24, 6
LATENT = (CHANNELS, SIDE, SIDE)
STEPS = 3
BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


@dataclass(frozen=True)
class Family:
    """One stock pipeline: how a tiny one is built, and what a recipe says of its noise."""

    pipeline: Any
    backbone: Callable[[], Any]
    scheduler: Callable[[], Any]
    diffusion: Mapping[str, Any]
    part: str = "transformer"
    absent: tuple[str, ...] = ("text_encoder", "tokenizer")
    shift: float | None = None


def unet(**extra: Any) -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=SIDE,
        in_channels=CHANNELS,
        out_channels=CHANNELS,
        block_out_channels=(8, 16),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=2,
        cross_attention_dim=TEXT,
        norm_num_groups=4,
        use_linear_projection=True,
        **extra,
    )


def sdxl_unet() -> UNet2DConditionModel:
    return unet(
        addition_embed_type="text_time",
        addition_time_embed_dim=4,
        projection_class_embeddings_input_dim=POOLED + 6 * 4,
    )


def pixart() -> PixArtTransformer2DModel:
    return PixArtTransformer2DModel(
        num_attention_heads=2,
        attention_head_dim=8,
        num_layers=1,
        cross_attention_dim=16,
        caption_channels=TEXT,
        in_channels=CHANNELS,
        out_channels=2 * CHANNELS,
        sample_size=SIDE,
        use_additional_conditions=False,
    )


def sd3(**changes: Any) -> SD3Transformer2DModel:
    config: dict[str, Any] = {
        "sample_size": SIDE,
        "patch_size": 2,
        "in_channels": CHANNELS,
        "out_channels": CHANNELS,
        "num_layers": 2,
        "attention_head_dim": 8,
        "num_attention_heads": 2,
        "joint_attention_dim": TEXT,
        "caption_projection_dim": 16,
        "pooled_projection_dim": POOLED,
        "pos_embed_max_size": 16,
    }
    return SD3Transformer2DModel(**{**config, **changes})


def flux(**changes: Any) -> FluxTransformer2DModel:
    config: dict[str, Any] = {
        "in_channels": 4 * CHANNELS,
        "num_layers": 1,
        "num_single_layers": 1,
        "attention_head_dim": 16,
        "num_attention_heads": 2,
        "joint_attention_dim": TEXT,
        "pooled_projection_dim": POOLED,
        "guidance_embeds": True,
        "axes_dims_rope": (4, 6, 6),
    }
    return FluxTransformer2DModel(**{**config, **changes})


EPSILON = {"prediction": "epsilon", "time_sampling": "uniform"}
TWO_TEXTS = ("text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2")
FAMILIES: Mapping[str, Family] = {
    "sd2": Family(
        StableDiffusionPipeline,
        unet,
        lambda: DDIMScheduler(
            **BETAS, prediction_type="v_prediction", clip_sample=False, set_alpha_to_one=False, steps_offset=1
        ),
        {"prediction": "v", "time_sampling": "uniform"},
        "unet",
        ("text_encoder", "tokenizer", "safety_checker", "feature_extractor", "image_encoder"),
    ),
    "sdxl": Family(
        StableDiffusionXLPipeline,
        sdxl_unet,
        lambda: EulerDiscreteScheduler(**BETAS, timestep_spacing="leading", steps_offset=1),
        EPSILON,
        "unet",
        (*TWO_TEXTS, "image_encoder", "feature_extractor"),
    ),
    "pixart": Family(
        PixArtAlphaPipeline,
        pixart,
        lambda: DPMSolverMultistepScheduler(beta_start=1e-4, beta_end=0.02, beta_schedule="linear"),
        {**EPSILON, "noise_schedule": "linear"},
    ),
    "sd3": Family(
        StableDiffusion3Pipeline,
        sd3,
        lambda: FlowMatchEulerDiscreteScheduler(shift=3.0),
        {"prediction": "flow"},
        absent=(*TWO_TEXTS, "text_encoder_3", "tokenizer_3", "image_encoder", "feature_extractor"),
        shift=0.0609,
    ),
    "flux": Family(
        FluxPipeline,
        flux,
        lambda: FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True),
        {"prediction": "flow"},
        absent=(*TWO_TEXTS, "image_encoder", "feature_extractor"),
        shift=0.1159,
    ),
}


def autoencoder(shift: float | None) -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(4, 4, 4, 4),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        latent_channels=CHANNELS,
        norm_num_groups=2,
        sample_size=8 * SIDE,
        scaling_factor=0.7,
        shift_factor=shift,
    )


def absent_parts(family: Family) -> dict[str, Any]:
    return dict.fromkeys(family.absent)


def save_pipeline(name: str, folder: Path) -> Path:
    """A tiny pipeline of a family, saved by diffusers itself, every weight random."""
    family = FAMILIES[name]
    torch.manual_seed(7)
    backbone = family.backbone()
    with torch.no_grad():  # some layers start at zero, and a model that answers zero shows no mistake
        for parameter in backbone.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    parts = {
        family.part: backbone,
        "vae": autoencoder(family.shift),
        "scheduler": family.scheduler(),
        **absent_parts(family),
    }
    if name == "sd2":
        parts["requires_safety_checker"] = False
    family.pipeline(**parts).save_pretrained(folder)
    return folder


def load_pipeline(name: str, folder: Path) -> DiffusionPipeline:
    pipeline = FAMILIES[name].pipeline.from_pretrained(folder, **absent_parts(FAMILIES[name]))
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def write_shards(folder: Path, vae: Path) -> Path:
    """Six samples in the pipeline's latent space, seven texts with states and pooled vectors; text 0 is the empty one."""
    random = np.random.default_rng(0)
    lengths = np.array([1, 3, 4, 5, 6, 2, 6], np.int32)
    write_training_shards(
        folder,
        pa.table({"sample_id": [f"s{i}" for i in range(6)], "split": ["train"] * 6}),
        random.normal(size=(6, *LATENT)).astype(np.float16),
        np.arange(7, dtype=np.int64),
        np.arange(1, 7, dtype=np.int64),
        random.normal(size=(lengths.sum(), TEXT)).astype(np.float16),
        lengths,
        random.normal(size=(7, POOLED)).astype(np.float16),
        null_text_index=0,
        autoencoder_digest=folder_digest(vae, OUTSIDE_MODEL_DIGEST),
        text_encoder_digest="e" * 64,
        max_tokens=TOKENS,
    )
    return folder


class FineTuning:
    """Prepares fine-tunings of one family's tiny pipeline."""

    def __init__(self, name: str, root: Path) -> None:
        self.name, self.root = name, root
        self.parent = save_pipeline(name, root / "parent")
        self.shards = write_shards(root / "shards", self.parent / "vae")

    def prepare(
        self, root: str = "runs", execution: Mapping[str, Any] | None = None, **recipe: Any
    ) -> RunFolder:
        """A run folder that starts from the pipeline; settings replace the recipe's."""
        digests, places = fine_tuning_inputs(self.parent, self.shards)
        settings = {
            "name": "child",
            "parent": "somebody-s",
            "images_total": 8,
            "batch_size": 4,
            "learning_rate": 1e-2,
            "ema_half_life_images": 8,
            "diffusion": dict(FAMILIES[self.name].diffusion),
        }
        spec = TrainingSpecification(
            recipe=load_recipe({**settings, **recipe}),
            inputs=digests,
        )
        values = {
            "device": "cpu",
            "threads": 1,
            "log_every_images": 4,
            "input_paths": {key: str(value) for key, value in places.items()},
        }
        return prepare(self.root / root, spec, Execution.model_validate({**values, **dict(execution or {})}))


def prompts(name: str) -> Condition:
    """Two texts and the empty one, with pooled vectors where the family takes them."""
    random = np.random.default_rng(1)
    states = random.normal(size=(3, TOKENS, TEXT)).astype(np.float32)
    mask = np.ones((3, TOKENS), bool)
    mask[2, 1:] = False
    pooled = random.normal(size=(3, POOLED)).astype(np.float32)
    own = pooled if name in ("sdxl", "sd3", "flux") else None
    return Condition.of_arrays(states, mask, own).last_as_null()


def stock_pictures(name: str, pipeline: Any, texts: Condition, guidance: float) -> np.ndarray:
    """The pipeline's own pictures of two prompts with seeds 0 and 1, as bytes."""
    null = texts.null
    assert null is not None
    given: dict[str, Any] = {
        "prompt_embeds": texts.states,
        "negative_prompt_embeds": null.states.expand(2, -1, -1),
        "num_inference_steps": STEPS,
        "guidance_scale": guidance,
        "height": 8 * SIDE,
        "width": 8 * SIDE,
        "output_type": "pil",
        "generator": [torch.Generator().manual_seed(seed) for seed in range(2)],
    }
    if texts.pooled is not None and null.pooled is not None:
        given["pooled_prompt_embeds"] = texts.pooled
        given["negative_pooled_prompt_embeds"] = null.pooled.expand(2, -1)
    if name == "flux":
        del given["negative_prompt_embeds"], given["negative_pooled_prompt_embeds"]
    if name == "pixart":
        given |= {
            "negative_prompt": None,
            "prompt_attention_mask": texts.mask,
            "negative_prompt_attention_mask": null.mask.expand(2, -1),
            "use_resolution_binning": False,
        }
    return np.stack([np.asarray(image) for image in pipeline(**given).images])
