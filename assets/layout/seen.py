"""What perception sees in the stored pictures of a layout model, beside what was told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import UInt8

from assets.graph.interfaces import Perception, Store
from assets.layout.held_out import HeldOutLayouts, Way
from assets.layout.measuring import PICTURES
from assets.layout.scores import wanted_of
from assets.models.drawing import pictures_of
from assets.models.looking import look_at
from evaluation.metrics.scene_truth import Truth
from training.layout.entities import Entity, Layout

if TYPE_CHECKING:
    from evaluation.metrics.objects_in_box import ToldBoxes
    from evaluation.metrics.placement import Found


@dataclass(frozen=True)
class DrawnLayouts:
    """Stored pictures of one layout model: rows of :data:`evaluation.tables.samples.LAYOUT_PICTURES`."""

    table: pa.Table

    @classmethod
    def read(cls, store: Store, kind: str, partition: str) -> DrawnLayouts | None:
        """Those of a published model; None where none are stored, or those of another version of it."""
        if store.current(PICTURES, partition) is None:
            return None
        table = store.read_table(PICTURES, partition)
        digest = store.require(kind, partition).digest
        return cls(table) if set(table["model_digest"].to_pylist()) == {digest} else None

    def of(self, way: Way) -> pa.Table:
        """Rows of one way of drawing, by sample."""
        return self.table.filter(pc.equal(self.table["drawn"], way)).sort_by("sample_id")

    def images(self, way: Way) -> UInt8[np.ndarray, "n h w 3"]:
        """The pictures of one way, in the order of :attr:`layouts`."""
        return pictures_of(self.of(way))

    @cached_property
    def layouts(self) -> HeldOutLayouts:
        """What was told, in the order of the samples' names."""
        rows = self.of("told")
        columns = (rows[name].to_pylist() for name in ("caption", "phrases", "boxes_xyxy_norm"))
        layouts = tuple(
            Layout(caption, tuple(_entity(phrase, box) for phrase, box in zip(phrases, boxes, strict=True)))
            for caption, phrases, boxes in zip(*columns, strict=True)
        )
        return HeldOutLayouts(rows, layouts)

    def encoded(self, way: Way) -> dict[str, bytes]:
        """The pictures of one way as PNG, by sample."""
        rows = self.of(way)
        return dict(zip(rows["sample_id"].to_pylist(), rows["image"].to_pylist(), strict=True))

    def found(self, perception: Perception, way: Way) -> dict[str, list[Found]]:
        """What perception finds in the pictures of one way, by sample."""
        return look_at(self.images(way), self.layouts.sample_ids, perception, "closed_set")


def _entity(phrase: str, box: list[float]) -> Entity:
    left, top, right, bottom = (float(value) for value in box)
    return Entity(phrase, (left, top, right, bottom))


def any_wanted(drawn: DrawnLayouts, truth: Mapping[str, Truth]) -> bool:
    """Whether the truth names any object that was told."""
    ids = drawn.layouts.sample_ids
    return all(key in truth for key in ids) and bool(wanted_of(drawn.layouts, truth, "exchanged", moved=True))


def told_boxes(drawn: DrawnLayouts, truth: Mapping[str, Truth], perception: Perception) -> ToldBoxes:
    """What was told of objects that the truth names, and what is found in the pictures, as told and exchanged."""
    from evaluation.metrics.objects_in_box import ToldBoxes

    layouts = drawn.layouts
    return ToldBoxes(
        layouts.sample_ids,
        wanted_of(layouts, truth, "told"),
        drawn.found(perception, "told"),
        wanted_of(layouts, truth, "exchanged", moved=True),
        drawn.found(perception, "exchanged"),
    )
