"""The prices of the three text modes: the specification's figures, and the bytes that are really written."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.training.feed.makers import DIM, SHAPES, names, part, write
from training.errors import FoundryError
from training.feed_sizes import ENCODERS, captions_used, feed_size, latent_bytes, state_bytes
from training.options import CaptionMix

MILLION = 10**6


def test_the_figures_of_600_million_images() -> None:
    assert state_bytes(600 * MILLION, 77, 1024) == pytest.approx(94.6e12, rel=1e-3)
    assert latent_bytes(600 * MILLION, (4, 32, 32)) == pytest.approx(4.9e12, rel=5e-3)
    stored = feed_size("stored", 600 * MILLION, (4, 32, 32), 1, 77, 1024, encoders=[ENCODERS["OpenCLIP-H"]])
    in_step = feed_size("step", 600 * MILLION, (4, 32, 32), 1, 77, 1024, encoders=[ENCODERS["OpenCLIP-H"]])
    assert stored.text_bytes / stored.latent_bytes == pytest.approx(19.25, rel=1e-3)
    assert in_step.total_bytes < 0.06 * stored.total_bytes
    assert stored.encode_flops_per_image == in_step.encode_flops_once == 0
    # one epoch of one caption costs the same operations either way
    assert stored.encode_flops(600 * MILLION) == in_step.encode_flops(600 * MILLION)
    assert in_step.encode_flops(1200 * MILLION) == 2 * stored.encode_flops(1200 * MILLION)
    assert feed_size("stage", 5, (4, 32, 32), 1, 77, 1024) == feed_size("step", 5, (4, 32, 32), 1, 77, 1024)


def test_operations_of_known_encoders() -> None:
    # parameters of the transformer blocks: OpenCLIP-H 302M, bigG 629M, T5-XXL 4.6B; 2 operations a weight and token
    for name, parameters in (("OpenCLIP-H", 302e6), ("OpenCLIP-bigG", 629e6), ("T5-XXL", 4.63e9)):
        encoder = ENCODERS[name]
        assert encoder.layers * encoder.weights == pytest.approx(parameters, rel=5e-3)
        products = encoder.layers * 4 * 77 * 77 * encoder.width
        assert encoder.flops(77) == 2 * 77 * encoder.layers * encoder.weights + products
        assert products < 0.05 * encoder.flops(77)


def test_operations_equal_those_counted() -> None:
    import torch
    import transformers
    from torch.utils.flop_counter import FlopCounterMode

    config = transformers.CLIPTextConfig(
        vocab_size=10, hidden_size=64, intermediate_size=256, num_hidden_layers=3, num_attention_heads=4,
        bos_token_id=8, eos_token_id=9, attn_implementation="eager",
    )  # fmt: skip
    from training.feed_sizes import _plain

    model = transformers.CLIPTextModel(config).eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(input_ids=torch.zeros(1, 77, dtype=torch.long))
    assert counter.get_total_flops() == _plain(3, 64).flops(77)


@pytest.mark.parametrize(
    ("mix", "generated", "expected"),
    [
        ("paper", 5, 6),
        ("paper", 3, 4),
        ("top-1", 5, 2),
        ("original", 5, 1),
        ("recaptioned", 5, 5),
        ("recaptioned", 0, 1),
    ],
)
def test_captions_that_a_mix_draws(mix: str, generated: int, expected: int) -> None:
    assert captions_used(CaptionMix.model_validate(mix), generated) == expected


def test_bytes_are_those_of_a_real_dataset(tmp_path: Path) -> None:
    shards = write(tmp_path / "data", [part(names(64))], shard_bytes=2**30)
    sizes = {name.split("-")[0]: size for name, size in shards.description.sizes.items() if "-00000" in name}
    header = 128
    assert sizes["latents"] - header == latent_bytes(64, SHAPES[0])
    tokens = (sizes["text_states"] - header) // (2 * DIM)
    assert sizes["text_states"] - header == state_bytes(1, tokens, DIM)


def test_mistakes_are_told() -> None:
    with pytest.raises(FoundryError, match="dtype is 'int4'; known are fp32"):
        latent_bytes(1, (4, 32, 32), "int4")
    with pytest.raises(FoundryError, match="captions is 0"):
        feed_size("step", 1, (4, 32, 32), 0, 77, 1024)
