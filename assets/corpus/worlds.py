"""Worlds of any kind: which one a file describes, and its scenes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from assets.corpus import composing
from assets.corpus.flawed_scenes import build_flawed_scenes as build_flawed_compositions
from assets.corpus.scene import Scene
from assets.corpus.signs import SignWorld, build_signs
from assets.corpus.world import World, load_world, read_world_file
from assets.graph.schemas import SPLITS
from training.errors import FoundryError
from training.recipes.validation import validate

AnyWorld = World | SignWorld


def load_any_world(path: Path) -> AnyWorld:
    """Read a ``world.yaml``: of signs where it says ``kind: signs``, else of composed scenes.

    Raises FoundryError that names the file, the field and the remedy.
    """
    content = read_world_file(path)
    if content.get("kind") == "signs":
        return validate(SignWorld, content, str(path))
    return load_world(path)


def build_scenes(world: AnyWorld, split: str, count: int, seed: int) -> Iterator[Scene]:
    """The first ``count`` scenes of a split. Scene ``i`` is the same whatever the count.

    Raises FoundryError for an unknown split, a negative count or seed, or a word that does not fit.
    """
    if isinstance(world, World):
        return composing.build_scenes(world, split, count, seed)
    if split not in SPLITS:
        raise FoundryError(f"split is {split!r}; allowed are {', '.join(SPLITS)}.")
    if count < 0 or seed < 0:
        raise FoundryError(f"count is {count} and seed is {seed}; both must be 0 or more.")
    return build_signs(world, split, count, seed)


def build_flawed_scenes(world: AnyWorld, count: int, seed: int) -> Iterator[Scene]:
    """Training scenes that curation drops. Raises FoundryError for signs, of which there are none."""
    if isinstance(world, World):
        return build_flawed_compositions(world, count, seed)
    if count:
        raise FoundryError(f"flawed is {count}, but a world of signs has no flawed scenes; set it to 0")
    return iter(())
