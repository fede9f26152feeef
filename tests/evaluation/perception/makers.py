"""Rows of the regions table, from what differs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from evaluation.perception.role_models import (
    BankInputs,
    BatchFunction,
    Nomination,
    RoleModel,
    Workplace,
    make_model,
)
from evaluation.perception.roles import ROLES
from evaluation.perception.run_lengths import encode_mask
from evaluation.tables.perception import REGIONS

REGION_STRUCT = pa.struct([field for field in REGIONS if field.name != "sample_id"])


def region(
    name: str = "", score: float = 0.9, box: tuple[float, ...] = (0.1, 0.1, 0.4, 0.4), **other: Any
) -> dict[str, Any]:
    """One region as workers get it, without sample_id."""
    row = {
        "region_index": 0,
        "box_xyxy_norm": list(box),
        "area_fraction": 0.1,
        "color": "red",
        "second_color": "",
        "shape": "irregular",
        "texture": "detailed",
        "mask_rle": encode_mask(np.eye(8, dtype=bool)),
        "mask_size": [8, 8],
        "names": [name] if name else [],
        "name_scores": [score] if name else [],
        "name_source": "concept_bank" if name else "none",
        "text": "",
        "text_score": 0.0,
        "background_kind": "plain",
        "background_color": "blue",
        "model": "m",
        "model_digest": "d",
        "function_version": 1,
    }
    return {**row, **other}


def regions_column(*samples: list[dict[str, Any]]) -> pa.Array:
    """The column ``regions`` of a worker's input, one list a row."""
    return pa.array(samples, pa.list_(REGION_STRUCT))


def no_bank(art: str) -> BankInputs:
    """For models that need no concept bank."""
    raise AssertionError(f"the bank of {art} is not needed here")


def embedded(role: str, **settings: Any) -> RoleModel:
    """The embedded model of a role, made as a profile makes it."""
    nomination = Nomination("own", ROLES[role], {"family": "embedded", **settings})
    return make_model(nomination, Workplace(no_bank, Path("nowhere"), threads=1))


def worker_of(model: RoleModel) -> BatchFunction:
    """The model's batch function."""
    factory, arguments = model.worker()
    return factory(**arguments)
