"""What a person writes of localisation: which model's text layers are swept, and by which prompts. Light: it imports no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from training.recipes.files import load_named
from training.recipes.section import Section
from training.recipes.specification import NAME_PATTERN

PromptSetName = Literal["simple", "creative", "signs", "plates"]
LOCATED = "located"
"""Target of low-rank adapters that stands for the layers which a sweep chose."""


class LocalizationRecipe(Section):
    """One sweep. ``parent`` is any model of the graph that draws by prompts alone."""

    name: Annotated[str, Field(pattern=NAME_PATTERN)]
    parent: Annotated[str, Field(pattern=NAME_PATTERN)] = Field(
        description="recipe whose published model is swept"
    )
    prompts: PromptSetName = Field(
        default="simple",
        description="what it is asked: simple and creative templates, signs as in the world of signs, or such with digits in their words",
    )

    def settings(self) -> dict[str, Any]:
        """The recipe as plain data, for provenance."""
        return self.model_dump(mode="json")


def load_localizations(path: Path) -> dict[str, LocalizationRecipe]:
    """``text_layers.yaml``: ``{defaults, recipes}`` like all files of recipes; none without the file.

    Raises FoundryError naming file, recipe and field.
    """
    return load_named(path, LocalizationRecipe) if path.exists() else {}
