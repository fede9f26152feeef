"""Answers as rows of the stored tables. Light: no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from evaluation.perception.hub.settings import HUB_VERSION, HubModel
from evaluation.perception.questions import is_yes
from evaluation.tables.perception import ANSWERS, CAPTIONS, DESCRIPTIONS
from training.digests import canonical_json


@dataclass(frozen=True)
class Maker:
    """Who made a row: the model's name in the profile and its digest."""

    name: str
    digest: str

    def columns(self) -> dict[str, Any]:
        """The columns of :data:`evaluation.tables.perception.MADE_BY`."""
        return {"model": self.name, "model_digest": self.digest, "function_version": HUB_VERSION}


@dataclass(frozen=True)
class ScoredText:
    """A generated text.

    ``score`` is exp of the mean log-probability of its tokens and the end token, in [0, 1]; ``num_tokens`` counts
    tokens of the model's own tokenizer without special ones.
    """

    text: str
    score: float
    num_tokens: int


def captions_table(
    found: Mapping[str, Sequence[tuple[str, ScoredText]]], settings: HubModel, maker: Maker
) -> pa.Table:
    """Rows of :data:`evaluation.tables.perception.CAPTIONS` from (prompt, answer) pairs of each sample, best first.

    Equal captions of a sample stay: how often a model says the same is worth knowing.
    """
    decoding = canonical_json(settings.decoding.used())
    rows = []
    for sample_id, answers in found.items():
        ranked = sorted(answers, key=lambda pair: -pair[1].score)
        rows += [
            {
                "sample_id": sample_id,
                "caption_index": index,
                "caption": answer.text,
                "score": answer.score,
                "prompt": prompt,
                "decoding": decoding,
                "seed": settings.seed,
                "num_tokens": answer.num_tokens,
                **maker.columns(),
            }
            for index, (prompt, answer) in enumerate(ranked, start=1)
        ]
    return pa.Table.from_pylist(rows, schema=CAPTIONS)


def descriptions_table(found: Mapping[str, tuple[str, ScoredText]], maker: Maker) -> pa.Table:
    """Rows of :data:`evaluation.tables.perception.DESCRIPTIONS` from the (prompt, answer) of each entity."""
    rows = [
        {
            "entity_id": entity_id,
            "description": answer.text,
            "score": answer.score,
            "prompt": prompt,
            "num_tokens": answer.num_tokens,
            **maker.columns(),
        }
        for entity_id, (prompt, answer) in found.items()
    ]
    return pa.Table.from_pylist(rows, schema=DESCRIPTIONS)


def answers_table(found: Mapping[str, str], maker: Maker) -> pa.Table:
    """Rows of :data:`evaluation.tables.perception.ANSWERS` from the answer to each question."""
    rows = [
        {"question_id": question_id, "answer": answer, "is_yes": is_yes(answer), **maker.columns()}
        for question_id, answer in found.items()
    ]
    return pa.Table.from_pylist(rows, schema=ANSWERS)
