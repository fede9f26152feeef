"""Does a model put things where boxes say? Recognised objects whose centre lies in the box that was told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from jaxtyping import UInt8

from assets.graph.interfaces import Perception, Store
from assets.layout.held_out import HeldOutLayouts, Way
from assets.models.looking import look_at
from assets.pages.markdown import markdown_table
from assets.pages.tables import Column, Table
from evaluation.boxes import Box, match_pairs
from evaluation.intervals import Interval
from evaluation.metrics.placement import Found, Placement, Wanted, score_placement
from evaluation.metrics.scene_truth import Truth, read_truth
from evaluation.tables.scores import LAYOUT_SCORES

if TYPE_CHECKING:
    from evaluation.plots.contact_sheets import NamedBox

PICTURES_SHOWN = 8


@dataclass(frozen=True)
class Row:
    """A row of the scores: which ``pictures`` are looked at, and by which boxes, as told or exchanged."""

    title: str
    pictures: str
    boxes: Way


ROWS: Mapping[str, Row] = {
    "real": Row("real pictures", "real", "told"),
    "reconstructed": Row("through the autoencoder and back", "reconstructed", "told"),
    "base": Row("without a layout", "base", "told"),
    "told": Row("with the layout", "told", "told"),
    "base_by_exchanged": Row("without a layout, by the exchanged boxes", "base", "exchanged"),
    "exchanged": Row("boxes left and right exchanged, by the exchanged boxes", "exchanged", "exchanged"),
}


def wanted_of(
    layouts: HeldOutLayouts, truth: Mapping[str, Truth], way: Way, *, moved: bool = False
) -> list[Wanted]:
    """Objects whose name the scene's truth knows for a told entity: the box is the told one, exchanged or not.

    Annotations say phrases, not names; a true object is the entity's where their boxes match. ``moved``: only those that
    an exchange moves, whose box holds not its exchanged one's centre; others lie in both wherever they lie.
    """
    wanted = []
    for sample_id, layout, told in zip(layouts.sample_ids, layouts.layouts, layouts.told(way), strict=True):
        objects = truth[sample_id].objects
        pairs = match_pairs([entity.box_xyxy_norm for entity in layout.entities], [box for _, box in objects])
        wanted += [
            Wanted(sample_id, objects[true][0], told.entities[entity].box_xyxy_norm)
            for entity, true, _ in pairs
            if not moved or _is_moved(layout.entities[entity].box_xyxy_norm)
        ]
    return wanted


def _is_moved(box_xyxy_norm: Box) -> bool:
    """Whether the middle of a box, left and right exchanged, lies outside it."""
    left, _, right, _ = box_xyxy_norm
    return not left <= 1 - (left + right) / 2 <= right


def truth_of_scenes(store: Store, perception: Perception) -> Mapping[str, Truth]:
    """The hidden truth by sample; empty where there is none, or nobody looks."""
    if store.current("scene_truth") is None or perception.model("closed_set") is None:
        return {}
    return read_truth(store.read_table("scene_truth"))


def score_layouts(
    store: Store,
    perception: Perception,
    layouts: HeldOutLayouts,
    drawn: Mapping[Way, UInt8[np.ndarray, "n h w 3"]],
    real: Mapping[str, UInt8[np.ndarray, "n h w 3"]],
    about: Mapping[str, Any],
) -> pa.Table:
    """Rows of :data:`evaluation.tables.scores.LAYOUT_SCORES`; none where there is no truth or nobody to look.

    ``real``: real pictures of the same samples, and the same through the autoencoder.
    """
    truth = truth_of_scenes(store, perception)
    if not truth:
        return LAYOUT_SCORES.empty_table()
    pictures: dict[str, UInt8[np.ndarray, "n h w 3"]] = {**real, **{str(way): drawn[way] for way in drawn}}
    ids = layouts.sample_ids
    found = {name: look_at(images, ids, perception, "closed_set") for name, images in pictures.items()}
    return scores_of(layouts, truth, found, about)


def scores_of(
    layouts: HeldOutLayouts,
    truth: Mapping[str, Truth],
    found: Mapping[str, Mapping[str, Sequence[Found]]],
    about: Mapping[str, Any],
) -> pa.Table:
    """The scores of what was seen in the pictures of each row; none where no told entity has a name."""
    rows = []
    for name, row in ROWS.items():
        if row.pictures not in found:
            continue
        wanted, moved = (wanted_of(layouts, truth, row.boxes, moved=moved) for moved in (False, True))
        if not wanted:
            return LAYOUT_SCORES.empty_table()
        seen = found[row.pictures]
        figures = _figures(score_placement(wanted, seen)) | _moved(moved, seen)
        rows.append({**about, "drawn": name, **figures})
    return pa.Table.from_pylist(rows, schema=LAYOUT_SCORES)


def _moved(wanted: Sequence[Wanted], seen: Mapping[str, Sequence[Found]]) -> dict[str, Any]:
    if not wanted:
        return {"moved_in_box": None, "moved_in_box_low": None, "moved_in_box_high": None, "num_moved": 0}
    hit = score_placement(wanted, seen).hit
    return {
        "moved_in_box": hit.value,
        "moved_in_box_low": hit.low,
        "moved_in_box_high": hit.high,
        "num_moved": len(wanted),
    }


def _figures(placement: Placement) -> dict[str, Any]:
    return {
        "in_box": placement.hit.value,
        "in_box_low": placement.hit.low,
        "in_box_high": placement.hit.high,
        "in_box_floor": placement.hit_floor,
        "shown": placement.shown.value,
        "shown_low": placement.shown.low,
        "shown_high": placement.shown.high,
        "num_objects": placement.num_objects,
    }


COLUMNS = (
    Column("Pictures"),
    Column("recognised in their box", ".3f", note="95 %"),
    Column("floor", ".3f"),
    Column("those that an exchange moves", ".3f", note="95 %"),
    Column("recognised anywhere", ".3f", note="95 %"),
    Column("objects", ","),
)


def layout_markdown(scores: pa.Table) -> str:
    """The scores for the asset's page and the card."""
    if not scores.num_rows:
        return "These samples have no truth that names their objects, so that only the pictures tell."
    rows = [
        (
            ROWS[row["drawn"]].title,
            Interval(row["in_box"], row["in_box_low"], row["in_box_high"]),
            row["in_box_floor"],
            _moved_interval(row),
            Interval(row["shown"], row["shown_low"], row["shown_high"]),
            row["num_objects"],
        )
        for row in scores.to_pylist()
    ]
    first = scores.to_pylist()[0]
    return markdown_table(Table(COLUMNS, rows)) + (
        f"\n\n{first['num_pictures']} held-out layouts, {first['num_steps']} steps, guidance {first['guidance']:g}, strength "
        f"{first['strength']:g}, the same noise. Recognised by {first['judged_by']}, which names every region by the closest "
        "concept; floor: the same objects sought in the pictures of all other layouts. An exchange of left and right moves "
        f"{first['num_moved']} objects, whose box holds not its exchanged one's centre."
    )


