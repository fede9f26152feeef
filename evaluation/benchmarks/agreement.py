"""How far to trust a judge: asked about real scenes whose truth is known, how often is it right?

About every true box the judge is asked twice: whether what was drawn there is there (it should say yes), and whether
something that stands nowhere in the scene is (it should say no). A judge that always says yes has 1 on one side and 0 on
the other, and gives any model a perfect score. The same for colour: the true word, and another. Truth is read here
alone, to score the judge; the judge gets questions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa

from evaluation.benchmarks.layoutsam_eval import Judge, ask
from evaluation.benchmarks.samples import AskedBox, LayoutSample
from evaluation.box_conventions import Box
from evaluation.metrics.placement import share_over_pictures
from evaluation.metrics.scene_truth import Truth
from evaluation.perception.embedded.colors import COLOR_WORDS
from evaluation.perception.embedded.wording import with_article
from evaluation.tables.layout_eval import JUDGE_AGREEMENT
from training.errors import FoundryError

Side = Literal["yes", "no"]
SIDES: tuple[Side, ...] = ("yes", "no")
COLOR = "color"


@dataclass(frozen=True)
class _Known:
    """What is true of a scene's object: its name, how it is told from others, its colour word or empty."""

    name: str
    phrase: str
    color: str


def truth_samples(truth: Mapping[str, Truth], side: Side, seed: int = 0) -> list[LayoutSample]:
    """Every object of every scene as a box, with what was drawn in it (``yes``) or with something else (``no``).

    On the side ``no`` phrase and detail are of one drawn by (seed, scene, place) among the concepts of all scenes that
    this scene does not show; scenes that show every concept are left out.
    """
    known = {image_id: _objects(scene) for image_id, scene in truth.items()}
    phrases = {item.name: item.phrase for items in known.values() for item in items}
    samples = []
    for image_id, scene in truth.items():
        others = sorted(set(phrases) - scene.names)
        if not scene.objects or (side == "no" and not others):
            continue
        random = np.random.default_rng((seed, *image_id.encode()))
        said = [
            item.phrase if side == "yes" else phrases[others[int(random.integers(len(others)))]]
            for item in known[image_id]
        ]
        boxes = tuple(
            AskedBox(with_article(phrase), with_article(phrase), _corners(box))
            for phrase, (_, box) in zip(said, scene.objects, strict=True)
        )
        samples.append(LayoutSample(image_id, "", boxes))
    return samples


def color_samples(truth: Mapping[str, Truth], side: Side, seed: int = 0) -> list[LayoutSample]:
    """Objects whose colour is known, with a detail that says it (``yes``) or another colour word (``no``)."""
    samples = []
    for image_id, scene in truth.items():
        random = np.random.default_rng((seed, *image_id.encode()))
        boxes = []
        for item, (_, box) in zip(_objects(scene), scene.objects, strict=True):
            if item.color not in COLOR_WORDS:
                continue
            others = [word for word in COLOR_WORDS if word != item.color]
            color = item.color if side == "yes" else others[int(random.integers(len(others)))]
            boxes.append(
                AskedBox(with_article(item.name), with_article(f"{color} {item.name}"), _corners(box))
            )
        if boxes:
            samples.append(LayoutSample(image_id, "", tuple(boxes)))
    return samples


def judge_agreement(
    truth: Mapping[str, Truth], pictures: Mapping[str, bytes], judge: Judge, seed: int = 0
) -> pa.Table:
    """How often the judge answers as the hidden truth has it, rows of :data:`evaluation.tables.layout_eval.JUDGE_AGREEMENT`.

    Args:
        truth: of real scenes, by image_id (:func:`evaluation.metrics.scene_truth.read_truth`).
        pictures: the scenes' own pictures, encoded; one for every scene of ``truth``.
        judge: who answers.

    Colour is asked only where the judge finds the object, as in the benchmark; without such a question, or without any
    colour in the truth, there is no row of it. Raises FoundryError for a truth without objects.
    """
    rows = []
    for side in SIDES:
        answers = ask(truth_samples(truth, side, seed), pictures, judge)
        rows += _agreement("spatial", side, answers, judge, seed)
        answers = ask(color_samples(truth, side, seed), pictures, judge)
        rows += _agreement(COLOR, side, answers.filter(answers["spatial"]), judge, seed)
    if not rows:
        raise FoundryError(
            "judge agreement: found no scene with an object; at least one is needed. Read the truth of composed scenes."
        )
    return pa.Table.from_pylist(rows, schema=JUDGE_AGREEMENT)


def _objects(scene: Truth) -> list[_Known]:
    looks: Sequence[tuple[str, str]] = [(look.phrase, look.color) for look in scene.looks]
    looks = looks or [(name, "") for name, _ in scene.objects]
    return [
        _Known(name, phrase, color) for (name, _), (phrase, color) in zip(scene.objects, looks, strict=True)
    ]


def _corners(box: Sequence[float]) -> Box:
    x1, y1, x2, y2 = box
    return x1, y1, x2, y2


def _agreement(
    question: str, side: Side, answers: pa.Table, judge: Judge, seed: int
) -> list[dict[str, object]]:
    """One row, or none where nothing was asked."""
    if not answers.num_rows:
        return []
    said = answers[question].to_numpy(zero_copy_only=False).astype(bool)
    right = (said == (side == "yes")).astype(np.float64)
    interval = share_over_pictures(right, answers["image_id"].to_pylist(), seed)
    return [
        {
            "question": question, "side": side, "accuracy": interval.value, "accuracy_low": interval.low,
            "accuracy_high": interval.high, "num_questions": len(right), "num_pictures": interval.count,
            "judge": judge.name, "judge_digest": judge.digest,
        }
    ]  # fmt: skip
