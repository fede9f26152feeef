"""Checkpoints made once a session, pictures, and one thread for torch."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from tests.evaluation.perception.hub import checkpoints, finders

Checkpoint = Callable[[str], Path]


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def _numbers_as_words() -> Iterator[None]:
    """SmolVLM's processor wants num2words, which it uses for videos alone; here digits do."""
    from transformers.models.smolvlm import processing_smolvlm

    with pytest.MonkeyPatch.context() as patch:
        if processing_smolvlm.num2words is None:
            patch.setattr(processing_smolvlm, "num2words", str)
        yield


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, _numbers_as_words: None) -> Checkpoint:
    """Folder of a family's tiny checkpoint, by the name of its builder."""

    @cache
    def make(name: str) -> Path:
        builder = getattr(checkpoints, name, None) or getattr(finders, name)
        folder: Path = builder(tmp_path_factory.mktemp(name) / name)
        return folder

    return make


def png(seed: int, width: int, height: int) -> bytes:
    """A picture of coloured noise."""
    pixels = np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="session")
def pictures() -> pa.Table:
    """Three samples of different sizes: sample_id, image."""
    images = [png(1, 48, 32), png(2, 40, 40), png(3, 32, 64)]
    return pa.table({"sample_id": ["s1", "s2", "s3"], "image": images})
