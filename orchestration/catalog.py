"""All asset groups in one place: their settings, what they read from outside, and what they would be made from now."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dagster as dg

from assets.captions import definitions as captions
from assets.corpus import definitions as corpus
from assets.corpus.definitions import landed_inputs
from assets.encodings import definitions as encodings
from assets.entities import definitions as entities
from assets.evaluation import definitions as evaluation
from assets.graph.definitions import settings, with_defaults
from assets.graph.interfaces import Surroundings
from assets.graph.steps import STEPS, provenance_of
from assets.graph.versions import Provenance
from assets.models import definitions as models
from assets.models.parents import named_versions
from assets.reports import definitions as reports
from assets.scaling import definitions as scaling
from orchestration.profile import Profile
from training.errors import FoundryError

GROUPS = {
    "corpus": corpus,
    "captions": captions,
    "entities": entities,
    "encodings": encodings,
    "models": models,
    "scaling": scaling,
    "evaluation": evaluation,
    "reports": reports,
}


def config_class(profile: Profile, name: str) -> type[dg.Config]:
    """The class of an asset's run config."""
    group = GROUPS[STEPS[name].group]
    classes: Mapping[str, type[dg.Config]] = (
        models.configs_of(profile.recipes.kinds) if group is models else group.CONFIGS
    )
    return classes[name]


def default_config(profile: Profile, name: str) -> dg.Config:
    """The run config under which ``name`` runs when the Launchpad changes nothing."""
    base = config_class(profile, name)
    return with_defaults(base, profile.assets.get(name, {}))()


def check_profile_defaults(profile: Profile) -> None:
    """Raise FoundryError when the profile sets a field that an asset does not have, or to an impossible value."""
    for name, values in profile.assets.items():
        if name not in STEPS:
            raise FoundryError(
                f"profiles/{profile.name}/profile.yaml: assets has '{name}', but the assets are: {', '.join(STEPS)}."
            )
        base = config_class(profile, name)
        for field, value in values.items():
            if field not in base.model_fields:
                raise FoundryError(
                    f"profiles/{profile.name}/profile.yaml: assets.{name} has the unknown field '{field}'. "
                    f"It has: {', '.join(base.model_fields)}."
                )
            try:
                base(**{field: value})
            except ValueError as error:
                reason = (
                    str(error).splitlines()[2].strip() if len(str(error).splitlines()) > 2 else str(error)
                )
                raise FoundryError(
                    f"profiles/{profile.name}/profile.yaml: assets.{name}.{field} is {value!r}: {reason}"
                ) from error


def partition_keys(profile: Profile, name: str) -> list[str | None]:
    """Every partition that an asset has in this profile; ``[None]`` for an unpartitioned one."""
    by = STEPS[name].partitioned_by
    if by is None:
        return [None]
    keys = {"groups": profile.group_keys, "grid": profile.grid_keys}
    return list(keys[by] if by in keys else profile.of(by))


def expected_provenance(
    profile: Profile, surroundings: Surroundings, name: str, partition: str | None
) -> Provenance:
    """What a run would be made from right now. Raises FoundryError when an input is missing."""
    step, group = STEPS[name], GROUPS[STEPS[name].group]
    config = default_config(profile, name)
    recorded: Mapping[str, Any] = settings(config)
    if name == "landed_images" and partition is not None:
        outside = landed_inputs(surroundings.landing, partition, surroundings.store.takedowns())
    else:
        outside = group.other_inputs(name, config, surroundings)
    named: list[tuple[str, str]] = []
    if group in (models, scaling):
        recorded = group.resolved_config(name, partition, config, surroundings.models)
    if group is models and partition is not None:
        named = named_versions(surroundings.models.recipes, name, partition)
    return provenance_of(surroundings.store, step, partition, recorded, outside, named)
