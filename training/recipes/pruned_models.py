"""What a person writes of pruning: how the units of a model are scored, and which of them a smaller model keeps.

One scoring serves many models: masks are learned once, and 10, 20 and 50% are three cuts through the same scores.
This module is light: it imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from training.errors import FoundryError
from training.recipes.files import load_named, merge, read_yaml
from training.recipes.pruning import KINDS, LEARNED_METHODS, Kind, Method, PruningOptions, pruning_preset
from training.recipes.section import Section
from training.recipes.specification import NAME_PATTERN
from training.recipes.validation import validate

Name = Annotated[str, Field(pattern=NAME_PATTERN)]
Sparsity = Annotated[Decimal, Field(ge=0, lt=1)]


class ScoringRecipe(Section):
    """How the units of one model are scored. ``parent`` is any model of the graph."""

    name: Name
    parent: Name = Field(description="recipe whose published model is scored")
    method: Method = Field(
        default="ecodiff", description="how units are scored; ecodiff learns masks end to end"
    )
    kinds: tuple[Kind, ...] = Field(
        default=("heads", "ffn"), min_length=1, description="units that take part"
    )
    preset: str | None = Field(
        default=None, description="the official code's settings of a model, on which `pruning` is laid"
    )
    pruning: PruningOptions = PruningOptions()
    seed: int = Field(default=0, ge=0, lt=2**63)

    @model_validator(mode="before")
    @classmethod
    def _lay_on_preset(cls, values: Any) -> Any:
        """The preset's settings resolved, so that a preset that changes here changes the recipe's identity."""
        if isinstance(values, Mapping) and values.get("preset") is not None:
            section = values.get("pruning") or {}
            own = section if isinstance(section, Mapping) else section.model_dump()
            return {**values, "pruning": pruning_preset(str(values["preset"]), **own)}
        return values

    @model_validator(mode="after")
    def _kinds_and_rates_agree(self) -> ScoringRecipe:
        if len(set(self.kinds)) != len(self.kinds):
            raise ValueError(f"'kinds' are {list(self.kinds)}; name each once")
        rates = self.pruning.learning_rates
        for kind in KINDS if self.method in LEARNED_METHODS else ():
            if (kind in self.kinds) != (rates[kind] > 0):
                raise ValueError(
                    f"'kinds' are {list(self.kinds)}, and '{kind}_learning_rate' of 'pruning' is {rates[kind]:g}; "
                    "a kind is learned where its rate is above 0, so let the two agree"
                )
        return self

    def settings(self) -> dict[str, Any]:
        """The recipe as plain data, for provenance."""
        return self.model_dump(mode="json")


class PrunedRecipe(Section):
    """Which units a smaller model keeps: a share of each kind with the best scores, or all above a threshold."""

    name: Name
    scores: Name = Field(description="scoring recipe")
    sparsity: Sparsity | dict[Kind, Sparsity] | None = Field(
        default=None, description="share of units that go, of each kind; or one for each kind"
    )
    thresholds: dict[Kind, float] | None = Field(
        default=None, description="instead of a sparsity: units whose score is more than this are kept"
    )
    scope: Literal["global", "layer"] = Field(
        default="global", description="rank all units of a kind together, or those of each module"
    )
    score_per: Literal["unit", "parameter", "millisecond"] = Field(
        default="unit", description="rank by score, or by score over what a unit costs"
    )

    @model_validator(mode="after")
    def _one_rule(self) -> PrunedRecipe:
        if (self.sparsity is None) == (self.thresholds is None):
            raise ValueError("give one of 'sparsity' and 'thresholds', such as sparsity: 0.2")
        if self.thresholds is not None and (self.scope, self.score_per) != ("global", "unit"):
            raise ValueError("'thresholds' compare bare scores; leave 'scope' and 'score_per' out")
        return self

    def sparsity_of(self, kind: Kind) -> Decimal:
        """The share of a kind's units that go. Raises FoundryError where thresholds decide instead."""
        if self.sparsity is None:
            raise FoundryError(
                f"recipe '{self.name}': has thresholds, so its sparsity follows from the scores"
            )
        return self.sparsity[kind] if isinstance(self.sparsity, dict) else self.sparsity

    @property
    def largest_sparsity(self) -> float | None:
        """The largest share of a kind that goes; None where thresholds decide."""
        if self.sparsity is None:
            return None
        shares = self.sparsity.values() if isinstance(self.sparsity, dict) else [self.sparsity]
        return float(max(shares))

    def settings(self) -> dict[str, Any]:
        """The recipe as plain data, for provenance."""
        return self.model_dump(mode="json")


