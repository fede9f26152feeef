"""Florence-2 as a detector: it answers in words and places, "a red apple<loc_52><loc_330><loc_400><loc_610>"."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from evaluation.perception.hub.box_conventions import from_places
from evaluation.perception.hub.captioning import Ask, batches, make_ask, prepare
from evaluation.perception.hub.detecting import HubDetector
from evaluation.perception.hub.found import Found, Query, join
from evaluation.perception.hub.generation import Answer, generate
from evaluation.perception.hub.loading import Loaded
from evaluation.perception.hub.rows import Maker
from evaluation.perception.hub.settings import HubModel

GROUNDING, OPEN_VOCABULARY = "<CAPTION_TO_PHRASE_GROUNDING>", "<OPEN_VOCABULARY_DETECTION>"
_PLACE = re.compile(r"<loc_(\d{1,3})>")


@dataclass(frozen=True)
class Grounded:
    """Words and the positions of their boxes' four places in the answer's tokens."""

    words: tuple[int, ...]
    places: tuple[tuple[int, int, int, int], ...]


def florence_detector(loaded: Loaded, settings: HubModel, maker: Maker) -> HubDetector:
    """Florence-2 in the role detector."""
    return HubDetector(loaded, settings, maker, detect)


def detect(loaded: Loaded, settings: HubModel, queries: Sequence[Query]) -> list[Found]:
    """Boxes for every query: all phrases in one text, or one by one with the open-vocabulary task.

    The model gives no scores: ``score`` is exp of the mean log-probability of a box's places, ``name_score`` that of
    its words (1 where the phrase was asked alone).
    """
    task = settings.prompts_for("detector")[0]
    asks, asked = [], {}
    for index, query in enumerate(queries):
        for numbers in _together(query, task):
            text = task + ". ".join(query.phrases[number].strip() for number in numbers)
            ask = make_ask(loaded, settings.family, f"{index}/{numbers[0]}", text, query.image, 1)
            asks.append(ask)
            asked[ask.unit] = (index, numbers)
    parts: list[list[Found]] = [[] for _ in queries]
    for ask, answer in _answers(loaded, settings, asks):
        index, numbers = asked[ask.unit]
        parts[index].append(read_answer(loaded.tokenizer, answer, queries[index].phrases, numbers))
    return [join(found).take(np.flatnonzero(join(found).score > settings.box_threshold)) for found in parts]


def _together(query: Query, task: str) -> list[list[int]]:
    numbers = [number for number, phrase in enumerate(query.phrases) if phrase.strip()]
    return [[number] for number in numbers] if task == OPEN_VOCABULARY else [numbers]


def _answers(loaded: Loaded, settings: HubModel, asks: Sequence[Ask]) -> list[tuple[Ask, Answer]]:
    answered = []
    for batch in batches(asks, settings.batch_size):
        inputs = prepare(loaded, [ask.text for ask in batch], [ask.image for ask in batch])
        answers = generate(loaded, inputs, settings.decoding, 1, [0] * len(batch))
        answered += [(ask, answer[0]) for ask, answer in zip(batch, answers, strict=True)]
    return answered


def read_answer(tokenizer: Any, answer: Answer, phrases: Sequence[str], numbers: Sequence[int]) -> Found:
    """The boxes of an answer, each with the asked phrase that its words are, or -1."""
    special = set(tokenizer.all_special_ids)
    tokens = tokenizer.convert_ids_to_tokens(list(answer.token_ids))
    places = [place_of(token) for token in tokens]
    parts = []
    for grounded in group_places(
        [
            place if place is not None else (None if token_id in special else -1)
            for place, token_id in zip(places, answer.token_ids, strict=True)
        ]
    ):
        words = tokenizer.decode([answer.token_ids[at] for at in grounded.words]).strip()
        alone = len(numbers) == 1
        number = numbers[0] if alone else match_phrase(words, phrases)
        parts.append(
            _found(answer, grounded, number, phrases[number] if number >= 0 else words, places, alone)
        )
    return join(parts)


def _found(
    answer: Answer, grounded: Grounded, number: int, label: str, places: Sequence[int | None], alone: bool
) -> Found:
    count = len(grounded.places)
    corners = np.array([[places[at] for at in four] for four in grounded.places], dtype=np.int64)
    score = [_confidence([answer.logprobs[at] for at in four]) for four in grounded.places]
    name_score = 1.0 if alone else _confidence([answer.logprobs[at] for at in grounded.words])
    return Found(
        from_places(corners.reshape(-1, 4)),
        np.full(count, number, dtype=np.int64),
        [label] * count,
        np.array(score),
        np.full(count, name_score),
    )


def place_of(token: str) -> int | None:
    """The number in "<loc_52>", None for any other token."""
    match = _PLACE.fullmatch(token)
    return int(match.group(1)) if match else None


def group_places(pieces: Sequence[int | None]) -> list[Grounded]:
    """Words with the boxes that follow them. A piece is a place (0 to 999), -1 for a word and None for neither.

    Places that do not make up four are left out; so are words without a box.
    """
    groups: list[Grounded] = []
    words: list[int] = []
    run: list[int] = []
    for at, piece in enumerate([*pieces, -1]):
        if piece is None:
            continue
        if piece >= 0:
            run.append(at)
            continue
        if run:
            fours = tuple((run[i], run[i + 1], run[i + 2], run[i + 3]) for i in range(0, len(run) - 3, 4))
            if fours:
                groups.append(Grounded(tuple(words), fours))
            words, run = [], []
        words.append(at)
    return groups


def match_phrase(words: str, phrases: Sequence[str]) -> int:
    """Index of the phrase that the model's words mean: the same, one within the other, or -1.

    Of several phrases that hold or are held by the words, the one closest in length.
    """
    said = " ".join(words.lower().split())
    asked = [" ".join(phrase.lower().split()) for phrase in phrases]
    if said and said in asked:
        return asked.index(said)
    near = [
        index
        for index, phrase in enumerate(asked)
        if phrase and said and (f" {said} " in f" {phrase} " or f" {phrase} " in f" {said} ")
    ]
    return min(near, key=lambda index: abs(len(asked[index]) - len(said)), default=-1)


def _confidence(logprobs: Sequence[float]) -> float:
    return math.exp(sum(logprobs) / len(logprobs)) if logprobs else 0.0
