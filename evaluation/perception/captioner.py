"""Sentences from what was perceived: names, colours, places, relations, background and words read.

A template captioner: it says what was measured and nothing else. What it composes is a pure function of the regions,
the number of captions and the seed.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from training.errors import FoundryError

CAPTIONER_VERSION = 1  # raise when captions change
CAPTIONER_NAME = "template captioner over perceived regions"
TEMPLATES = ("full", "short", "list", "plain")
_MIN_TEXT_SCORE = 0.5
NUMBERS = {2: "two", 3: "three", 4: "four", 5: "five", 6: "six"}
_NEAR = 0.12  # centres closer than this share of the image are neither left of nor above one another


@dataclass(frozen=True)
class Caption:
    """A caption with the captioner's confidence in [0, 1] and the name of the template it came from."""

    text: str
    score: float
    template: str


@dataclass(frozen=True)
class _Entity:
    """One named or unnamed object: its noun phrase without article, centre (x, y in [0, 1]) and probability."""

    noun: str
    phrase: str
    center_xy: tuple[float, float]
    probability: float


def with_article(phrase: str) -> str:
    """The phrase after "a" or "an", by its first letter."""
    return f"{'an' if phrase[:1].lower() in 'aeiou' else 'a'} {phrase}"


def noun_phrase(region: Mapping[str, Any]) -> str:
    """Colour and name of a region, such as "red apple"; "red object" where nothing named it.

    The colour is left out where the name says one already.
    """
    names = region["names"]
    if not names:
        return f"{region['color']} object"
    name = str(names[0])
    return name if _says_color(name) else f"{region['color']} {name}"


def _says_color(name: str) -> bool:
    from evaluation.perception.colors import COLOR_WORDS

    return bool(set(name.split()) & {*COLOR_WORDS, "grey"})


def place_words(box_xyxy_norm: Sequence[float]) -> str:
    """Where a box lies, in a grid of three by three: "at the top left", "in the middle" ..."""
    x, y = (box_xyxy_norm[0] + box_xyxy_norm[2]) / 2, (box_xyxy_norm[1] + box_xyxy_norm[3]) / 2
    row = "top" if y < 1 / 3 else "bottom" if y > 2 / 3 else ""
    column = "left" if x < 1 / 3 else "right" if x > 2 / 3 else ""
    if not row and not column:
        return "in the middle"
    if row:
        return f"at the {row} {column}".rstrip()
    return f"on the {column}"


def relation(first_xy: tuple[float, float], second_xy: tuple[float, float]) -> str:
    """How the first centre lies to the second: "left of", "above" ..., "next to" where they nearly coincide."""
    dx, dy = second_xy[0] - first_xy[0], second_xy[1] - first_xy[1]
    if max(abs(dx), abs(dy)) < _NEAR:
        return "next to"
    if abs(dx) >= abs(dy):
        return "left of" if dx > 0 else "right of"
    return "above" if dy > 0 else "below"


def background_phrase(kind: str, color: str) -> str:
    """Such as "on a blue background" or "on a checkered red and white background"; empty where it is not known."""
    if kind == "unknown" or not color:
        return ""
    described = {"plain": color, "gradient": f"{color} gradient"}.get(kind, f"{kind} {color}")
    return f"on {with_article(described)} background"


def read_words(regions: Sequence[Mapping[str, Any]]) -> tuple[str, float]:
    """All words read in an image and the least confidence among them; ("", 1.0) for none."""
    found = [region for region in regions if region["text"] and region["text_score"] >= _MIN_TEXT_SCORE]
    if not found:
        return "", 1.0
    return " ".join(str(region["text"]) for region in found), min(
        float(region["text_score"]) for region in found
    )


def _entities(regions: Sequence[Mapping[str, Any]]) -> list[_Entity]:
    entities = []
    for region in regions:
        if region["text"] or (not region["names"] and region["area_fraction"] >= 0.95):
            continue  # words are told apart, and "an object" that fills the image says nothing
        box = region["box_xyxy_norm"]
        noun = str(region["names"][0]) if region["names"] else "object"
        probability = float(region["name_scores"][0]) if region["names"] else 0.0
        center = ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
        entities.append(_Entity(noun, noun_phrase(region), center, probability))
    return entities


