"""Shapes in signatures are checked while tests run; nothing reaches the network."""

from __future__ import annotations

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from jaxtyping import install_import_hook

install_import_hook(["training", "evaluation", "assets.corpus"], "beartype.beartype")
