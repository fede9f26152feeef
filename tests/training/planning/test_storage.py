"""The prices of the three text modes: the specification's figures, and the bytes that are really written."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.training.feed.makers import DIM, SHAPES, names, part, write
from training.planning.storage import (
    ENCODERS,
    Encoder,
    captions_used,
    latent_bytes,
    state_bytes,
    text_costs,
    transformer,
)
from training.recipes.dataset import CaptionMix


def test_states_of_600_million_texts_take_twenty_times_their_latents() -> None:
    images = 600_000_000
    assert state_bytes(images, 77, 1024) == pytest.approx(94.6e12, rel=0.001)
    assert latent_bytes(images, (4, 32, 32)) == pytest.approx(4.9e12, rel=0.005)


def test_modes_of_text_trade_bytes_for_work() -> None:
    stored, stage, step = text_costs(1000, 6, 60_000, ENCODERS[1024], 77)
    assert stored.stored_bytes == 6000 * 77 * 1024 * 2
    assert stage.stored_bytes == step.stored_bytes < stored.stored_bytes / 100
    assert stage.encode_flops == step.encode_flops == 10 * stored.encode_flops


def test_encoders_have_their_published_sizes() -> None:
    """Weights beside embeddings, of the published totals: 302M, 85M + 629M and 4.63B; MiniLM-L6 10.6M."""
    found = {dim: round(encoder.macs_per_token / 1e6, 1) for dim, encoder in ENCODERS.items()}
    assert found == {384: 10.6, 1024: 302.0, 2048: 714.1, 4096: 4630.5}


def test_operations_equal_those_counted() -> None:
    import torch
    import transformers
    from torch.utils.flop_counter import FlopCounterMode

    config = transformers.CLIPTextConfig(
        vocab_size=10, hidden_size=64, intermediate_size=256, num_hidden_layers=3, num_attention_heads=4,
        bos_token_id=8, eos_token_id=9, attn_implementation="eager",
    )  # fmt: skip
    model = transformers.CLIPTextModel(config).eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(input_ids=torch.zeros(1, 77, dtype=torch.long))
    encoder = Encoder("small CLIP", 64, 77, *transformer(3, 64, hidden=256))
    assert counter.get_total_flops() == encoder.flops(77)


@pytest.mark.parametrize(
    ("mix", "expected"), [("paper", 6), ("top-1", 2), ("original", 1), ("recaptioned", 5)]
)
def test_captions_that_a_mix_draws(mix: str, expected: int) -> None:
    assert captions_used(CaptionMix.model_validate(mix)) == expected


def test_bytes_are_those_of_a_real_dataset(tmp_path: Path) -> None:
    shards = write(tmp_path / "data", [part(names(64))], shard_bytes=2**30)
    sizes = {name.split("-")[0]: size for name, size in shards.description.sizes.items() if "-00000" in name}
    header = 128
    assert sizes["latents"] - header == latent_bytes(64, SHAPES[0])
    tokens = (sizes["text_states"] - header) // (2 * DIM)
    assert sizes["text_states"] - header == state_bytes(1, tokens, DIM)
