"""LayoutSAM-Eval (CreatiLayout, arXiv 2412.03859): is every entity in its box, and does it look as described?

A judge sees the crop of a generated picture at each box and answers yes-or-no questions
(:mod:`evaluation.perception.questions`): spatial about every box; colour, texture and shape only where spatial is Yes. Hits
are summed over *all* boxes, so that no attribute is above spatial. What a score says depends on who answers: judges do
not compare, and the published numbers are MiniCPM-V-2.6's.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa

from evaluation.benchmarks.samples import AskedBox, LayoutSample
from evaluation.intervals import Interval
from evaluation.metrics.placement import ratio_over_pictures
from evaluation.perception.questions import ATTRIBUTES, SPATIAL, attribute_question, spatial_question
from evaluation.perception.role_models import BatchFunction
from evaluation.tables.layout_eval import LAYOUT_ANSWERS, LAYOUT_EVAL_SCORES
from training.errors import FoundryError

SCORED = (SPATIAL, *ATTRIBUTES)
PICTURES_AT_ONCE = 32
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Judge:
    """Who answers: a model in perception's role ``answers``.

    Args:
        name: as written into rows.
        digest: over weights and every setting that changes answers.
        answer: batch function of the role.
        settings: what is told beside its scores, such as family and decoding.
    """

    name: str
    digest: str
    answer: BatchFunction
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _Place:
    """A box of a sample, with the picture that is asked about."""

    sample: LayoutSample
    index: int
    image: bytes

    @property
    def box(self) -> AskedBox:
        return self.sample.boxes[self.index]

    def question(self, about: str) -> dict[str, Any]:
        box = self.box
        spatial = about == SPATIAL
        return {
            "question_id": f"{self.sample.image_id}/{self.index}/{about}",
            "question": spatial_question(box.phrase)
            if spatial
            else attribute_question(box.phrase, about, box.detail),
            "box_xyxy_norm": list(box.box_xyxy_norm),
            "image": self.image,
        }


def ask(
    samples: Sequence[LayoutSample],
    pictures: Mapping[str, bytes],
    judge: Judge,
    *,
    pictures_at_once: int = PICTURES_AT_ONCE,
) -> pa.Table:
    """Ask the judge about every box.

    Args:
        samples: what was asked for; those without boxes are asked nothing.
        pictures: encoded picture by image_id, of any size: boxes are normalised. It may read files as they are needed.
        judge: who answers.
        pictures_at_once: pictures in memory, and in one batch of the judge.

    Returns:
        rows of :data:`evaluation.tables.layout_eval.LAYOUT_ANSWERS`, a row a box, in the samples' order.

    Raises FoundryError before anything is asked where a sample has no picture, and afterwards where the judge leaves a
    question unanswered.
    """
    require_pictures(samples, pictures)
    parts = []
    for done, group in _groups([sample for sample in samples if sample.boxes], pictures_at_once):
        parts.append(_ask_group([(sample, pictures[sample.image_id]) for sample in group], judge))
        _log.info("%d of %d pictures judged", done, len(samples))
    return pa.concat_tables(parts) if parts else LAYOUT_ANSWERS.empty_table()


def require_pictures(samples: Sequence[LayoutSample], pictures: Mapping[str, bytes]) -> None:
    """Raise FoundryError that counts the samples without a picture and names the first."""
    missing = [sample.image_id for sample in samples if sample.image_id not in pictures]
    if missing:
        raise FoundryError(
            f"layout evaluation: {len(missing)} of {len(samples)} samples have no picture, such as "
            f"{', '.join(missing[:5])}; a score over the others would not compare. Draw them, or leave the samples out."
        )


def scores(answers: pa.Table, seed: int = 0) -> pa.Table:
    """Scores with 95 % intervals, rows of :data:`evaluation.tables.layout_eval.LAYOUT_EVAL_SCORES`.

    Intervals resample prompts: boxes of one picture are not independent.
    Raises FoundryError for no boxes (their score is not zero but unknown) and for answers of several judges.
    """
    judge = _one_judge(answers)
    rows = []
    for metric in SCORED:
        interval, hits = score_of(answers, metric, seed)
        asked = answers.num_rows - answers[metric].null_count
        rows.append(
            {
                "metric": metric, "value": interval.value, "value_low": interval.low, "value_high": interval.high,
                "num_yes": hits, "num_asked": asked, "num_boxes": answers.num_rows,
                "num_prompts": interval.count, **judge,
            }
        )  # fmt: skip
    return pa.Table.from_pylist(rows, schema=LAYOUT_EVAL_SCORES)


def score_of(answers: pa.Table, metric: str, seed: int = 0) -> tuple[Interval, int]:
    """Hits over all boxes with an interval, and the number of hits."""
    _, prompt = np.unique(answers["image_id"].to_numpy(zero_copy_only=False), return_inverse=True)
    hits = answers[metric].fill_null(False).to_numpy(zero_copy_only=False).astype(np.float64)
    return ratio_over_pictures(np.bincount(prompt, weights=hits), np.bincount(prompt), seed), int(hits.sum())


def _ask_group(group: Sequence[tuple[LayoutSample, bytes]], judge: Judge) -> pa.Table:
    """Spatial questions about all boxes of some pictures, then attributes of those that hold."""
    places = [_Place(sample, index, image) for sample, image in group for index in range(len(sample.boxes))]
    said = _answers([place.question(SPATIAL) for place in places], judge)
    there = [place for place in places if said[place.question(SPATIAL)["question_id"]]["is_yes"]]
    said |= _answers([place.question(about) for place in there for about in ATTRIBUTES], judge)
    return pa.Table.from_pylist([_row(place, said, judge) for place in places], schema=LAYOUT_ANSWERS)


def _answers(questions: Sequence[Mapping[str, Any]], judge: Judge) -> dict[str, dict[str, Any]]:
    """Answers by question_id."""
    if not questions:
        return {}
    rows = judge.answer(pa.Table.from_pylist(list(questions), schema=_QUESTIONS))
    said = {row["question_id"]: row for row in rows.select(["question_id", "answer", "is_yes"]).to_pylist()}
    missing = [question["question_id"] for question in questions if question["question_id"] not in said]
    if missing:
        raise FoundryError(
            f"judge '{judge.name}': left {len(missing)} of {len(questions)} questions unanswered, such as "
            f"{missing[0]}; all must be. Ask again, or name another judge."
        )
    return said


_QUESTIONS = pa.schema(
    [
        ("question_id", pa.string()),
        ("question", pa.string()),
        ("box_xyxy_norm", LAYOUT_ANSWERS.field("box_xyxy_norm").type),
        ("image", pa.binary()),
    ]
)


def _row(place: _Place, said: Mapping[str, Mapping[str, Any]], judge: Judge) -> dict[str, Any]:
    box = place.box
    row: dict[str, Any] = {
        "image_id": place.sample.image_id, "box_index": place.index, "phrase": box.phrase, "detail": box.detail,
        "box_xyxy_norm": list(box.box_xyxy_norm), "judge": judge.name, "judge_digest": judge.digest,
    }  # fmt: skip
    for about in SCORED:
        answer = said.get(f"{place.sample.image_id}/{place.index}/{about}")
        row[about] = answer and answer["is_yes"]
        row[f"{about}_answer"] = answer and answer["answer"]
    return row


def _one_judge(answers: pa.Table) -> dict[str, str]:
    """Who answered all rows. Raises FoundryError for no rows, or for several."""
    if not answers.num_rows:
        raise FoundryError(
            "layout evaluation: found no boxes; at least one is needed. Check the benchmark's rows."
        )
    judges = answers.select(["judge", "judge_digest"]).group_by(["judge", "judge_digest"]).aggregate([])
    if judges.num_rows > 1:
        names = ", ".join(sorted(judges["judge"].to_pylist()))
        raise FoundryError(
            f"layout evaluation: answers of {judges.num_rows} judges ({names}); their answers do not compare. Score each alone."
        )
    found: dict[str, str] = judges.to_pylist()[0]
    return found


def _groups(samples: Sequence[LayoutSample], size: int) -> Iterator[tuple[int, list[LayoutSample]]]:
    """(samples so far, some of them), in order."""
    rest, done = iter(samples), 0
    while group := list(islice(rest, size)):
        done += len(group)
        yield done, group
