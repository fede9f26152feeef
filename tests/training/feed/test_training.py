"""Whole runs over buckets, stages and staged shards: they train, and interruptions change nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pytest
import torch
from safetensors.torch import load_file

from tests.training.conftest import TEXT_ENCODER_DIGEST, RunMaker
from training.backbones import build_backbone
from training.digests import OUTSIDE_MODEL_DIGEST, folder_digest
from training.errors import FoundryError, TrainingStopped
from training.feed.shapes import check_latent_sizes
from training.run import run
from training.shards import SamplePart, TextRows, write_training_parts

DIM = 384
STAGES = [{"images_from": 0, "resolution": 64}, {"images_from": 24, "resolution": 128}]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, autoencoder_folder: Path) -> Path:
    """Samples in squares and wide pictures at two resolutions, several shards each."""
    random = np.random.default_rng(0)
    texts = TextRows(
        None,
        np.array([2, 3], np.int32),
        random.normal(size=(5, DIM)).astype(np.float16),
        random.normal(size=(2, DIM)).astype(np.float16),
    )

    def part(shape: tuple[int, int], resolution: int, start: int, count: int) -> SamplePart:
        return SamplePart(
            pa.table({"sample_id": [f"s{start + i}" for i in range(count)], "split": ["train"] * count}),
            random.normal(size=(count, 16, *shape)).astype(np.float16),
            np.arange(count + 1, dtype=np.int64),
            np.ones(count, np.int64),
            texts,
            resolution,
        )

    target = tmp_path_factory.mktemp("buckets") / "shards"
    write_training_parts(
        target,
        [part((8, 8), 64, 0, 8), part((6, 10), 64, 8, 8), part((8, 8), 64, 16, 8), part((16, 16), 128, 0, 8)],
        null_text=texts.take(np.array([0])),
        autoencoder_digest=folder_digest(autoencoder_folder, OUTSIDE_MODEL_DIGEST),
        text_encoder_digest=TEXT_ENCODER_DIGEST,
        max_tokens=4,
        shard_bytes=1000,
    )
    return target


@pytest.fixture
def makes(tmp_path: Path, folder: Path, autoencoder_folder: Path) -> RunMaker:
    return RunMaker(tmp_path, folder, autoencoder_folder)


def final(path: Path, kind: str) -> bytes:
    part = "transformer" if kind == "PixArt-tiny" else "unet"
    tensors = load_file(path / "model" / part / "diffusion_pytorch_model.safetensors")
    return b"".join(tensors[name].numpy().tobytes() for name in sorted(tensors))


@pytest.mark.parametrize("backbone", ["PixArt-tiny", "UNet-tiny"])
def test_buckets_then_a_larger_stage_resume_to_the_same_bits(makes: RunMaker, backbone: str) -> None:
    recipe: dict[str, Any] = {"backbone": backbone, "images_total": 48, "dataset": {"stages": STAGES}}
    whole = makes.prepare("whole", **recipe)
    run(whole.path)
    stopped = makes.prepare("stopped", **recipe)
    for _ in range(3):  # within the first stage, at its end, within the second
        asked = iter([False, False, False, True])
        with pytest.raises(TrainingStopped):
            run(stopped.path, lambda asked=asked: next(asked))  # type: ignore[misc]
    run(stopped.path)
    assert final(whole.path, backbone) == final(stopped.path, backbone)


def test_a_staged_run_ends_like_a_local_one(makes: RunMaker) -> None:
    files = fsspec.filesystem("memory")
    files.put(str(makes.shards), "/runs/data", recursive=True)
    recipe: dict[str, Any] = {
        "images_total": 48,
        "dataset": {"stages": STAGES, "order": "blocks", "buffer_shards": 1},
    }
    local = makes.prepare("local", {"sample_every_images": 24}, **recipe)
    run(local.path)
    places = {"dataset": "memory://runs/data", "autoencoder": str(makes.autoencoder)}
    execution = {
        "input_paths": places,
        "local_cache": str(makes.root / "cache"),
        "local_cache_gib": 120_000 / 2**30,
        "sample_every_images": 24,
    }
    staged = makes.prepare("staged", execution, **recipe)
    run(staged.path)
    assert final(local.path, "PixArt-tiny") == final(staged.path, "PixArt-tiny")
    files.rm("/runs", recursive=True)


def test_stages_begin_where_a_batch_does(makes: RunMaker) -> None:
    with pytest.raises(FoundryError, match="at image 24; it must be a multiple of batch_size 5, such as 20"):
        makes.spec(batch_size=5, dataset={"stages": STAGES})
    for stages, message in (
        ([{"images_from": 4, "resolution": 64}], "images_from must begin at 0 and rise"),
        ([STAGES[0], {"images_from": 24, "resolution": 64}], "one stage only"),
        ([{"images_from": 0, "resolutoin": 64}], "unknown key"),
    ):
        with pytest.raises(FoundryError, match=message):
            makes.spec(dataset={"stages": stages})


def test_sizes_that_a_backbone_cannot_take_are_refused(makes: RunMaker) -> None:
    unet, pixart = build_backbone("UNet-tiny"), build_backbone("PixArt-tiny")
    for module in (unet, pixart):
        check_latent_sizes(module, ((16, 8, 8), (16, 6, 10), (16, 16, 16)), "data")
        with pytest.raises(
            FoundryError, match="data: latents of 7 x 10; .* takes sides that are multiples of 2"
        ):
            check_latent_sizes(module, ((16, 8, 8), (16, 7, 10)), "data")
    other = torch.nn.Identity()
    other.config = unet.config
    with pytest.raises(FoundryError, match="the backbone is a Identity; known are UNet2D"):
        check_latent_sizes(other, ((16, 6, 10),), "data")
