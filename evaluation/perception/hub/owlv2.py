"""OWLv2: every phrase is a query of its own; boxes come normalised by the square that the image is padded to."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from evaluation.perception.hub.box_conventions import from_center_on_square
from evaluation.perception.hub.detecting import HubDetector
from evaluation.perception.hub.found import Found, Query
from evaluation.perception.hub.loading import Loaded
from evaluation.perception.hub.rows import Maker
from evaluation.perception.hub.settings import HubModel


def owlv2_detector(loaded: Loaded, settings: HubModel, maker: Maker) -> HubDetector:
    """OWLv2 in the role detector."""
    return HubDetector(loaded, settings, maker, detect)


def detect(loaded: Loaded, settings: HubModel, queries: Sequence[Query]) -> list[Found]:
    """Boxes for every query: of each image patch the best phrase, where it passes ``box_threshold``.

    ``score`` is the probability of the phrase; ``name_score`` is the same number, for the model has one.
    """
    found: list[Found] = []
    for first in range(0, len(queries), settings.batch_size):
        found += _answer(loaded, settings, queries[first : first + settings.batch_size])
    return found


@torch.inference_mode()
def _answer(loaded: Loaded, settings: HubModel, queries: Sequence[Query]) -> list[Found]:
    template = settings.prompts_for("detector")[0]
    inputs = loaded.processor(
        images=[query.image for query in queries],
        text=[[template.replace("{phrase}", phrase) for phrase in query.phrases] for query in queries],
        padding="max_length",
        truncation=True,
        max_length=loaded.model.config.text_config.max_position_embeddings,
        return_tensors="pt",
    )
    output = loaded.model(**loaded.to_device(inputs))
    return [
        _choose(output.logits[row], output.pred_boxes[row], query, settings.box_threshold)
        for row, query in enumerate(queries)
    ]


def _choose(logits: torch.Tensor, pred_boxes: torch.Tensor, query: Query, threshold: float) -> Found:
    # Queries that only fill up the batch stand behind the sample's own.
    best, winner = logits[:, : len(query.phrases)].float().max(dim=-1)
    score = torch.sigmoid(best).cpu().double().numpy()
    kept = np.flatnonzero(score > threshold)
    indices = winner.cpu().numpy()[kept].astype(np.int64)
    boxes = pred_boxes.float().cpu().double().numpy()[kept]
    return Found(
        from_center_on_square(boxes, query.image.width, query.image.height),
        indices,
        [query.phrases[number] for number in indices],
        score[kept],
        score[kept],
    )
