"""Discrete masks from scores: which units of each module are kept.

EcoDiff's rules (official code; sheet, section 6): each kind is ranked by itself, over all modules or within each,
and floor(N * r) of N units are kept, exactly. Scores are taken as they are, never clamped at 0, which would make ties.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from training.errors import FoundryError
from training.pruning._layers import Kind, UnitKey
from training.pruning.ratios import Ratio, keep_count, keep_ratio

Scope = Literal["global", "layer"]
SCOPES: tuple[Scope, ...] = ("global", "layer")
Scores = Mapping[UnitKey, Tensor]
Costs = Mapping[UnitKey, int | float]
Kept = dict[UnitKey, Tensor]


def scope_named(text: str) -> Scope:
    """A scope by its name. Raises FoundryError for an unknown one."""
    found = next((scope for scope in SCOPES if scope == text), None)
    if found is None:
        raise FoundryError(f"scope: '{text}' found, allowed are {', '.join(SCOPES)}")
    return found


def keep_best(
    scores: Scores,
    ratios: Mapping[Kind, Ratio],
    scope: Scope,
    *,
    costs: Costs | None = None,
) -> Kept:
    """Keep floor(N * r) units of each kind with the highest scores; of equal ones the earlier in the mapping's order.

    ``scope``: N is the units of all modules of a kind, or of each module. ``costs``: what one unit of a module costs,
    in parameters, milliseconds or any other unit; then units are ranked by score per cost (a negative score times
    its cost: an unwanted unit goes the sooner the more it costs). Units that are kept are told by True.

    Raises FoundryError before any ranking for a ratio that empties a whole kind, kinds without a ratio or without
    scores, scores that are not finite, and costs that are missing or not positive.
    """
    exact_ratios = _checked_ratios(scores, ratios, scope)
    ranked = {key: _per_cost(key, value, costs) for key, value in scores.items()}
    if scope == "layer":
        return {
            key: _best(value, keep_count(len(value), exact_ratios[key[0]])) for key, value in ranked.items()
        }
    kept: Kept = {}
    for kind, ratio in exact_ratios.items():
        keys = [key for key in ranked if key[0] == kind]
        together = torch.cat([ranked[key] for key in keys])
        best = _best(together, keep_count(len(together), ratio))
        kept.update(zip(keys, best.split([len(ranked[key]) for key in keys]), strict=True))
    return {key: kept[key] for key in scores}


def keep_above(scores: Scores, thresholds: Mapping[Kind, float]) -> Kept:
    """Keep the units whose score is more than their kind's threshold.

    Raises FoundryError when a kind has no threshold or would lose every unit, and for scores that are not finite.
    """
    _check_kinds(scores, thresholds, "thresholds")
    kept = {key: _checked(key, value).detach().cpu() > thresholds[key[0]] for key, value in scores.items()}
    for kind in thresholds:
        if not any(value.any() for key, value in kept.items() if key[0] == kind):
            highest = max(float(value.max()) for key, value in scores.items() if key[0] == kind)
            raise FoundryError(
                f"thresholds: '{kind}' is {thresholds[kind]}, which keeps no unit; the highest score is {highest:g}, "
                "set it lower"
            )
    return kept


def _checked_ratios(scores: Scores, ratios: Mapping[Kind, Ratio], scope: Scope) -> dict[Kind, Fraction]:
    _check_kinds(scores, ratios, "ratios")
    exact_ratios = {kind: keep_ratio(ratio, f"ratios of {kind}") for kind, ratio in ratios.items()}
    for kind, ratio in exact_ratios.items():
        counts = [len(_checked(key, value)) for key, value in scores.items() if key[0] == kind]
        check_something_left(kind, counts, ratio, scope)
    return exact_ratios


def check_something_left(kind: Kind, counts: list[int], ratio: Fraction, scope: Scope) -> None:
    """Raise FoundryError when a keep ratio would leave no unit of a kind in any module of these unit counts."""
    pools = [sum(counts)] if scope == "global" else counts
    if counts and not any(keep_count(pool, ratio) for pool in pools):
        raise FoundryError(
            f"{kind}: keeping {float(ratio):g} of {max(pools)} units leaves none in "
            f"{'all modules together' if scope == 'global' else 'any module'}; "
            f"keep at least 1/{max(pools)} or leave '{kind}' out"
        )


def _check_kinds(scores: Scores, given: Mapping[Kind, Ratio], field: str) -> None:
    scored = {key[0] for key in scores}
    if scored != set(given):
        raise FoundryError(
            f"{field}: given for {', '.join(sorted(given)) or 'nothing'}, scored are {', '.join(sorted(scored)) or 'none'}; "
            "give one number for each scored kind"
        )


def _checked(key: UnitKey, value: Tensor) -> Tensor:
    if value.ndim != 1 or not bool(torch.isfinite(value).all()):
        raise FoundryError(
            f"scores of {'/'.join(key)}: shape {list(value.shape)}; one finite number a unit is needed, look for NaN"
        )
    return value


def _per_cost(key: UnitKey, value: Float[Tensor, " units"], costs: Costs | None) -> Float[Tensor, " units"]:
    score = value.detach().double().cpu()
    if costs is None:
        return score
    cost = costs.get(key)
    if cost is None or not cost > 0:
        raise FoundryError(
            f"costs of {'/'.join(key)}: {cost} found; give a cost above 0 for every scored module"
        )
    return torch.where(score >= 0, score / cost, score * cost)


def _best(scores: Float[Tensor, " units"], count: int) -> Bool[Tensor, " units"]:
    kept = torch.zeros(len(scores), dtype=torch.bool)
    kept[torch.sort(scores, descending=True, stable=True).indices[:count]] = True
    return kept
