"""What an autoencoder's folder says about its latents, read without torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def read_autoencoder_config(folder: Path) -> dict[str, Any]:
    """Configuration of a diffusers AutoencoderKL."""
    return dict(json.loads((Path(folder) / "config.json").read_text(encoding="utf-8")))


def pixels_per_latent(config: Mapping[str, Any]) -> int:
    """Pixels of a side for one latent: every block but the last halves it."""
    return int(2 ** (len(config["block_out_channels"]) - 1))


def latent_shape(folder: Path) -> tuple[int, int, int]:
    """Channels, height and width of a picture of the size that the autoencoder was made for."""
    config = read_autoencoder_config(folder)
    side = config["sample_size"] // pixels_per_latent(config)
    return config["latent_channels"], side, side
