"""Which models a demo makes: all that start from nothing, and of those made from others what the profile names, or all."""

from __future__ import annotations

from collections.abc import Mapping

from assets.graph.model_kinds import Version
from assets.graph.steps import STEPS
from assets.models.parents import named_versions
from orchestration.profile import Profile


def wanted_models(profile: Profile, *, everything: bool) -> Mapping[str, list[str]]:
    """Partitions to make of each kind of model, in the order of the profile's files.

    What is no model, such as scores of units, is made for the models that are asked for too. ``everything`` adds what a demo
    has no time for, the studies among it.
    """
    recipes, needed = profile.recipes, set[Version]()
    wanted: dict[str, list[str]] = {}
    for kind in reversed(recipes.kinds):
        names = list(recipes.of(kind.asset))
        if STEPS[kind.asset].parents and not everything:
            asked = [
                name
                for name in names
                if name in profile.demo_models or (not kind.holds_models and (kind.asset, name) in needed)
            ]
            names = asked
        wanted[kind.asset] = names
        needed.update(version for name in names for version in named_versions(recipes, kind.asset, name))
    return {kind.asset: wanted[kind.asset] for kind in recipes.kinds}
