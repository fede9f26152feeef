"""The world that scenes are built from: concepts, colours, layouts and the habits of its alt-texts."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

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
ColorWord = Annotated[str, Field(pattern=r"^[a-z]+$", description="one lower-case word")]
LEAST_VISIBLE = 0.5
"""Share of an object's pixels that nothing hides, in worlds whose objects overlap."""


class Concept(BaseModel):
    """One thing that scenes show: one drawing, or one silhouette in several colours."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: ConceptName
    picture: str | None = Field(
        None, description="CLDR name of the drawing, such as 'red apple'; 'variants' where there are several"
    )
    color: str | None = Field(None, description="colour word an alt-text may put before the name")
    category: str | None = Field(
        None, pattern=r"^[a-z]+$", description="broader word an alt-text may use instead"
    )
    variants: dict[ColorWord, str] = Field(
        {}, description="the same silhouette in several colours: colour word -> CLDR name of the drawing"
    )
    held_out_colors: tuple[ColorWord, ...] = Field(
        (), description="colours of 'variants' that no model of ours sees in this shape while it trains"
    )

    @property
    def looks(self) -> tuple[Look, ...]:
        """Every drawing of the concept, in the order of the world file."""
        if self.picture is not None:
            return (Look(self, self.picture, self.color),)
        return tuple(Look(self, picture, color) for color, picture in self.variants.items())

    @property
    def training_looks(self) -> tuple[Look, ...]:
        """Drawings of the concept but for its held-out colours."""
        return tuple(look for look in self.looks if look.color not in self.held_out_colors or self.picture)

    @model_validator(mode="after")
    def _one_kind_of_drawing(self) -> Concept:
        if (self.picture is None) == (not self.variants):
            raise ValueError(f"concept {self.name!r}: give either picture or variants")
        if len(self.variants) == 1 or (self.variants and self.color is not None):
            raise ValueError(
                f"concept {self.name!r}: variants are 2 or more colours and stand in place of color; "
                "write one drawing as picture and color"
            )
        unknown = sorted(set(self.held_out_colors) - set(self.variants))
        if unknown or (self.variants and not self.training_looks):
            raise ValueError(
                f"concept {self.name!r}: held_out_colors are {list(self.held_out_colors)}, variants "
                f"{list(self.variants)}; name some of these and leave at least one"
            )
        return self


@dataclass(frozen=True)
class Look:
    """One drawing of a concept, by its CLDR name, and the colour word that an alt-text may say of it."""

    concept: Concept
    picture: str
    color: str | None

    @property
    def name(self) -> str:
        """The concept's name, with the colour behind it where there are several looks: 'dog', 'heart/red'."""
        return f"{self.concept.name}/{self.color}" if self.concept.variants else self.concept.name

    @property
    def phrase(self) -> str:
        """The words that tell it from the concept's other looks: 'dog', 'red heart'."""
        return f"{self.color} {self.concept.name}" if self.concept.variants else self.concept.name


class Layout(BaseModel):
    """How scenes of so many objects look and how often they come."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    objects: int = Field(ge=1, le=4, description="objects in the scene")
    weight: Weight = Field(description="relative frequency")
    size_px: tuple[int, int] = Field(description="smallest and largest side of an object's drawing")


class Overlap(BaseModel):
    """How often, and how far, one object hides another. All others overlap by a fifth of the smaller box at most."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    share: Probability = Field(
        0.0, description="of scenes with 2 or more objects, share in which an object is partly hidden"
    )
    hidden: tuple[float, float] = Field(
        (0.1, LEAST_VISIBLE),
        description="smallest and largest hidden share of the most hidden object's pixels, at most 0.5",
    )

    @model_validator(mode="after")
    def _within_half(self) -> Overlap:
        smallest, largest = self.hidden
        if not 0 < smallest < largest <= 1 - LEAST_VISIBLE:
            raise ValueError(
                f"overlap: hidden is {list(self.hidden)}; allowed are 0 < smallest < largest <= 0.5, as an "
                "object stays at least half visible"
            )
        return self


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
    same_silhouette_probability: Probability = Field(
        0.0, description="of scenes with 2 or more objects, share with one silhouette in two colours"
    )
    overlap: Overlap = Field(default_factory=lambda: Overlap())
    alt_text: AltTextHabits = Field(default_factory=lambda: AltTextHabits())

    @property
    def training_concepts(self) -> tuple[Concept, ...]:
        """Concepts that the training split shows."""
        return self.concepts

    @property
    def all_concepts(self) -> tuple[Concept, ...]:
        """Training concepts, then held-out ones."""
        return self.concepts + self.held_out_concepts

    @property
    def training_looks(self) -> tuple[Look, ...]:
        """Every drawing that the training split may show."""
        return tuple(look for concept in self.concepts for look in concept.training_looks)

    @property
    def drawings(self) -> dict[str, str]:
        """CLDR name of every drawing by the name of its look: 'dog' or 'heart/red'."""
        return {look.name: look.picture for concept in self.all_concepts for look in concept.looks}

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
        if self.same_silhouette_probability > 0 and not any(
            len(concept.training_looks) > 1 for concept in self.concepts
        ):
            raise ValueError(
                "same_silhouette_probability is above 0 but no concept shows two variants; "
                "give one variants or set it to 0"
            )
        return self


def read_world_file(path: Path) -> dict[str, Any]:
    """The mapping in a ``world.yaml``. Raises FoundryError that names the file and the remedy."""
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
    return content


def load_world(path: Path) -> World:
    """Read a ``world.yaml``. Raises FoundryError that names the file, the field and the remedy."""
    content = read_world_file(path)
    world = validate(World, content, str(path))
    for concept in world.all_concepts:
        try:
            for look in concept.looks:
                art.drawing_path(look.picture)
        except FoundryError as error:
            raise FoundryError(f"{path}: concept '{concept.name}': {error}") from error
    return world


def _check_names(concepts: tuple[Concept, ...]) -> None:
    looks = [look for concept in concepts for look in concept.looks]
    _stand_once("name", [concept.name for concept in concepts])
    _stand_once("picture", [look.picture for look in looks])
    # A text could mean either of the two.
    _stand_once("name", [*dict.fromkeys(concept.name for concept in concepts), *_colored(looks)])


def _colored(looks: Iterable[Look]) -> list[str]:
    return [look.phrase for look in looks if look.concept.variants]


def _stand_once(field: str, values: list[str]) -> None:
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
