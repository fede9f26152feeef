"""Sentences from what was perceived: names, colours, places, relations, background and words read.

A template captioner: it says what was measured and nothing else. What it composes is a pure function of the regions,
the number of captions and the seed.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from evaluation.perception.embedded.wording import (
    background_phrase,
    counted,
    joined,
    noun_phrase,
    relation,
    says_color,
    size_words,
    with_article,
)
from evaluation.perception.embedded.wording import (
    place_words as place_words,
)
from training.errors import FoundryError

CAPTIONER_VERSION = 2  # raise when captions change
CAPTIONER_NAME = "template captioner over perceived regions"
MAX_TOKENS = 30  # what a text encoder of 32 tokens keeps beside its first and last
_MIN_TEXT_SCORE = 0.5
_SURE_SHAPES = frozenset(("round", "tall", "wide"))
_SURE_TEXTURES = frozenset(("smooth", "striped"))
CountTokens = Callable[[str], int]


@dataclass(frozen=True)
class Caption:
    """A caption with the captioner's confidence in [0, 1] and the name of the template it came from."""

    text: str
    score: float
    template: str


@dataclass(frozen=True)
class _Entity:
    """One named or unnamed object.

    ``noun`` is its name and ``phrase`` that with its colour, both without article; ``detailed`` says colours, shape
    and texture as well; ``probability`` is None for an object without a name, of which nothing is claimed that was
    not measured.
    """

    noun: str
    phrase: str
    detailed: str
    box_xyxy_norm: tuple[float, ...]
    probability: float | None

    @property
    def center_xy(self) -> tuple[float, float]:
        x1, y1, x2, y2 = self.box_xyxy_norm
        return (x1 + x2) / 2, (y1 + y2) / 2


@dataclass(frozen=True)
class _Scene:
    """What there is to tell of one image, objects in the order they are told."""

    entities: tuple[_Entity, ...]
    background: str
    word: str
    word_score: float


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
        noun = str(region["names"][0]) if region["names"] else "object"
        probability = float(region["name_scores"][0]) if region["names"] else None
        box = tuple(float(value) for value in region["box_xyxy_norm"])
        entities.append(_Entity(noun, noun_phrase(region), _detailed(region, noun), box, probability))
    return entities


def _detailed(region: Mapping[str, Any], noun: str) -> str:
    """Shape, texture, both colours and name, such as "round smooth red and white drum"."""
    words = [word for word in (region["shape"],) if word in _SURE_SHAPES]
    words += [word for word in (region["texture"],) if word in _SURE_TEXTURES]
    if not says_color(noun):
        second = region["second_color"]
        words.append(f"{region['color']} and {second}" if second else str(region["color"]))
    return " ".join([*words, noun])


def _finish(parts: Sequence[str], word: str) -> str:
    text = " ".join(part for part in parts if part)
    return f"{text} with the word {word}" if word else text


# Every template gives versions of itself from the densest to the tersest; the first that fits is taken.


def _full(scene: _Scene) -> list[str]:
    """Objects in relation to one another, background and words."""
    entities = scene.entities
    if len(entities) == 1:
        what = [f"{with_article(entities[0].phrase)} {place_words(entities[0].box_xyxy_norm)}"]
    else:
        first, second, *rest = entities
        pair = f"{_with_relation(first, second)} {with_article(second.phrase)}"
        chain = "".join(
            f", {with_article(entity.phrase)} {relation(entity.center_xy, before.center_xy)} the {before.noun}"
            for before, entity in pairwise([second, *rest])
        )
        others = f" with {joined([with_article(entity.phrase) for entity in rest])}" if rest else ""
        what = [pair + chain, pair + others, counted([entity.phrase for entity in entities])]
    return [_finish([text, scene.background], scene.word) for text in what]


def _with_relation(entity: _Entity, other: _Entity) -> str:
    return f"{with_article(entity.phrase)} {relation(entity.center_xy, other.center_xy)}"


