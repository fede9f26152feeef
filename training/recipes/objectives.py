"""What may be trained: one row an objective. Its section of the recipe, what it starts from, and which class trains it.

A new objective is a file with its options here, a file with its class in :mod:`training.objectives`, and a row. This
module is light: it names the classes and imports none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeVar

from pydantic import BaseModel, create_model

from training.recipes.autoencoder import AutoencoderOptions
from training.recipes.contrastive import ContrastiveOptions
from training.recipes.diffusion import DiffusionOptions
from training.recipes.feature_distillation import FeatureDistillationOptions
from training.recipes.layout import LayoutTrainingOptions
from training.recipes.section import Section
from training.recipes.step_distillation import StepDistillationOptions

Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True)
class ObjectiveRow:
    """An objective: ``name`` is its name in recipes and that of its section there."""

    name: str
    options: type[Section]
    made_by: str  # module:class below training.objectives, called with specification, execution and device
    takes_backbone: bool = False  # trains a backbone, named or its parent's; others name neither
    needs_parent: bool = False  # starts from another model, which it names
    one_process: bool = False  # compares all images of a batch: a part of a batch would be another objective
    takes_lora: bool = False  # adapters may be trained beside its parent's weights
    freezes_base: bool = False  # trains a branch beside its parent's weights, which stay as they are
    takes_muon: bool = False  # its class tells hidden matrices apart (HasHiddenMatrices)

    def __post_init__(self) -> None:
        if self.needs_parent and not self.takes_backbone:
            raise ValueError(f"objective '{self.name}' needs a parent, so it must take a backbone")


OBJECTIVES: Mapping[str, ObjectiveRow] = MappingProxyType(
    {
        row.name: row
        for row in (
            ObjectiveRow(
                "diffusion",
                DiffusionOptions,
                "diffusion:DiffusionObjective",
                takes_backbone=True,
                takes_muon=True,
                takes_lora=True,
            ),
            ObjectiveRow(
                "autoencoder", AutoencoderOptions, "autoencoder:AutoencoderObjective", takes_muon=True
            ),
            ObjectiveRow(
                "contrastive", ContrastiveOptions, "contrastive:ContrastiveObjective", one_process=True
            ),
            ObjectiveRow(
                "step_distillation",
                StepDistillationOptions,
                "step_distillation:StepDistillationObjective",
                takes_backbone=True,
                takes_muon=True,
                needs_parent=True,
            ),
            ObjectiveRow(
                "feature_distillation",
                FeatureDistillationOptions,
                "feature_distillation:FeatureDistillationObjective",
                takes_backbone=True,
                takes_muon=True,
                needs_parent=True,
            ),
            ObjectiveRow(
                "layout",
                LayoutTrainingOptions,
                "layout:LayoutObjective",
                takes_backbone=True,
                takes_muon=True,
                needs_parent=True,
                freezes_base=True,
            ),
        )
    }
)


def with_objective_sections(model: type[Model]) -> type[Model]:
    """The same model with one more optional field for each objective, its section, in the order of the rows."""
    sections: dict[str, Any] = {row.name: (row.options | None, None) for row in OBJECTIVES.values()}
    return create_model(
        model.__name__, __base__=model, __module__=model.__module__, __doc__=model.__doc__, **sections
    )
