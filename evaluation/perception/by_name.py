"""Objects by the name of their module and their own, imported when they are asked for: registries stay light."""

from __future__ import annotations

import importlib
from typing import Any


def load_by_name(place: str) -> Any:
    """What "package.module:name" names. Raises ImportError or AttributeError where there is no such thing."""
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)
