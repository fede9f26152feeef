"""Grounding DINO: all phrases in one text, boxes scored token by token, mapped back to the phrases by their place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float

from evaluation.perception.hub.box_conventions import from_center_norm
from evaluation.perception.hub.detecting import HubDetector
from evaluation.perception.hub.found import Found, Query, alike, join
from evaluation.perception.hub.loading import Loaded
from evaluation.perception.hub.rows import Maker
from evaluation.perception.hub.settings import HubModel

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True)
class Grounding:
    """One text of phrases about one image. ``tokens`` are the tokens of each phrase, by its index in the query."""

    query: int
    image: Image.Image
    text: str
    tokens: dict[int, list[int]]
    num_tokens: int


def grounding_dino_detector(loaded: Loaded, settings: HubModel, maker: Maker) -> HubDetector:
    """Grounding DINO in the role detector."""
    return HubDetector(loaded, settings, maker, detect)


def detect(loaded: Loaded, settings: HubModel, queries: Sequence[Query]) -> list[Found]:
    """Boxes for every query.

    A box is kept when its best token passes ``box_threshold`` and the best token of its phrase ``text_threshold``.
    Images of equal size and texts of equal length share a batch: padding would change the boxes of the others.
    """
    limit = loaded.model.config.max_text_len
    template = settings.prompts_for("detector")[0]
    groundings = [
        grounding
        for index, query in enumerate(queries)
        for grounding in ground(loaded.tokenizer, index, query, template, limit)
    ]
    parts: list[list[Found]] = [[] for _ in queries]
    for batch in alike(groundings, lambda one: (one.image.size, one.num_tokens), settings.batch_size):
        for one, found in zip(batch, _answer(loaded, settings, queries, batch), strict=True):
            parts[one.query].append(found)
    return [join(found) for found in parts]


def ground(tokenizer: Any, index: int, query: Query, template: str, limit: int) -> list[Grounding]:
    """The query's phrases as texts "first phrase. second phrase." of at most ``limit`` tokens each."""
    texts: list[list[tuple[int, str]]] = []
    room = 0
    for number, phrase in enumerate(query.phrases):
        clean = clean_phrase(template.replace("{phrase}", phrase))
        if not clean:
            continue
        size = len(tokenizer(clean, add_special_tokens=False)["input_ids"]) + 1  # and its full stop
        if not texts or room + size > limit - 2:  # two more tokens begin and end a text
            texts.append([])
            room = 0
        texts[-1].append((number, clean))
        room += size
    return [_grounding(tokenizer, index, query.image, text) for text in texts]


def _grounding(tokenizer: Any, index: int, image: Image.Image, phrases: list[tuple[int, str]]) -> Grounding:
    text, spans = "", {}
    for number, phrase in phrases:
        start = len(text) + (1 if text else 0)
        text = f"{text} {phrase}." if text else f"{phrase}."
        spans[number] = (start, start + len(phrase))
    offsets = tokenizer(text, return_offsets_mapping=True)["offset_mapping"]
    tokens = {
        number: [place for place, (a, b) in enumerate(offsets) if start <= a < b <= end]
        for number, (start, end) in spans.items()
    }
    return Grounding(index, image, text, tokens, len(offsets))


def clean_phrase(phrase: str) -> str:
    """Lower case, and no full stops, which end a phrase in this model's texts."""
    return " ".join(phrase.lower().replace(".", " ").split())


@torch.inference_mode()
def _answer(
    loaded: Loaded, settings: HubModel, queries: Sequence[Query], batch: Sequence[Grounding]
) -> list[Found]:
    inputs = loaded.processor(
        images=[one.image for one in batch],
        text=[one.text for one in batch],
        padding=True,
        return_tensors="pt",
    )
    output = loaded.model(**loaded.to_device(inputs))
    probability = torch.sigmoid(output.logits.float()).cpu().double().numpy()
    boxes = output.pred_boxes.float().cpu().double().numpy()
    return [
        choose(probability[row], boxes[row], one, queries[one.query].phrases, settings)
        for row, one in enumerate(batch)
    ]


def choose(
    probability: Float[np.ndarray, "boxes tokens"],
    boxes: Float[np.ndarray, "boxes 4"],
    grounding: Grounding,
    phrases: Sequence[str],
    settings: HubModel,
) -> Found:
    """Boxes above the thresholds, each with the phrase that holds its likeliest token.

    ``score`` is the probability of that box's likeliest token, ``name_score`` the mean over the phrase's tokens.
    """
    seen = {
        number: [token for token in tokens if token < probability.shape[1]]
        for number, tokens in grounding.tokens.items()
    }
    numbers = [number for number, tokens in seen.items() if tokens]
    if not numbers:
        return join([])
    peak = np.stack([probability[:, seen[number]].max(axis=1) for number in numbers], axis=1)
    mean = np.stack([probability[:, seen[number]].mean(axis=1) for number in numbers], axis=1)
    score, winner = probability.max(axis=1), peak.argmax(axis=1)
    kept = np.flatnonzero((score > settings.box_threshold) & (peak.max(axis=1) > settings.text_threshold))
    indices = np.array(numbers, dtype=np.int64)[winner[kept]]
    return Found(
        from_center_norm(boxes[kept]),
        indices,
        [phrases[number] for number in indices],
        score[kept],
        mean[kept, winner[kept]],
    )
