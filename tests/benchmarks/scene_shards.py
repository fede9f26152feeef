"""Composed scenes as a training has them: latents of the shipped autoencoder, alt-texts encoded by MiniLM."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Float
from torch import Tensor

from assets.corpus.scenes import Scene, build_scenes, load_world
from orchestration.workspace import PROFILES_FOLDER
from training.conditioning import Condition
from training.digests import OUTSIDE_MODEL_DIGEST, folder_digest
from training.model_folders.autoencoders import encode_images, load_autoencoder
from training.packaged_models import SHIPPED_AUTOENCODER, minilm_digest
from training.shards import write_training_shards
from training.text_encoders import MiniLMEncoder

SCENE_SEED = 41


@dataclass(frozen=True)
class HeldOut:
    """Latents of scenes that no run trains on, and what their alt-texts say."""

    keys: tuple[str, ...]
    latents: Float[Tensor, "n c h w"]
    condition: Condition


def write_scene_shards(folder: Path, num_images: int) -> dict[str, str]:
    """Training shards of so many scenes; the digests that a specification names them by."""
    scenes = _scenes("train", num_images)
    encoder = MiniLMEncoder()
    texts = ["", *dict.fromkeys(scene.alt_text for scene in scenes)]
    encoded = encoder.encode(texts)
    places = {text: index for index, text in enumerate(texts)}
    autoencoder = folder_digest(SHIPPED_AUTOENCODER, OUTSIDE_MODEL_DIGEST)
    write_training_shards(
        folder,
        pa.table({"sample_id": [scene.key for scene in scenes], "split": ["train"] * num_images}),
        _latents(scenes).astype(np.float16),
        np.arange(num_images + 1, dtype=np.int64),
        np.array([places[scene.alt_text] for scene in scenes], np.int64),
        encoded.states,
        encoded.lengths,
        encoded.pooled,
        null_text_index=0,
        autoencoder_digest=autoencoder,
        text_encoder_digest=minilm_digest(),
        max_tokens=encoder.max_tokens,
    )
    return {
        "dataset": folder_digest(folder),
        "autoencoder": autoencoder,
        "text_encoder": minilm_digest(),
    }


def held_out_scenes(num_images: int) -> HeldOut:
    """The first scenes of the split that is held out."""
    scenes = _scenes("held_out_images", num_images)
    condition = MiniLMEncoder().prompts([scene.alt_text for scene in scenes])
    return HeldOut(tuple(scene.key for scene in scenes), torch.from_numpy(_latents(scenes)), condition)


def _scenes(split: str, count: int) -> list[Scene]:
    return list(build_scenes(load_world(PROFILES_FOLDER / "demo" / "world.yaml"), split, count, SCENE_SEED))


def _latents(scenes: list[Scene]) -> np.ndarray:
    return encode_images(load_autoencoder(), np.stack([scene.image for scene in scenes]))