def _list(scene: _Scene) -> list[str]:
    """Objects with their places and, for one alone, its size; background and words as far as they fit."""
    boxes = [entity.box_xyxy_norm for entity in scene.entities]
    phrases = [entity.phrase for entity in scene.entities]
    if len(boxes) == 1 and size_words(boxes[0]) != "of middle size":
        phrases = [f"{size_words(boxes[0])} {phrases[0]}"]
    placed, bare = (
        joined([f"{with_article(name)} {place_words(box)}" for name, box in zip(names, boxes, strict=True)])
        for names in (phrases, [entity.noun for entity in scene.entities])
    )
    return [_finish([placed, scene.background], scene.word), _finish([placed], scene.word), bare]


def _attributes(scene: _Scene) -> list[str]:
    """Objects with shape, surface and both colours where they are sure, background and words."""
    detailed = counted([entity.detailed for entity in scene.entities])
    return [_finish([detailed, scene.background], scene.word), _finish([detailed], scene.word), detailed]


def _short(scene: _Scene) -> list[str]:
    """Objects counted, background and words."""
    counts = counted([entity.phrase for entity in scene.entities])
    return [_finish([counts, scene.background], scene.word), _finish([counts], scene.word)]


def _plain(scene: _Scene) -> list[str]:
    """Names alone, of what has one."""
    named = [entity.noun for entity in scene.entities if entity.probability is not None]
    return [counted(named or [entity.noun for entity in scene.entities])]


_WRITERS: Mapping[str, Callable[[_Scene], list[str]]] = {
    "full": _full,
    "short": _short,
    "attributes": _attributes,
    "list": _list,
    "plain": _plain,
}
TEMPLATES = tuple(_WRITERS)


def count_words(text: str) -> int:
    """Words and punctuation marks: the least number of tokens that a text can have."""
    return len(re.findall(r"\w+|[^\w\s]", text))


def compose_captions(
    sample_id: str,
    regions: Sequence[Mapping[str, Any]],
    k: int = 2,
    seed: int = 0,
    count_tokens: CountTokens = count_words,
) -> list[Caption]:
    """Up to ``k`` captions of one image in the order of :data:`TEMPLATES`, some of which may come out equal.

    Args:
        sample_id: with the seed it draws the order in which objects are told; equal input gives equal captions.
        regions: rows of the regions table of the image.
        k: captions wanted, 1 to 5: a sentence with relations, a shorter one, one with shapes and surfaces, a list
            with places, names alone.
        count_tokens: tokens of a text without special ones; every template takes its densest version that stays
            within :data:`MAX_TOKENS`, its tersest where none does.

    The score is the mean probability of the names and words said (objects without a name are told by their colour and
    do not count; 0 where nothing has a name). An image of which nothing can be said gives an empty list.

    Raises:
        FoundryError: ``k`` outside 1 .. 5, or no region.
    """
    if not 1 <= k <= len(TEMPLATES):
        raise FoundryError(f"captions per image: k is {k}, allowed are 1 to {len(TEMPLATES)}")
    if not regions:
        raise FoundryError(f"sample {sample_id}: no region; perception gives every image at least one")
    word, word_score = read_words(regions)
    background = background_phrase(regions[0]["background_kind"], regions[0]["background_color"])
    entities = _entities(regions)
    if not entities:
        return [Caption(_finish(["a sign", background], word), word_score, "word")] if word else []
    order = np.random.default_rng([seed, zlib.crc32(sample_id.encode())]).permutation(len(entities))
    scene = _Scene(tuple(entities[index] for index in order), background, word, word_score)
    captions = []
    for template in TEMPLATES[:k]:
        versions = _WRITERS[template](scene)
        text = next((text for text in versions if count_tokens(text) <= MAX_TOKENS), versions[-1])
        captions.append(Caption(text, _score(scene, text), template))
    return captions


def _score(scene: _Scene, text: str) -> float:
    """Mean probability of what is claimed."""
    claims = [entity.probability for entity in scene.entities if entity.probability is not None]
    if not claims:
        return 0.0
    says_word = bool(scene.word) and text.endswith(scene.word)
    return min(1.0, float(np.mean(claims + [scene.word_score] * says_word)))
