"""Which drawings a scene shows: distinct concepts, now and then one silhouette in two colours."""

from __future__ import annotations

import numpy as np

from assets.corpus.world import Concept, Look, World


def concepts_of_split(world: World, split: str) -> tuple[Concept, ...]:
    """Concepts that scenes of a split may show; those of ``held_out_concepts`` show at least one held-out one."""
    return world.all_concepts if _shows_held_out(world, split) else world.training_concepts


def looks_of_split(world: World, concept: Concept, split: str) -> tuple[Look, ...]:
    """Drawings of a concept that scenes of a split may show."""
    return concept.looks if _shows_held_out(world, split) else concept.training_looks


def choose_looks(world: World, split: str, random: np.random.Generator) -> tuple[list[Look], list[int]]:
    """Distinct drawings in order of depth, back first, and the side of each in pixels.

    What a world does not use draws no random number, so that world files from before there were variants give the
    scenes that they gave.
    """
    weights = np.array([layout.weight for layout in world.layouts])
    layout = world.layouts[int(random.choice(len(weights), p=weights / weights.sum()))]
    concepts = _choose_concepts(world, split, layout.objects, random)
    probability = world.same_silhouette_probability
    if layout.objects > 1 and probability > 0 and random.random() < probability:
        concepts = _with_one_twice(world, split, concepts, random)
    looks: list[Look] = []
    for concept in concepts:
        left = [look for look in looks_of_split(world, concept, split) if look not in looks]
        looks.append(left[0] if len(left) == 1 else left[int(random.integers(len(left)))])
    smallest, largest = layout.size_px
    return looks, [int(size) for size in random.integers(smallest, largest + 1, layout.objects)]


def _shows_held_out(world: World, split: str) -> bool:
    return split == "held_out_concepts" or (split == "judge" and world.judge_sees_held_out_concepts)


def _choose_concepts(world: World, split: str, count: int, random: np.random.Generator) -> list[Concept]:
    pool = concepts_of_split(world, split)
    chosen = [pool[index] for index in random.choice(len(pool), count, replace=False)]
    if split == "held_out_concepts" and not any(_is_held_out(world, concept) for concept in chosen):
        chosen[0] = world.held_out_concepts[int(random.integers(len(world.held_out_concepts)))]
        chosen = [chosen[index] for index in random.permutation(len(chosen))]
    return chosen


def _is_held_out(world: World, concept: Concept) -> bool:
    return any(concept is other for other in world.held_out_concepts)


def _with_one_twice(
    world: World, split: str, concepts: list[Concept], random: np.random.Generator
) -> list[Concept]:
    """As many concepts, one of them twice; unchanged where no room would be left for a held-out concept."""
    several = [
        concept
        for concept in concepts_of_split(world, split)
        if len(looks_of_split(world, concept, split)) > 1
        and (split != "held_out_concepts" or len(concepts) > 2 or _is_held_out(world, concept))
    ]
    if not several:
        return concepts
    twice = several[int(random.integers(len(several)))]
    others = [concept for concept in concepts if concept is not twice]
    others.sort(key=lambda concept: not _is_held_out(world, concept))  # held-out ones stay
    chosen = [twice, twice, *others[: len(concepts) - 2]]
    return [chosen[index] for index in random.permutation(len(chosen))]
