"""The embedded judge as a worker: it answers LayoutSAM-Eval's questions by recognition and measurement, without a language model.

*Is the subject present?* Yes where a region that perception names as the phrase means has its centre in the box. A
phrase of a concept of the bank is compared with the closest concept of every region (as generated pictures are looked
at elsewhere), any other phrase with the names that ConSE is sure enough of. In a picture whose background cannot be
fitted, such as a photograph, regions of the whole say nothing of places: there the crop is looked at by itself.

*Is it consistent with the colour, texture, shape described?* Yes where a word of the description was measured on the
region that was recognised, or on what stands out in the crop. Words that nothing here measures ("furry") count as not
mentioned, which by the question's own terms is a Yes.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import pyarrow as pa

from evaluation.boxes import Box, holds_point
from evaluation.perception.decoding import decode_image
from evaluation.perception.embedded.answer_model import ANSWERS_VERSION
from evaluation.perception.embedded.bank import ConceptBank
from evaluation.perception.embedded.colors import COLOR_WORDS
from evaluation.perception.embedded.descriptions import Look, look_at_crop, look_of_region, matching_region
from evaluation.perception.embedded.grounding import likeness
from evaluation.perception.embedded.perceiver import EmbeddedPerceiver
from evaluation.perception.embedded.sentence_similarity import SentenceSimilarity
from evaluation.perception.embedded.shape_and_texture import SHAPES, TEXTURES
from evaluation.perception.hub.images import crop, open_image
from evaluation.perception.questions import ATTRIBUTES, SPATIAL, Asked, attributes_of, is_yes, read_question
from evaluation.tables.perception import ANSWERS
from training.digests import sha256_bytes
from training.errors import FoundryError

REMEMBERED = 512
"""Pictures and crops whose regions are kept: attributes are asked after all spatial questions of a batch."""
MAX_SIDE_PX = 2048
_SAME_AS = {
    "gold": ("yellow", "orange", "brown"), "silver": ("gray", "white"), "beige": ("brown", "white", "yellow"),
    "turquoise": ("teal", "blue", "green"), "cyan": ("teal", "blue"), "violet": ("purple",),
    "magenta": ("pink", "purple"), "maroon": ("red", "brown"), "navy": ("blue", "black"),
    "oval": ("round", "wide", "tall"), "rectangular": ("square", "wide", "tall"),
    "narrow": ("tall", "wide"), "slender": ("tall", "wide"),
}  # fmt: skip
"""What may be measured of a thing that a description calls so."""
_MEASURED = frozenset((*COLOR_WORDS, *SHAPES, *TEXTURES))


@dataclass(frozen=True)
class _View:
    """A picture, or its part in a box, as one of the two perceivers looks at it."""

    image: bytes
    box: Box | None
    closed_set: bool

    @property
    def key(self) -> tuple[str, Box | None, bool]:
        return sha256_bytes(self.image), self.box, self.closed_set


@dataclass(frozen=True)
class _Row:
    unit: str
    asked: Asked
    box: Box
    image: bytes
    closed_set: bool

    @property
    def whole(self) -> _View:
        return _View(self.image, None, self.closed_set)

    @property
    def part(self) -> _View:
        return _View(self.image, self.box, self.closed_set)


class AnswerWorker:
    """A batch worker from rows (question_id, question, box_xyxy_norm, image) to :data:`evaluation.tables.perception.ANSWERS`.

    Args:
        bank: names and features of training concepts.
        name: written into rows.
        digest: identity, written into rows.
        min_similarity: cosine of sentences below which two names mean different things.
        threads, art, known_drawings: as of :class:`~evaluation.perception.embedded.perceiver.EmbeddedPerceiver`.
    """

    def __init__(
        self,
        bank: ConceptBank,
        name: str,
        digest: str,
        min_similarity: float,
        *,
        threads: int = 1,
        art: str = "twemoji",
        known_drawings: bool = True,
    ) -> None:
        self.bank = bank
        self.name = name
        self.digest = digest
        self.min_similarity = min_similarity
        self._perceiver_that = partial(
            EmbeddedPerceiver, bank, threads=threads, art=art, known_drawings=known_drawings
        )
        self._similarity = SentenceSimilarity()
        self._seen: dict[tuple[str, Box | None, bool], list[dict[str, Any]]] = {}

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Answers in the batch's order.

        Raises FoundryError that names a question which is none of LayoutSAM-Eval's, or whose picture is broken.
        """
        rows = [self._row(row) for row in batch.to_pylist()]
        self._look({row.whole.key: row.whole for row in rows}, rows)
        parts = [row for row in rows if not self._has_places(row)]
        self._look({row.part.key: row.part for row in parts}, parts)
        answers = [{"answer": "Yes" if self._holds(row) else "No", "question_id": row.unit} for row in rows]
        self._forget({row.whole.key for row in rows} | {row.part.key for row in parts})
        about = {"model": self.name, "model_digest": self.digest, "function_version": ANSWERS_VERSION}
        return pa.Table.from_pylist(
            [{**row, "is_yes": is_yes(row["answer"]), **about} for row in answers], schema=ANSWERS
        )

    def _row(self, row: Mapping[str, Any]) -> _Row:
        asked = read_question(row["question"])
        if asked is None:
            raise FoundryError(
                f"question {row['question_id']}: {row['question'][:120]!r} is none of LayoutSAM-Eval's, which are all that "
                "the embedded judge understands. Name a vision-language model for the role 'answers'."
            )
        box: Box = tuple(row["box_xyxy_norm"])
        known = any(self._means(asked.region, name) for name in self.bank.concepts)
        return _Row(row["question_id"], asked, box, row["image"], known)

    def _means(self, phrase: str, name: str) -> bool:
        return likeness(phrase, name, self._similarity) >= self.min_similarity

    def _has_places(self, row: _Row) -> bool:
        return bool(self._seen[row.whole.key][0]["background_kind"] != "unknown")

    def _holds(self, row: _Row) -> bool:
        regions = self._seen[row.whole.key]
        if self._has_places(row):
            meant = [region for region in self._meant(row, regions) if _is_inside(region, row.box)]
        else:
            meant = self._meant(row, self._seen[row.part.key])
        if row.asked.about == SPATIAL:
            return bool(meant)
        wanted = _measurable(row.asked)
        return not wanted or bool(wanted & _measured(row.asked.about, self._look_of(row, meant)))

    def _meant(self, row: _Row, regions: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        return [region for region in regions if self._is_meant(row, region)]

    def _is_meant(self, row: _Row, region: Mapping[str, Any]) -> bool:
        if region["text"]:
            return region["text"].lower() in row.asked.region.lower()
        names: Sequence[str] = region["names"][:1] if row.closed_set else region["names"]
        return any(self._means(row.asked.region, name) for name in names)

    def _look_of(self, row: _Row, meant: Sequence[Mapping[str, Any]]) -> Look:
        """Of the recognised region that overlaps the box most; else of what stands out in the crop."""
        if meant and self._has_places(row):
            region, iou = matching_region(row.box, meant)
            if region is not None:
                return look_of_region(region, iou)
        return look_at_crop(decode_image(row.image, f"question {row.unit}"), row.box)

    def _look(self, views: Mapping[tuple[str, Box | None, bool], _View], rows: Sequence[_Row]) -> None:
        """Look at what was not looked at yet, all of a kind together."""
        units = {view.key: row.unit for row in reversed(rows) for view in (row.whole, row.part)}
        for closed_set in (True, False):
            new = [
                (key, view)
                for key, view in views.items()
                if view.closed_set == closed_set and key not in self._seen
            ]
            if not new:
                continue
            pictures = [_encoded(view, f"question {units[key]}") for key, view in new]
            names = [str(number) for number in range(len(new))]
            found = self._perceiver(closed_set)(pa.table({"sample_id": names, "image": pictures}))
            by_view: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
            for region in found.drop(["mask_rle", "mask_size"]).to_pylist():
                by_view[region["sample_id"]].append(region)
            self._seen |= {key: by_view[name] for (key, _), name in zip(new, names, strict=True)}

    def _perceiver(self, closed_set: bool) -> EmbeddedPerceiver:
        return self._closed if closed_set else self._open

    @cached_property
    def _closed(self) -> EmbeddedPerceiver:
        return self._perceiver_that(closed_set=True)

    @cached_property
    def _open(self) -> EmbeddedPerceiver:
        return self._perceiver_that()

    def _forget(self, used: set[tuple[str, Box | None, bool]]) -> None:
        """Leave the oldest out, never those of this batch."""
        old = [key for key in self._seen if key not in used]
        for key in old[: max(0, len(self._seen) - REMEMBERED)]:
            del self._seen[key]


def _is_inside(region: Mapping[str, Any], box: Box) -> bool:
    x1, y1, x2, y2 = region["box_xyxy_norm"]
    return holds_point(box, ((x1 + x2) / 2, (y1 + y2) / 2))


def _encoded(view: _View, unit: str) -> bytes:
    """A picture's bytes, whole or of its part. Raises FoundryError that names the unit of a broken picture."""
    picture = open_image(view.image, unit, MAX_SIDE_PX)
    if view.box is None:
        return view.image
    buffer = io.BytesIO()
    crop(picture, view.box, 0.0).save(buffer, format="PNG")
    return buffer.getvalue()


def _measurable(asked: Asked) -> frozenset[str]:
    """What may be measured where the description holds; empty where it says nothing that is measured."""
    attribute = next(name for name in ATTRIBUTES if name == asked.about)
    said = [word for word in attributes_of(asked.detail)[attribute].split(" and ") if word]
    return frozenset(same for word in said for same in _SAME_AS.get(word, (word,))) & _MEASURED


def _measured(attribute: str, look: Look) -> frozenset[str]:
    if attribute == "color":
        return frozenset({look.color, look.second_color} - {""})
    return frozenset({look.texture if attribute == "texture" else look.shape})
