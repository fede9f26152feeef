"""The part of a profile that names perception models and says which fills which role."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class PerceptionProfile(BaseModel):
    """Which model fills which role. ``models`` gives them names; a model's own settings are checked by its family."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    models: Mapping[str, Mapping[str, Any]] = Field(
        default_factory=lambda: {"embedded": {"family": "embedded"}},
        description="settings by name; `family` says what kind of model it is",
    )
    regions: str | None = Field(
        "embedded", description="what looks at images for the embedded roles; null where none is embedded"
    )
    closed_set: str | None = Field(
        "embedded",
        description="names each region of a generated picture by the closest concept; null for none, and no teacher is scored",
    )
    captioner: str = Field("embedded", description="writes captions of whole images")
    nouns: str = Field("embedded", description="finds the nouns of captions")
    phrases: str = Field("embedded", description="finds what a caption names")
    detectors: tuple[str, ...] = Field(
        ("embedded",), min_length=1, description="find boxes; the first annotates, the others are compared"
    )
    describer: str = Field("embedded", description="describes the region in a box")
    masks: str | None = Field("embedded", description="draws masks; null for none")