def _moved_interval(row: Mapping[str, Any]) -> Interval | None:
    if row["moved_in_box"] is None:
        return None
    return Interval(row["moved_in_box"], row["moved_in_box_low"], row["moved_in_box_high"])


@dataclass(frozen=True)
class SheetRow:
    """A row of a sheet: pictures of the first layouts under one caption, boxes over them as told one way or none."""

    caption: str
    images: UInt8[np.ndarray, "n h w 3"]
    boxes: Way | None


def layout_sheet(
    layouts: HeldOutLayouts,
    drawn: Mapping[Way, UInt8[np.ndarray, "n h w 3"]],
    real: UInt8[np.ndarray, "n h w 3"],
) -> bytes:
    """A JPEG: real pictures, and below them what was drawn each way, with the boxes that were told over it."""
    rows = [SheetRow("real", real, "told")]
    for way, images in drawn.items():
        title = ROWS[way].title.partition(",")[0]
        rows.append(SheetRow(title, images, None if way == "base" else way))
    return sheet_of_rows(layouts, rows)


def sheet_of_rows(layouts: HeldOutLayouts, rows: Sequence[SheetRow]) -> bytes:
    """A JPEG of the first layouts, a column each."""
    from assets.corpus.image_io import encode_png
    from assets.pages.sheets import sheet_jpeg

    count = min(PICTURES_SHOWN, len(layouts.layouts))
    tiles: list[bytes] = []
    captions: list[str] = []
    boxes: list[list[NamedBox]] = []
    for row in rows:
        tiles += [encode_png(image) for image in row.images[:count]]
        captions += [row.caption] * count
        told = layouts.told(row.boxes)[:count] if row.boxes else ()
        boxes += [_boxes(layout) for layout in told] or [[] for _ in range(count)]
    return sheet_jpeg(tiles, captions, boxes, columns=count, tile_px=128)


def _boxes(layout: Any) -> list[NamedBox]:
    from evaluation.plots.contact_sheets import NamedBox

    return [NamedBox(entity.phrase, entity.box_xyxy_norm) for entity in layout.entities]
