"""Which region a phrase means: embedded open-vocabulary detection over class-agnostic regions.

The image-text score of a phrase and a region is the best, over the region's candidate names, of

    P(name) x similarity(phrase, name) x agreement of colours

where similarity is 1 if the phrase says the name, else the cosine of sentence vectors, counted as 0 below
``min_similarity``; colours agree (1) unless the phrase names colours of which the region has none (
:data:`WRONG_COLOR`). Written words ground a phrase that quotes them, with the reader's confidence.

Phrases and regions are paired one to one for the largest sum of scores; "two dogs" may take two regions. A region
that no phrase means keeps a phrase of its own, so that nothing found is lost; without a name that is "a red object",
which counts :data:`NAMELESS_SCORE`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from evaluation.perception.embedded.colors import COLOR_WORDS
from evaluation.perception.embedded.wording import NUMBERS, noun_phrase, plural, with_article

WRONG_COLOR = 0.5
NAMELESS_SCORE = 0.35
"""Image-text score of "a red object" on a region without a name: true, as colours are measured, but saying little."""
_ARTICLES = frozenset(("a", "an", "the", "some", "this", "that", "these", "those", "its", "their"))
_COLORS = frozenset((*COLOR_WORDS, "grey"))
_COUNTS = {word: number for number, word in NUMBERS.items()}
_AFTER_HEAD = re.compile(
    r"\b(?:in|on|at|of|with|by|from|under|near|behind|beside|above|below|to|next|that|which)\b.*"
)
Similarity = Callable[[str, str], float]
"""Cosine of two short texts, in [-1, 1]."""


@dataclass(frozen=True)
class GroundedBox:
    """One box with what it is called. Fields as in :data:`evaluation.tables.perception.BOXES`."""

    phrase_index: int
    phrase: str
    box_xyxy_norm: tuple[float, ...]
    score: float
    name_score: float


@dataclass(frozen=True)
class _Asked:
    """A phrase, taken apart: words that may be a name, colours among them, how many things it speaks of."""

    index: int
    text: str
    words: tuple[str, ...]
    name: str
    colors: frozenset[str]
    count: int


def ground(
    phrases: Sequence[str],
    regions: Sequence[Mapping[str, Any]],
    similarity: Similarity,
    min_similarity: float,
    min_score: float,
) -> list[GroundedBox]:
    """Boxes of one image, best first.

    Args:
        phrases: what is asked for; phrases that mean no region give no box.
        regions: rows of the regions table of the image, without those that are no object.
        similarity: cosine of a phrase's name and a region's name; asked only where neither says the other.
        min_similarity: cosines below count as 0.
        min_score: image-text scores below ground nothing.
    """
    found = [region for region in regions if _is_object(region)]
    asked = [_take_apart(index, phrase) for index, phrase in enumerate(phrases)]
    slots = [phrase for phrase in asked for _ in range(phrase.count)]
    scores = np.array(
        [[match_score(phrase, region, similarity, min_similarity) for region in found] for phrase in slots],
        dtype=np.float64,
    ).reshape(len(slots), len(found))
    meant = _pair(np.where(scores >= min_score, scores, 0.0))
    boxes = [
        _grounded(region, slots[meant[column]], float(scores[meant[column], column]))
        if column in meant
        else _own(region)
        for column, region in enumerate(found)
    ]
    return sorted(boxes, key=lambda box: (-box.name_score, -box.score, box.box_xyxy_norm))


def likeness(phrase: str, name: str, similarity: Similarity) -> float:
    """How far a phrase speaks of a thing of that name, in [-1, 1]: 1 where it says the name, else the cosine.

    0 where both name colours and share none: "a red heart" is no "blue heart", however near the two words are.
    """
    asked = _take_apart(0, phrase)
    colors = _COLORS & set(name.lower().split())
    return (
        0.0 if colors and asked.colors and not colors & asked.colors else _likeness(asked, name, similarity)
    )


def _is_object(region: Mapping[str, Any]) -> bool:
    """Words and named regions are; an unnamed region that is the whole image says that nothing was found."""
    return bool(region["text"] or region["names"]) or list(region["box_xyxy_norm"]) != [0.0, 0.0, 1.0, 1.0]


def _take_apart(index: int, phrase: str) -> _Asked:
    words = tuple(re.findall(r"[^\W_]+", _AFTER_HEAD.sub("", phrase.lower())))
    counts = [_COUNTS[word] for word in words if word in _COUNTS]
    rest = [word for word in words if word not in _ARTICLES and word not in _COUNTS]
    name = " ".join(word for word in rest if word not in _COLORS) or " ".join(rest)
    colors = frozenset(word.replace("grey", "gray") for word in rest if word in _COLORS)
    return _Asked(index, phrase, tuple(rest), name, colors, counts[0] if counts else 1)


def match_score(
    phrase: _Asked, region: Mapping[str, Any], similarity: Similarity, min_similarity: float
) -> float:
    """Image-text score of a phrase and a region, in [0, 1]."""
    if region["text"]:
        written = str(region["text"]).lower()
        return float(region["text_score"]) if written in phrase.text.lower() else 0.0
    best = 0.0
    for name, probability in zip(region["names"], region["name_scores"], strict=True):
        likeness = _likeness(phrase, name, similarity)
        if likeness >= min_similarity:
            colors = phrase.colors - set(name.split())
            best = max(best, float(probability) * min(likeness, 1.0) * _color_factor(colors, region))
    return min(best, 1.0)


def _likeness(phrase: _Asked, name: str, similarity: Similarity) -> float:
    if says(phrase.words, name):
        return 1.0
    return similarity(phrase.name, name) if phrase.name else 0.0


def says(words: Sequence[str], name: str) -> bool:
    """Whether words end with a name, in singular or plural ("two red apples" says "apple")."""
    wanted = name.lower().split()
    own = list(words[-len(wanted) :])
    return bool(wanted) and own in (wanted, plural(name.lower()).split())


def _color_factor(colors: frozenset[str], region: Mapping[str, Any]) -> float:
    return WRONG_COLOR if colors and not colors & {region["color"], region["second_color"]} else 1.0


def _pair(scores: Float[np.ndarray, "slots regions"]) -> dict[int, int]:
    """Slot by region, one to one, for the largest sum; pairs without a score are no pairs."""
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(-scores)
    return {
        int(column): int(row) for row, column in zip(rows, columns, strict=True) if scores[row, column] > 0
    }


def _grounded(region: Mapping[str, Any], phrase: _Asked, name_score: float) -> GroundedBox:
    if region["text"] or phrase.count > 1:  # words are quoted, and "two dogs" is not what one of them is
        return _named(region, phrase.index, own_phrase(region), name_score)
    return _named(region, phrase.index, phrase.text, name_score)


def _own(region: Mapping[str, Any]) -> GroundedBox:
    if region["text"]:
        score = float(region["text_score"])
    elif region["names"]:
        score = float(region["name_scores"][0])
    else:
        score = NAMELESS_SCORE * objectness(region)
    return _named(region, -1, own_phrase(region), score)


def own_phrase(region: Mapping[str, Any]) -> str:
    """What perception calls a region: 'a red apple', 'a red object' where it has no name, 'the word "STOP"'."""
    return f'the word "{region["text"]}"' if region["text"] else with_article(noun_phrase(region))


def _named(region: Mapping[str, Any], index: int, phrase: str, name_score: float) -> GroundedBox:
    box = tuple(float(value) for value in region["box_xyxy_norm"])
    return GroundedBox(index, phrase, box, objectness(region), name_score)


def objectness(region: Mapping[str, Any]) -> float:
    """How sure it is that an object is there, in [0, 1].

    What differs from a fitted background is an object: 1. Where no background was fitted, as in photographs, the
    region is the whole image, and it is an object as far as its name is sure.
    """
    if region["background_kind"] != "unknown":
        return 1.0
    return float(region["name_scores"][0]) if region["names"] else 0.0
