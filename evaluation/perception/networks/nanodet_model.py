"""NanoDet in the role detector: its settings, its identity and how a worker of it is built. Light: no torch."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from evaluation.perception.downloads import NANODET, payload_files
from evaluation.perception.networks.nanodet import (
    NANODET_NAME,
    NANODET_READS,
    build_nanodet_worker,
    nanodet_digest,
)
from evaluation.perception.role_models import Factory, Nomination, RoleModel, Workplace
from training.errors import FoundryError
from training.recipes.validation import validate


class NanoDetSettings(BaseModel):
    """What a profile may set of the packaged detector, whose files come with `foundry demo-data`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    min_score: float = Field(0.25, ge=0, le=1, description="boxes below this score are left out")
    max_overlap_iou: float = Field(
        0.5, ge=0, le=1, description="of two boxes overlapping more, the weaker is left out"
    )


def nanodet_model(nomination: Nomination, workplace: Workplace) -> RoleModel:
    """The detector. Raises FoundryError for settings that are none of its own, and for another role."""
    settings = validate(NanoDetSettings, nomination.own_settings, nomination.place)
    if nomination.role.name != "detector":
        raise FoundryError(f"{nomination.said}, but NanoDet is a detector only.")
    limits = settings.model_dump()
    return RoleModel(
        NANODET_NAME,
        NANODET_READS,
        lambda: nanodet_digest(**limits),
        partial(_fetched_worker, {**limits, "threads": workplace.threads}),
        {"threads": workplace.threads, "batch_size": 16},
    )


def _fetched_worker(arguments: Mapping[str, Any]) -> tuple[Factory, Mapping[str, Any]]:
    """How to build a worker. Raises FoundryError, before any work starts, where its files were not fetched."""
    payload_files(NANODET)
    return build_nanodet_worker, arguments
