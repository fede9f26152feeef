"""Fonts that come with an installed package, so that what is rendered is the same everywhere."""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path

from training.errors import FoundryError


@cache
def font_path(name: str) -> Path:
    """A font of the DejaVu family, which ships with matplotlib under a free licence; matplotlib is not imported."""
    spec = importlib.util.find_spec("matplotlib")
    if spec is None or spec.origin is None:
        raise FoundryError("The package 'matplotlib' is missing; its fonts draw words. Install matplotlib.")
    return Path(spec.origin).parent / "mpl-data" / "fonts" / "ttf" / f"{name}.ttf"
