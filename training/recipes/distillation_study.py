"""A study of distillation as data: one base recipe, cells that change a part of it, seeds, and what is contrasted.

KOALA's factors (arXiv 2312.04005, section 3.3: kind of feature, stage, pairing across depth, extras; section 4: teacher
and captions) are cells of one study. Each cell and seed is one training, named ``study.<cell>.<seed>``. Light: no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, model_validator

from training.recipes.files import load_recipe, merge, read_yaml
from training.recipes.grid import LEAST_SEEDS, ShortName
from training.recipes.section import Section
from training.recipes.specification import Recipe
from training.recipes.validation import nearest, validate

PREFIX = "study."


class StudyContrast(Section):
    """Two cells of which the paper says that the left one is better."""

    factor: str = Field(min_length=1, max_length=80, description="what differs, in words")
    left: ShortName
    right: ShortName


class DistillationStudy(Section):
    """Contents of ``distillation_study.yaml``."""

    recipe: dict[str, Any] = Field(
        description="settings of training/recipes/specification.py that all cells share"
    )
    seeds: tuple[Annotated[int, Field(ge=0, lt=10**6)], ...] = Field(min_length=1)
    cells: dict[ShortName, dict[str, Any]] = Field(
        min_length=1, description="what each cell changes of the recipe; sections merge key by key"
    )
    contrasts: tuple[StudyContrast, ...] = ()

    @model_validator(mode="after")
    def _contrasts_can_be_told(self) -> DistillationStudy:
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError(f"'seeds' are {list(self.seeds)}; list each once")
        for contrast in self.contrasts:
            for name in (contrast.left, contrast.right):
                if name not in self.cells:
                    raise ValueError(
                        f"contrast '{contrast.factor}' names the cell '{name}', which there is not; {nearest(name, list(self.cells))}"
                    )
            if contrast.left == contrast.right:
                raise ValueError(
                    f"contrast '{contrast.factor}' compares '{contrast.left}' with itself; name two cells"
                )
        if self.contrasts and len(self.seeds) < LEAST_SEEDS:
            raise ValueError(
                f"'seeds' has {len(self.seeds)}; at least {LEAST_SEEDS} tell seed noise, add some"
            )
        return self


def load_study(path: Path) -> DistillationStudy:
    """Read and check a study with all its recipes. Raises FoundryError naming file, key and the nearest valid one."""
    study = validate(DistillationStudy, read_yaml(path), str(path))
    study_recipes(study, str(path))
    return study


def study_recipes(study: DistillationStudy, where: str = "study") -> dict[str, Recipe]:
    """Every training of a study by its name, seed by seed. Raises FoundryError for a cell that is no valid recipe."""
    return {
        name: load_recipe(
            merge({**study.recipe, "name": name, "seed": seed}, changes), f"{where}, cell '{cell}'"
        )
        for seed in study.seeds
        for cell, changes in study.cells.items()
        for name in (partition_of(cell, seed),)
    }


def partition_of(cell: str, seed: int) -> str:
    """The partition key of a cell's training."""
    return f"{PREFIX}{cell}.{seed}"


def is_study(name: str) -> bool:
    """Whether a recipe belongs to a study."""
    return name.startswith(PREFIX)


def by_cell(study: DistillationStudy, made: Mapping[str, Any]) -> dict[str, list[Any]]:
    """What was made so far, by cell, in the order of the seeds; cells without a training yet are left out."""
    found = {
        cell: [made[key] for seed in study.seeds if (key := partition_of(cell, seed)) in made]
        for cell in study.cells
    }
    return {cell: values for cell, values in found.items() if values}