class PruningAblation(Section):
    """Settings of mask learning varied one at a time around a base, each at one sparsity."""

    base: Name = Field(description="scoring recipe that is varied")
    vary: dict[str, tuple[float, ...]] = Field(min_length=1, description="values by field of `pruning`")
    sparsity: Sparsity = Decimal("0.2")


ABLATION_PREFIX = "ablation."


def load_scorings(path: Path) -> dict[str, ScoringRecipe]:
    """``unit_scores.yaml``: ``{defaults, recipes}`` like all files of recipes; none without the file.

    Raises FoundryError naming file, key and what is allowed.
    """
    return load_named(path, ScoringRecipe) if path.exists() else {}


def load_pruned(path: Path, scorings: Mapping[str, ScoringRecipe]) -> dict[str, PrunedRecipe]:
    """``pruned.yaml``; every recipe's scoring must be one of ``scorings``. Raises FoundryError as above."""
    recipes = load_named(path, PrunedRecipe) if path.exists() else {}
    for name, recipe in recipes.items():
        check_scoring(recipe, scorings, f"{path}, recipe '{name}'")
    return recipes


def check_scoring(recipe: PrunedRecipe, scorings: Mapping[str, ScoringRecipe], where: str) -> None:
    """Refuse a recipe whose scores there are not, or whose kinds are not those that are scored."""
    scoring = scorings.get(recipe.scores)
    if scoring is None:
        raise FoundryError(
            f"{where}: 'scores' is '{recipe.scores}'; recipes of unit_scores.yaml are {', '.join(scorings) or 'none yet'}"
        )
    for field in ("sparsity", "thresholds"):
        given = getattr(recipe, field)
        if isinstance(given, dict) and set(given) != set(scoring.kinds):
            raise FoundryError(
                f"{where}: '{field}' names {', '.join(given)}; '{scoring.name}' scores {', '.join(scoring.kinds)}, "
                "give a number for each"
            )


def load_ablation(
    path: Path, scorings: Mapping[str, ScoringRecipe]
) -> tuple[dict[str, ScoringRecipe], dict[str, PrunedRecipe]]:
    """Scorings and pruned models of ``pruning_ablation.yaml``, one for each value; none without the file.

    Raises FoundryError for an unknown base or field and an impossible value.
    """
    if not path.exists():
        return {}, {}
    ablation = validate(PruningAblation, read_yaml(path), str(path))
    base = scorings.get(ablation.base)
    if base is None:
        raise FoundryError(
            f"{path}: 'base' is '{ablation.base}'; recipes of unit_scores.yaml are {', '.join(scorings) or 'none yet'}"
        )
    varied = {}
    for field, values in ablation.vary.items():
        for value in values:
            name = f"{ABLATION_PREFIX}{field.replace('_', '-')}.{value:g}"
            settings = merge(base.settings(), {"name": name, "preset": None, "pruning": {field: value}})
            varied[name] = validate(ScoringRecipe, settings, f"{path}, vary '{field}'")
    pruned = {name: PrunedRecipe(name=name, scores=name, sparsity=ablation.sparsity) for name in varied}
    return varied, pruned


def is_ablation(name: str) -> bool:
    """Whether a recipe belongs to an ablation."""
    return name.startswith(ABLATION_PREFIX)
