"""What is measured of a model that writes: pictures as large as the data's, units that compare, intervals in pairs."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from assets.graph.versions import Provenance
from assets.writing.text_model import TextModel
from assets.writing.written import WRITTEN, difference_of, mean_of, prompts_digest, with_size_of_data
from evaluation.localization.prompts import WordPair
from evaluation.metrics.written_words import score_words
from orchestration.resources.store import ManifestStore
from training.backbones import build_backbone
from training.diffusion.noise_process import Noising
from training.model_folders.autoencoders import load_autoencoder
from training.model_folders.denoiser import Denoiser
from training.packaged_models import SHIPPED_AUTOENCODER
from training.recipes.text_encoder import EncoderSettings
from training.text_encoders import build_encoder

WIDE = (16, 8, 16)


@pytest.mark.parametrize(("own", "expected"), [(None, (8, 16)), ((4, 8), (4, 8))])
def test_models_of_the_workspace_draw_pictures_as_wide_as_its_data(
    own: tuple[int, int] | None, expected: tuple[int, int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    store, encoder = (
        ManifestStore(tmp_path / "store"),
        build_encoder(EncoderSettings(family="bytes", max_tokens=32)),
    )
    backbone = build_backbone("SD3-writer", 0).requires_grad_(False)
    denoiser = Denoiser(backbone, load_autoencoder(SHIPPED_AUTOENCODER), Noising("flow"))
    model = TextModel(denoiser, encoder, own, "bytes")
    assert with_size_of_data(store, model).latent_size == own  # no data yet
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards" / "a.txt").write_text("a")
    store.publish_folder("training_shards", tmp_path / "shards", Provenance("training_shards", 1))
    shards = SimpleNamespace(description=SimpleNamespace(latent_shapes=[WIDE]))
    monkeypatch.setattr("training.shards.TrainingShards.open", lambda folder: shards)
    assert with_size_of_data(store, model).latent_size == expected


def test_f1_of_units_is_that_of_words_and_differences_are_paired() -> None:
    words = ["STOP", "OPEN", "QUIZ", "LAMP"]
    first, second = (
        score_words(read, words) for read in (["stop", "opn", "", "lamp"], ["stop", "on", "", "map"])
    )
    units = [np.stack([found.precision, found.recall], axis=1) for found in (first, second)]
    assert mean_of(WRITTEN, units[0]) == first.f1()
    assert difference_of(WRITTEN, units[0], units[1]) == first.f1_minus(second)
    assert difference_of("fidelity", units[0], units[0]).value == 0


def test_other_words_another_order_and_other_steps_do_not_compare() -> None:
    pairs = [WordPair("a", "b", "A", "B", 0), WordPair("c", "d", "C", "D", 1)]
    own = prompts_digest(pairs, 16, 1.0)
    assert own == prompts_digest(list(pairs), 16, 1.0)
    assert own != prompts_digest(pairs[::-1], 16, 1.0)
    assert own != prompts_digest(pairs, 8, 1.0)
    assert own != prompts_digest(pairs, 16, 2.0)
