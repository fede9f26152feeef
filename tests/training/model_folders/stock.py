"""What a model card's call gives, and what it was told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from training.conditioning import Condition


def run_card(code: str, folder: Path) -> Any:
    names: dict[str, Any] = {"folder": folder}
    exec(compile(code, "model_card", "exec"), names)
    return names


def told(names: dict[str, Any]) -> Condition:
    """What the card's call told the pipeline, for our sampler."""
    given = Condition(names["states"], names["mask"], names.get("pooled"))
    return given.with_null(Condition(names["empty_states"], names["empty_mask"], names.get("empty_pooled")))
