"""What a source says of its own concepts: which training never shows. Only the composed scenes know any."""

from __future__ import annotations

from typing import TYPE_CHECKING

from assets.graph.interfaces import Landing

if TYPE_CHECKING:
    from assets.corpus.worlds import AnyWorld


def concept_inputs(landing: Landing) -> dict[str, str]:
    """Digest of the file that names the concepts, for a provenance; empty for a user's own pictures."""
    from training.digests import sha256_file

    return {"world": sha256_file(landing.world_path)} if landing.is_composed else {}


def held_out_names(landing: Landing) -> tuple[str, ...]:
    """Names of concepts that no model of ours trains on; empty where the source declares none."""
    return tuple(concept.name for concept in _world(landing).held_out_concepts) if landing.is_composed else ()


def concept_names(landing: Landing) -> tuple[str, ...]:
    """Names of all concepts that the source declares, some of several words; may be empty."""
    return tuple(concept.name for concept in _world(landing).all_concepts) if landing.is_composed else ()


def drawings_by_look(landing: Landing) -> dict[str, str]:
    """CLDR name of each drawing by the name of its look ("dog", "heart/red"); empty for a user's own pictures."""
    return _world(landing).drawings if landing.is_composed else {}


def _world(landing: Landing) -> AnyWorld:
    from assets.corpus.worlds import load_any_world

    return load_any_world(landing.world_path)
