"""Small real parts that the tests of the training room share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from training.digests import OUTSIDE_MODEL_DIGEST, folder_digest
from training.model_folders.autoencoders import build_autoencoder
from training.recipes.autoencoder import AutoencoderOptions
from training.recipes.execution import Execution
from training.recipes.files import load_recipe
from training.recipes.specification import TrainingSpecification
from training.run_folder import RunFolder, prepare
from training.shards import write_training_shards

NUM_SAMPLES = 12
NUM_TEXTS = 20
MAX_TOKENS = 12
TEXT_ENCODER_DIGEST = "e" * 64


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def autoencoder_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained AutoencoderKL with 16x8x8 latents at 64 px, as a diffusers folder."""
    folder = tmp_path_factory.mktemp("autoencoder")
    build_autoencoder(AutoencoderOptions(block_channels=(8, 8, 8, 8)), 64, seed=0).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def shards_folder(tmp_path_factory: pytest.TempPathFactory, autoencoder_folder: Path) -> Path:
    """Shards of 16x8x8 latents of the untrained autoencoder."""
    return write_shards(tmp_path_factory.mktemp("data") / "shards", autoencoder_folder)


def write_shards(folder: Path, autoencoder_folder: Path) -> Path:
    """Twelve samples with one to four captions each; text 0 is the empty text."""
    random = np.random.default_rng(0)
    counts = random.integers(1, 5, NUM_SAMPLES)
    lengths = random.integers(2, MAX_TOKENS + 1, NUM_TEXTS).astype(np.int32)
    write_training_shards(
        folder,
        pa.table(
            {
                "sample_id": [f"s{i}" for i in range(NUM_SAMPLES)],
                "split": ["train"] * 10 + ["held_out_images"] * 2,
            }
        ),
        random.normal(size=(NUM_SAMPLES, 16, 8, 8)).astype(np.float16),
        np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        random.integers(1, NUM_TEXTS, counts.sum()).astype(np.int64),
        random.normal(size=(lengths.sum(), 384)).astype(np.float16),
        lengths,
        random.normal(size=(NUM_TEXTS, 384)).astype(np.float16),
        null_text_index=0,
        autoencoder_digest=folder_digest(autoencoder_folder, OUTSIDE_MODEL_DIGEST),
        text_encoder_digest=TEXT_ENCODER_DIGEST,
        max_tokens=MAX_TOKENS,
    )
    return folder


class RunMaker:
    """Prepares diffusion runs over the small shards."""

    def __init__(self, root: Path, shards: Path, autoencoder: Path) -> None:
        self.root, self.shards, self.autoencoder = root, shards, autoencoder
        self.parent: Path | None = None  # model folder that recipes with a parent start from

    def spec(self, **recipe: object) -> TrainingSpecification:
        """A tiny recipe with the given settings replaced."""
        settings = {"name": "tiny", "backbone": "PixArt-tiny", "images_total": 40, "batch_size": 4}
        parent = {"parent": folder_digest(self.parent, OUTSIDE_MODEL_DIGEST)} if self.parent else {}
        return TrainingSpecification(
            recipe=load_recipe({**settings, "learning_rate": 1e-3, **recipe}),
            inputs={
                "dataset": folder_digest(self.shards),
                "autoencoder": folder_digest(self.autoencoder, OUTSIDE_MODEL_DIGEST),
                "text_encoder": TEXT_ENCODER_DIGEST,
                **parent,
            },
        )

    def execution(self, **settings: object) -> Execution:
        """Execution on one CPU thread, with the places of the inputs."""
        places = {"dataset": str(self.shards), "autoencoder": str(self.autoencoder)}
        if self.parent:
            places["parent"] = str(self.parent)
        values = {"device": "cpu", "threads": 1, "log_every_images": 8, "input_paths": places}
        return Execution.model_validate({**values, **settings})

    def prepare(
        self, root: str = "runs", execution: dict[str, Any] | None = None, **recipe: Any
    ) -> RunFolder:
        """A run folder below the test's own folder."""
        return prepare(self.root / root, self.spec(**recipe), self.execution(**(execution or {})))


@pytest.fixture
def runs(tmp_path: Path, shards_folder: Path, autoencoder_folder: Path) -> RunMaker:
    """Makes run folders below a fresh folder."""
    return RunMaker(tmp_path, shards_folder, autoencoder_folder)
