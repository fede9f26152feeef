"""The card of an autoencoder says what its folder holds."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import cast

import pytest

from assets.encodings import autoencoding
from assets.graph.interfaces import Landing
from tests.assets.corpus.makers import PROFILES
from training.packaged_models import SHIPPED_AUTOENCODER, SHIPPED_AUTOENCODER_DIGEST


def test_the_card_tells_latents_training_and_losses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(autoencoding, "NUM_MEASURED", 4)
    lineage = json.loads((SHIPPED_AUTOENCODER / "lineage.json").read_text())
    landing = SimpleNamespace(world_path=PROFILES / "demo" / "world.yaml")
    card = autoencoding.autoencoder_card(SHIPPED_AUTOENCODER, lineage, cast(Landing, landing))
    assert "3x64x64 pixels to a 16x16x16 latent" in card
    assert "32,000 images at batch\n16" in card
    assert SHIPPED_AUTOENCODER_DIGEST in card
    assert card.count("| 4 ") == len(autoencoding.CARD_SPLITS)
