"""A scaling grid as data: axes, the slices of their product that are trained, and what is contrasted.

A grid is a union of small products. Each of its points is one training, named ``grid.<size>.<data>.<mix>.<seed>``.
A run is trained to its largest budget and scored on the way: the learning rate does not depend on where a run ends,
so the model at an earlier count is the model of a shorter run. This module is light: it imports no torch; whoever
needs sizes hands in functions that count parameters and multiply-adds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from training.errors import FoundryError
from training.recipes.files import load_recipe, merge, read_yaml
from training.recipes.section import Positive, Section
from training.recipes.specification import Recipe
from training.recipes.validation import nearest, validate

Mix = Literal["original", "recaptioned", "mixed"]
MIX_OF_CAPTIONS: Mapping[str, str] = {"original": "original", "recaptioned": "recaptioned", "mixed": "paper"}
"""Names of the axis, and the caption mixes of :data:`training.recipes.dataset.CAPTION_MIXES` that they stand for."""

LEAST_SEEDS = 3
LEAST_COUNTS = 6
ShortName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,15}$")]
CountOf = Callable[[str], int]
"""From a backbone's registry name to its parameters, or to its multiply-adds for one image."""


class Budgets(Section):
    """How far runs go, ascending: images seen, or training compute in GFLOPs (3 x 2 x MACs x images)."""

    images: tuple[Positive, ...] | None = Field(default=None, min_length=1)
    gflops: tuple[Annotated[float, Field(gt=0, le=1e18)], ...] | None = Field(default=None, min_length=1)

    @model_validator(mode="after")
    def _one_of_both(self) -> Budgets:
        given = [values for values in (self.images, self.gflops) if values is not None]
        if len(given) != 1:
            raise ValueError("give either 'images' or 'gflops'")
        if list(given[0]) != sorted(set(given[0])):
            raise ValueError(f"budgets are {list(given[0])}; list them ascending, each once")
        return self


class GridSize(Section):
    """One entry of the axis of sizes."""

    backbone: str = Field(description="registry name in training/backbones")
    learning_rate: float = Field(gt=0, le=10)
    budgets: Budgets | None = Field(default=None, description="in place of the grid's own")


class GridData(Section):
    """One entry of the axis of data: a part of the training samples."""

    images: Positive | None = Field(default=None, description="only so many samples; None for all")
    filter: Literal["curated", "raw"] = "curated"
    concepts: Positive | None = Field(
        default=None, description="only samples about the so many commonest nouns"
    )


class Slice(Section):
    """One product: every listed size with every data set, mix and seed."""

    sizes: tuple[ShortName, ...] = Field(min_length=1)
    data: tuple[ShortName, ...] = Field(min_length=1)
    mixes: tuple[Mix, ...] = Field(min_length=1)
    seeds: tuple[Annotated[int, Field(ge=0, lt=10**6)], ...] = Field(min_length=1)


class Pair(Section):
    """Two sizes of equal parameters that differ in shape; ``left`` is the one a claim says is better."""

    name: ShortName
    left: ShortName
    right: ShortName
    within: float = Field(
        default=0.03, gt=0, le=1, description="largest difference of parameters, as a share of the smaller"
    )
    claim: str | None = Field(default=None, description="claim in evaluation/claims that the pair measures")


class Contrast(Section):
    """Two values of one axis; ``left`` is the one a claim says is better."""

    claim: str
    axis: Literal["data", "mix"]
    left: ShortName
    right: ShortName


class Scored(Section):
    """At which counts of images a run is scored, besides its budgets: evenly in their logarithm."""

    first_images: Positive
    counts: int = Field(default=LEAST_COUNTS, ge=LEAST_COUNTS, le=64)


@dataclass(frozen=True)
class GridPoint:
    """One training of the grid."""

    size: str
    data: str
    mix: Mix
    seed: int

    @property
    def name(self) -> str:
        """The partition key."""
        return f"grid.{self.size}.{self.data}.{self.mix}.{self.seed}"

    @property
    def cell(self) -> tuple[str, str, str]:
        """Size, data and mix: what several seeds share."""
        return self.size, self.data, self.mix


