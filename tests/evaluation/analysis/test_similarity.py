"""Similarity across depth: CKA against its formula, and blocks that are known to do nothing or everything."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from evaluation.analysis.backbone import analyze, analyze_folder
from evaluation.analysis.pictures import analysis_picture, part_rows, similarity_rows
from evaluation.analysis.similarity import NOISE_LEVELS, NoisedBatch, block_similarities, cka_matrix
from training.backbones import Backbone, build_backbone, count_parameters, example_inputs
from training.diffusion.noise_process import Noising
from training.diffusion.schedulers import build_scheduler
from training.digests import sha256_bytes
from training.errors import FoundryError
from training.shards import write_training_shards


def test_cka_is_the_printed_formula() -> None:
    torch.manual_seed(0)
    features = [torch.randn(12, width) for width in (3, 5, 8)]
    found = cka_matrix(features)
    for i, first in enumerate(features):
        for j, second in enumerate(features):
            x, y = ((f - f.mean(0)).double() for f in (first, second))
            expected = (y.T @ x).norm() ** 2 / ((x.T @ x).norm() * (y.T @ y).norm())
            assert found[i, j] == pytest.approx(float(expected))


def test_cka_ignores_rotation_scale_and_shift() -> None:
    torch.manual_seed(0)
    features = torch.randn(20, 4)
    rotation = torch.linalg.qr(torch.randn(4, 4))[0]
    found = cka_matrix([features, 3 * features @ rotation + 7, torch.ones(20, 4)])
    assert found[0, 1] == pytest.approx(1.0)
    assert found[0, 2] == 0


def batch_for(model: Backbone) -> NoisedBatch:
    torch.manual_seed(1)
    inputs = example_inputs(model, batch=4, num_tokens=5)
    noise = torch.randn_like(inputs.noisy)
    return NoisedBatch(inputs.noisy, noise, inputs.condition)


def test_a_block_that_does_nothing_keeps_its_input() -> None:
    model = build_backbone("PixArt-demo-h64-d4", 0).eval()
    with torch.no_grad():  # its attentions and feed-forward add nothing
        block = model.transformer_blocks[2]
        for module in (block.attn1.to_out[0], block.attn2.to_out[0], block.ff.net[2]):
            module.weight.zero_()
            module.bias.zero_()
    found = block_similarities(model, Noising("flow"), batch_for(model))
    assert len(found) == len(NOISE_LEVELS) * 4
    for row in found:
        assert len(row.cka) == 4
        assert row.cka[row.index] == pytest.approx(1.0)
    idle = [row for row in found if row.index == 2]
    assert all(row.cosine == pytest.approx(1.0) for row in idle)
    assert all(row.cka[1] == pytest.approx(1.0) for row in idle)
    busy = [row.cosine for row in found if row.index == 0]
    assert all(cosine is not None and cosine < 0.999 for cosine in busy)


@pytest.mark.parametrize("name", ["UNet-tiny", "SD3-tiny", "FLUX-tiny"])
def test_every_family_is_looked_at(name: str) -> None:
    model = build_backbone(name, 0).eval()
    found = block_similarities(model, Noising("flow"), batch_for(model), levels=(0.5,))
    blocks = [row.block for row in found]
    assert len(set(blocks)) == len(blocks) >= 2
    if name == "UNet-tiny":
        assert blocks[0].startswith("down_blocks.0.")
        assert blocks[-1].startswith("up_blocks.1.")
        assert any(row.cosine is None for row in found)  # residual blocks that change the width
    assert not any(module._forward_hooks for module in model.modules())


def write_shards(folder: Path) -> None:
    """Six training samples with one caption each."""
    import pyarrow as pa

    random = np.random.default_rng(0)
    write_training_shards(
        folder,
        pa.table({"sample_id": [f"s{i}" for i in range(6)], "split": ["train"] * 6}),
        random.normal(size=(6, 16, 8, 8)).astype(np.float16),
        np.arange(7, dtype=np.int64),
        np.arange(1, 7, dtype=np.int64),
        random.normal(size=(7 * 3, 384)).astype(np.float16),
        np.full(7, 3, np.int32),
        random.normal(size=(7, 384)).astype(np.float16),
        null_text_index=0,
        autoencoder_digest=sha256_bytes(b"autoencoder"),
        text_encoder_digest=sha256_bytes(b"text"),
        max_tokens=4,
    )


def test_a_model_is_told_the_size_of_the_pictures_that_its_autoencoder_encodes(tmp_path: Path) -> None:
    """Similarities of a model that reads sizes are other ones with an autoencoder that keeps a quarter of each side."""
    build_backbone("SDXL-stock-tiny", 0).save_pretrained(tmp_path / "model" / "unet")
    build_scheduler("v").save_pretrained(tmp_path / "model" / "scheduler")
    write_shards(tmp_path / "shards")

    def cosines() -> list[float | None]:
        found = analyze_folder(tmp_path / "model", shards=tmp_path / "shards", runs=0, samples=2)
        return [block.cosine for block in found.similarities]

    published = cosines()
    (tmp_path / "model" / "vae").mkdir()
    config = tmp_path / "model" / "vae" / "config.json"
    config.write_text('{"block_out_channels": [8, 8, 8, 8]}')
    assert cosines() == published
    config.write_text('{"block_out_channels": [8, 8, 8]}')
    assert cosines() != published


def test_a_model_folder_is_analysed(tmp_path: Path) -> None:
    model = build_backbone("UNet-tiny", 0)
    model.save_pretrained(tmp_path / "model" / "unet")
    build_scheduler("v").save_pretrained(tmp_path / "model" / "scheduler")
    write_shards(tmp_path / "shards")
    found = analyze_folder(tmp_path / "model", shards=tmp_path / "shards", runs=1, samples=4, num_threads=1)
    assert sum(row["parameters"] for row in part_rows(found)) == count_parameters("UNet-tiny")
    assert all(row["milliseconds"] is not None for row in part_rows(found))
    assert {row["noise_level"] for row in similarity_rows(found)} == set(NOISE_LEVELS)
    assert analysis_picture(found).startswith(b"\x89PNG")
    same = analyze(str(tmp_path / "model"))
    assert [(c.parameters, c.macs) for c in same.cells if c.macs or c.parameters] == [
        (c.parameters, c.macs) for c in found.cells if c.macs or c.parameters
    ]


def test_a_registered_variant_takes_no_memory_and_no_data(tmp_path: Path) -> None:
    found = analyze("SDXL-TD4_4", latent=32)
    assert sum(cell.parameters for cell in found.cells) == 1_321_930_244
    assert sum(cell.macs for cell in found.cells) == 142_958_919_680
    assert all(cell.nanoseconds is None for cell in found.cells)
    assert analysis_picture(found).startswith(b"\x89PNG")
    with pytest.raises(FoundryError, match="no trained weights"):
        analyze("SDXL-TD4_4", shards=tmp_path)


def test_mistakes_are_told(tmp_path: Path) -> None:
    with pytest.raises(FoundryError, match="no folder and no registered backbone; did you mean 'UNet-tiny'"):
        analyze("UNet-tny")
    with pytest.raises(FoundryError, match="neither transformer/ nor unet/"):
        analyze(str(tmp_path))
    with pytest.raises(FoundryError, match="'FLUX.1-dev' takes 47.6 GB of weights"):
        analyze("FLUX.1-dev", runs=1)