def _joined(phrases: Sequence[str]) -> str:
    return phrases[0] if len(phrases) == 1 else ", ".join(phrases[:-1]) + " and " + phrases[-1]


def _counted(nouns: Sequence[str]) -> str:
    """ "two red balls and a dog": equal nouns are counted."""
    counts = {noun: list(nouns).count(noun) for noun in nouns}
    return _joined(
        [
            with_article(noun) if count == 1 else f"{NUMBERS.get(count, str(count))} {noun}s"
            for noun, count in counts.items()
        ]
    )


def _related(entities: Sequence[_Entity]) -> str:
    """Each object to the one before it: "a dog to the left of a tree..."."""
    text = with_article(entities[0].phrase)
    for before, entity in pairwise(entities):
        how = relation(entity.center_xy, before.center_xy)
        text += f", {with_article(entity.phrase)} {how} the {before.noun}"
    return text


def _full(entities: Sequence[_Entity], places: Sequence[str], background: str, word: str) -> str:
    alone = len(entities) == 1
    what = f"{with_article(entities[0].phrase)} {places[0]}" if alone else _related(entities)
    return _finish([what, background], word)


def _finish(parts: Sequence[str], word: str) -> str:
    text = " ".join(part for part in parts if part)
    return f"{text} with the word {word}" if word else text


def _write(
    template: str, entities: Sequence[_Entity], places: Sequence[str], background: str, word: str
) -> str:
    """One caption by its template; ``entities`` is not empty."""
    if template == "full":
        return _full(entities, places, background, word)
    if template == "short":
        return _finish([_counted([entity.phrase for entity in entities]), background], word)
    if template == "list":
        placed = [f"{with_article(e.phrase)} {place}" for e, place in zip(entities, places, strict=True)]
        return _finish([_joined(placed), background], word)
    return _finish([_counted([entity.noun for entity in entities])], "")


def compose_captions(
    sample_id: str, regions: Sequence[Mapping[str, Any]], k: int = 2, seed: int = 0
) -> list[Caption]:
    """Up to four different captions of one image, the densest first.

    Args:
        regions: rows of the regions table of one image.
        k: captions wanted, 1 to 4: a full sentence with relations, a shorter one, a list with places, names alone.
        seed: with the sample's id it draws the order in which objects are told; equal input gives equal captions.

    The score is the mean probability of what is said of objects (0 for one without a name, however well its colour
    was measured) and of words read. An image of which nothing can be said gives an empty list. Captions are kept
    short enough for 32 tokens of text encoder in nearly all cases.

    Raises:
        FoundryError: ``k`` outside 1 .. 4, no region, or regions of several samples.
    """
    if not 1 <= k <= len(TEMPLATES):
        raise FoundryError(f"captions per image: k is {k}, allowed are 1 to {len(TEMPLATES)}")
    samples = {region["sample_id"] for region in regions}
    if len(samples) != 1:
        raise FoundryError(f"captions are composed for one sample at a time, given regions of {len(samples)}")
    entities = _entities(regions)
    word, word_score = read_words(regions)
    background = background_phrase(regions[0]["background_kind"], regions[0]["background_color"])
    if not entities:
        return [Caption(_finish(["a sign", background], word), word_score, "word")] if word else []
    random = np.random.default_rng([seed, zlib.crc32(samples.pop().encode())])
    order = random.permutation(len(entities)) if len(entities) > 1 else np.array([0])
    told = [entities[index] for index in order]
    places = [place_words((*entity.center_xy, *entity.center_xy)) for entity in told]
    claims = [entity.probability for entity in told] + ([word_score] if word else [])
    score = min(1.0, float(np.mean(claims)))
    return [Caption(_write(name, told, places, background, word), score, name) for name in TEMPLATES[:k]]