class Grid(Section):
    """Contents of ``grid.yaml``."""

    recipe: dict[str, Any] = Field(
        description="settings of training/recipes/specification.py that all points share"
    )
    budgets: Budgets
    scored: Scored
    sizes: dict[ShortName, GridSize] = Field(min_length=1)
    data: dict[ShortName, GridData] = Field(min_length=1)
    slices: tuple[Slice, ...] = Field(min_length=1)
    pairs: tuple[Pair, ...] = ()
    contrasts: tuple[Contrast, ...] = ()

    @property
    def points(self) -> dict[str, GridPoint]:
        """All points by name, in order of the slices; what several slices ask for is there once."""
        found = [
            GridPoint(size, data, mix, seed)
            for part in self.slices
            for size in part.sizes
            for data in part.data
            for mix in part.mixes
            for seed in part.seeds
        ]
        return {point.name: point for point in found}

    def seeds_of(self, size: str, data: str, mix: str) -> set[int]:
        """Seeds of one cell."""
        return {point.seed for point in self.points.values() if point.cell == (size, data, mix)}

    @model_validator(mode="after")
    def _names_are_known(self) -> Grid:
        for place, part in enumerate(self.slices):
            for axis, names, known in (("sizes", part.sizes, self.sizes), ("data", part.data, self.data)):
                for name in names:
                    _known(f"slices.{place}.{axis}", name, known)
        for pair in self.pairs:
            for name in (pair.left, pair.right):
                _known(f"pair '{pair.name}'", name, self.sizes)
        for contrast in self.contrasts:
            values: Mapping[str, Any] = self.data if contrast.axis == "data" else MIX_OF_CAPTIONS
            for name in (contrast.left, contrast.right):
                _known(f"contrast '{contrast.claim}'", name, values)
        return self

    @model_validator(mode="after")
    def _contrasts_have_seeds(self) -> Grid:
        for what, axis, left, right in contrasted(self):
            if left == right:
                raise ValueError(f"{what} compares '{left}' with itself; name two values")
            shared = shared_cells(self, axis, left, right)
            if not shared:
                raise ValueError(
                    f"{what}: no slice trains '{left}' and '{right}' with all else equal; add one with both"
                )
            for cells in shared:
                for cell in cells:
                    if len(self.seeds_of(*cell)) < LEAST_SEEDS:
                        raise ValueError(
                            f"{what}: the cell {'.'.join(cell)} has {len(self.seeds_of(*cell))} seeds; "
                            f"at least {LEAST_SEEDS} tell seed noise, add some to its slice"
                        )
        return self


def contrasted(grid: Grid) -> list[tuple[str, str, str, str]]:
    """(what, axis, left, right) of every pair and contrast."""
    pairs = [(f"pair '{pair.name}'", "size", pair.left, pair.right) for pair in grid.pairs]
    return pairs + [(f"contrast '{c.claim}'", c.axis, c.left, c.right) for c in grid.contrasts]


Cell = tuple[str, str, str]


def shared_cells(grid: Grid, axis: str, left: str, right: str) -> list[tuple[Cell, Cell]]:
    """Cells that differ in one axis alone and were both planned: (left, right), sorted."""
    place = ("size", "data", "mix").index(axis)
    planned = {point.cell for point in grid.points.values()}
    found = []
    for cell in sorted(planned):
        other = (*cell[:place], right, *cell[place + 1 :])
        if cell[place] == left and other in planned:
            found.append((cell, other))
    return found


def load_grid(path: Path) -> Grid:
    """Read and check ``grid.yaml``. Raises FoundryError naming the key, what was found and the nearest valid one."""
    grid = validate(Grid, read_yaml(path), str(path))
    for point in {point.cell: point for point in reversed(list(grid.points.values()))}.values():
        budgets = grid.sizes[point.size].budgets or grid.budgets
        total = budgets.images[-1] if budgets.images else 10**12
        _recipe(grid, point, total, f"{path}, point '{point.name}'")
    return grid


