"""The world that scenes are built from: concepts, colours, layouts and the habits of its alt-texts."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, model_validator

from assets.corpus import art
from training.errors import FoundryError
from training.recipes.validation import validate

BackgroundKind = Literal["plain", "gradient", "two-tone", "checker"]
WORD_CAP_HEIGHT_PX = 12
"""Height of a rendered capital: at four times the size it is 48 pixels, which OCR reads well."""

Probability = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(ge=0)]
ConceptName = Annotated[str, Field(pattern=r"^[a-z]+( [a-z]+)?$", description="one or two lower-case words")]


class Concept(BaseModel):
    """One thing that scenes show."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: ConceptName
    picture: str = Field(description="CLDR name of the drawing, such as 'red apple'")
    color: str | None = Field(None, description="colour word an alt-text may put before the name")
    category: str | None = Field(
        None, pattern=r"^[a-z]+$", description="broader word an alt-text may use instead"
    )


class Layout(BaseModel):
    """How scenes of so many objects look and how often they come."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    objects: int = Field(ge=1, le=4, description="objects in the scene")
    weight: Weight = Field(description="relative frequency")
    size_px: tuple[int, int] = Field(description="smallest and largest side of an object's drawing")


class AltTextHabits(BaseModel):
    """How terse and how vague the alt-texts are: the web's are, and captions are meant to be denser."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    mention_all: Probability = Field(
        0.5, description="of scenes with 2 or more objects, share that names all"
    )
    article: Probability = Field(0.3, description="share of mentions with 'a' or 'an'")
    color: Probability = Field(0.2, description="share of mentions with the object's colour")
    vague: Probability = Field(0.1, description="share of mentions that give only the category")
    position: Probability = Field(0.15, description="share of alt-texts that place the first object")
    background: Probability = Field(0.35, description="share of alt-texts that name the background")
    word: Probability = Field(0.5, description="of scenes with a word, share of alt-texts that quote it")
    noise: Probability = Field(0.05, description="share of alt-texts that end in web filler")


class World(BaseModel):
    """Everything the scene builder may draw. Raises ValueError on a world that cannot be drawn."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    image_size_px: int = Field(64, ge=32, le=1024, multiple_of=8, description="side of a scene")
    concepts: tuple[Concept, ...] = Field(min_length=4, description="concepts of the training split")
    held_out_concepts: tuple[Concept, ...] = Field(
        min_length=1, description="concepts no model of ours trains on"
    )
    judge_sees_held_out_concepts: bool = Field(
        True, description="whether the judge's split shows all concepts, so that it can judge held-out ones"
    )
    colors: dict[str, str] = Field(min_length=2, description="background colours, word -> '#rrggbb'")
    backgrounds: dict[BackgroundKind, Weight] = Field(
        min_length=1, description="kinds of background and their weights"
    )
    layouts: tuple[Layout, ...] = Field(min_length=1, description="scenes of one object, of two, ...")
    words: tuple[Annotated[str, Field(pattern=r"^[A-Z]{2,5}$")], ...] = Field(
        (), description="words that may be rendered: 2 to 5 capitals"
    )
    word_probability: Probability = Field(0.0, description="share of scenes that carry a word")
    alt_text: AltTextHabits = Field(default_factory=lambda: AltTextHabits())

    @property
    def training_concepts(self) -> tuple[Concept, ...]:
        """Concepts that the training split shows."""
        return self.concepts

    @property
    def all_concepts(self) -> tuple[Concept, ...]:
        """Training concepts, then held-out ones."""
        return self.concepts + self.held_out_concepts

    def rgb(self, color: str) -> tuple[int, int, int]:
        """Red, green and blue of a background colour word, each in [0, 255]."""
        value = self.colors[color]
        return int(value[1:3], 16), int(value[3:5], 16), int(value[5:7], 16)

    @model_validator(mode="after")
    def _consistent(self) -> World:
        _check_names(self.all_concepts)
        _check_colors(self.colors)
        _check_weights("backgrounds", list(self.backgrounds.values()))
        _check_weights("layouts", [layout.weight for layout in self.layouts])
        for layout in self.layouts:
            _check_layout(layout, self.image_size_px, len(self.concepts))
        if self.word_probability > 0 and not self.words:
            raise ValueError("word_probability is above 0 but words is empty; list words or set it to 0")
        return self


def load_world(path: Path) -> World:
    """Read a ``world.yaml``. Raises FoundryError that names the file, the field and the remedy."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise FoundryError(
            f"{path}: cannot be read ({error.strerror}). Copy the demo profile's world.yaml there."
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise FoundryError(f"{path}: is not YAML ({error}). Correct the file.") from error
    if not isinstance(content, dict):
        raise FoundryError(
            f"{path}: must hold a mapping of keys, found {type(content).__name__}. Correct the file."
        )
    world = validate(World, content, str(path))
    for concept in world.all_concepts:
        try:
            art.drawing_path(concept.picture)
        except FoundryError as error:
            raise FoundryError(f"{path}: concept '{concept.name}': {error}") from error
    return world


def _check_names(concepts: tuple[Concept, ...]) -> None:
    for field in ("name", "picture"):
        values = [getattr(concept, field) for concept in concepts]
        twice = sorted({value for value in values if values.count(value) > 1})
        if twice:
            raise ValueError(
                f"concepts and held_out_concepts use the {field} {twice[0]!r} twice; a {field} stands once"
            )


def _check_colors(colors: dict[str, str]) -> None:
    for word, value in colors.items():
        if not re.fullmatch(r"#[0-9a-fA-F]{6}", value):
            raise ValueError(f"colors.{word} is {value!r}; write it as '#rrggbb'")


def _check_weights(field: str, weights: list[float]) -> None:
    if sum(weights) <= 0:
        raise ValueError(f"{field}: all weights are 0; give at least one a weight above 0")


def _check_layout(layout: Layout, image_size_px: int, num_concepts: int) -> None:
    smallest, largest = layout.size_px
    # Up to four objects must find room side by side, beside the word's strip where there is one.
    limit = image_size_px if layout.objects == 1 else image_size_px // 2
    if not 8 <= smallest <= largest <= limit:
        raise ValueError(
            f"layouts: size_px of {layout.objects} objects is {list(layout.size_px)}; "
            f"allowed are 8 <= smallest <= largest <= {limit}"
        )
    if layout.objects > num_concepts:
        raise ValueError(f"layouts: {layout.objects} objects need as many concepts, found {num_concepts}")
