"""What is fresh, stale or missing, from our own keys: Dagster never calls a partition stale after a code change."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

from assets.graph.interfaces import Surroundings
from assets.graph.steps import STEPS
from assets.graph.versions import Manifest, Provenance
from orchestration.catalog import expected_provenance, partition_keys
from orchestration.profile import Profile
from training.errors import FoundryError

State = Literal["fresh", "stale", "missing"]


@dataclass(frozen=True)
class Freshness:
    """State of one version, and why it is not fresh (empty when it is)."""

    name: str
    partition: str | None
    state: State
    because: str = ""


def freshness_of(profile: Profile, surroundings: Surroundings, name: str, partition: str | None) -> Freshness:
    """Compare what a version was made from with what it would be made from now."""
    manifest = surroundings.store.current(name, partition)
    if manifest is None:
        return Freshness(name, partition, "missing", "never materialized")
    try:
        expected = expected_provenance(profile, surroundings, name, partition)
    except FoundryError as error:
        return Freshness(name, partition, "stale", str(error))
    accepted = surroundings.store.accepted_versions(name)
    because = difference(manifest.provenance, expected, accepted)
    return Freshness(name, partition, "stale" if because else "fresh", because)


def asset_freshness(profile: Profile, surroundings: Surroundings, name: str) -> list[Freshness]:
    """State of every partition of one asset."""
    return [freshness_of(profile, surroundings, name, key) for key in partition_keys(profile, name)]


def graph_freshness(profile: Profile, surroundings: Surroundings) -> dict[str, list[Freshness]]:
    """State of the whole graph, upstream first. Scenes are left out where the data are a user's own."""
    names = [name for name in STEPS if surroundings.landing.is_composed or name != "demo_scenes"]
    return {name: asset_freshness(profile, surroundings, name) for name in names}


def difference(made: Provenance, expected: Provenance, accepted: Collection[int] = ()) -> str:
    """Why two provenances differ, in words; empty when they do not.

    ``accepted`` are function versions whose rows a person declared equivalent to today's.
    """
    reasons = []
    if made.function_version not in {expected.function_version, *accepted}:
        reasons.append(f"function version {made.function_version} is now {expected.function_version}")
    reasons += _changed("setting", made.config, expected.config)
    reasons += _changed("input", made.inputs, expected.inputs)
    return "; ".join(reasons[:4]) + (f"; and {len(reasons) - 4} more" if len(reasons) > 4 else "")


def _changed(kind: str, made: Mapping[str, object], expected: Mapping[str, object]) -> list[str]:
    added = [f"{kind} {name} is new" for name in expected if name not in made]
    removed = [f"{kind} {name} is gone" for name in made if name not in expected]
    changed = [f"{kind} {name} changed" for name in made if name in expected and made[name] != expected[name]]
    return changed + added + removed


def verified(surroundings: Surroundings, manifest: Manifest) -> str:
    """Empty when every byte of a version is as it was written, else the sentence that says what is wrong."""
    try:
        if manifest.kind == "folder":
            surroundings.store.local_folder(manifest.name, manifest.partition)
        else:
            surroundings.store.read_table(manifest.name, manifest.partition, columns=[])
    except FoundryError as error:
        return str(error)
    return ""


def needs_run(profile: Profile, surroundings: Surroundings, name: str, partition: str | None) -> bool:
    """Whether a version is missing, stale, or no longer the bytes that were written."""
    if freshness_of(profile, surroundings, name, partition).state != "fresh":
        return True
    manifest = surroundings.store.current(name, partition)
    return manifest is not None and bool(verified(surroundings, manifest))