def images_of_budgets(grid: Grid, size: str, macs_of: CountOf) -> tuple[int, ...]:
    """Images seen at each budget of a size, ascending. Compute becomes whole batches: 3 x 2 x MACs x images."""
    own = grid.sizes[size]
    budgets = own.budgets or grid.budgets
    if budgets.images is not None:
        return budgets.images
    assert budgets.gflops is not None
    batch = _batch_size(grid)
    gflops_per_image = 6e-9 * macs_of(own.backbone)
    return tuple(max(round(gflops / gflops_per_image / batch), 1) * batch for gflops in budgets.gflops)


def recipe_of(grid: Grid, point: GridPoint, macs_of: CountOf) -> Recipe:
    """The point as a recipe, trained to its largest budget."""
    return _recipe(grid, point, images_of_budgets(grid, point.size, macs_of)[-1], f"point '{point.name}'")


def scored_counts(grid: Grid, point: GridPoint, macs_of: CountOf) -> tuple[int, ...]:
    """Images seen at which a run is scored, ascending: its budgets, and counts evenly spaced in their logarithm.

    All are whole batches, at whose end the loop keeps the weights; the last one may be a shorter batch. Raises FoundryError when fewer than six different ones come out.
    """
    budgets, batch = images_of_budgets(grid, point.size, macs_of), _batch_size(grid)
    first, last, number = grid.scored.first_images, budgets[-1], grid.scored.counts
    spaced = [round(first * (last / first) ** (place / (number - 1))) for place in range(number)]
    counts = tuple(sorted({min(-(-count // batch) * batch, last) for count in (*spaced, *budgets)}))
    if len(counts) < LEAST_COUNTS or first >= last:
        raise FoundryError(
            f"grid point '{point.name}': 'scored' gives {len(counts)} counts from {first} to {last} images; at least "
            f"{LEAST_COUNTS} are needed, lower scored.first_images or raise the budget"
        )
    return counts


def check_pairs(grid: Grid, parameters_of: CountOf) -> None:
    """Raise FoundryError when the sizes of a pair differ in parameters by more than the pair allows."""
    for pair in grid.pairs:
        names = [grid.sizes[side].backbone for side in (pair.left, pair.right)]
        left, right = (parameters_of(name) for name in names)
        difference = abs(left - right) / min(left, right)
        if difference > pair.within:
            raise FoundryError(
                f"grid.yaml: pair '{pair.name}' compares {names[0]} with {left:,} parameters and {names[1]} with "
                f"{right:,}, which differ by {difference:.1%}; at most {pair.within:.1%} is allowed, choose nearer sizes"
            )


def _batch_size(grid: Grid) -> int:
    return int(grid.recipe.get("batch_size", Recipe.model_fields["batch_size"].default))


def _recipe(grid: Grid, point: GridPoint, images_total: int, where: str) -> Recipe:
    size, data = grid.sizes[point.size], grid.data[point.data]
    dataset = {
        "captions": MIX_OF_CAPTIONS[point.mix],
        "max_samples": data.images,
        "filter": data.filter,
        "max_concepts": data.concepts,
    }
    own = {
        "name": point.name,
        "backbone": size.backbone,
        "learning_rate": size.learning_rate,
        "images_total": images_total,
        "seed": point.seed,
        "dataset": dataset,
    }
    recipe = load_recipe(merge(grid.recipe, own), where)
    if recipe.schedule != "constant":
        raise FoundryError(
            f"{where}: 'schedule' is '{recipe.schedule}'; runs are scored on the way as shorter runs, so the rate must "
            "not depend on where they end: say constant"
        )
    return recipe


def _known(where: str, name: str, known: Mapping[str, Any]) -> None:
    if name not in known:
        raise ValueError(f"{where} names '{name}'; {nearest(name, list(known))}")
