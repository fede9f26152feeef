"""Does a model put things where boxes say? Recognised objects whose centre lies in the box that was told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from jaxtyping import UInt8

from assets.graph.interfaces import Perception, Store
from assets.layout.held_out import HeldOutLayouts, Way
from assets.models.looking import look_at
from assets.pages.markdown import markdown_table
from assets.pages.tables import Column, Table
from evaluation.boxes import match_pairs
from evaluation.intervals import Interval
from evaluation.metrics.placement import Found, Placement, Wanted, score_placement
from evaluation.metrics.scene_truth import Truth, read_truth
from evaluation.tables.scores import LAYOUT_SCORES

if TYPE_CHECKING:
    from evaluation.plots.contact_sheets import NamedBox

PICTURES_SHOWN = 8
ROWS: Mapping[str, str] = {
    "real": "real pictures",
    "reconstructed": "through the autoencoder and back",
    "base": "without a layout",
    "told": "with the layout",
    "exchanged": "boxes left and right exchanged, by the exchanged boxes",
}


def wanted_of(layouts: HeldOutLayouts, truth: Mapping[str, Truth], way: Way) -> list[Wanted]:
    """Objects whose name the scene's truth knows for a told entity: the box is the told one, exchanged or not.

    Annotations say phrases, not names; a true object is the entity's where their boxes match.
    """
    wanted = []
    for sample_id, layout, told in zip(layouts.sample_ids, layouts.layouts, layouts.told(way), strict=True):
        objects = truth[sample_id].objects
        pairs = match_pairs([entity.box_xyxy_norm for entity in layout.entities], [box for _, box in objects])
        wanted += [
            Wanted(sample_id, objects[true][0], told.entities[entity].box_xyxy_norm)
            for entity, true, _ in pairs
        ]
    return wanted


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
    if store.current("scene_truth") is None or perception.model("closed_set") is None:
        return LAYOUT_SCORES.empty_table()
    truth = read_truth(store.read_table("scene_truth"))
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
    for name, seen in found.items():
        wanted = wanted_of(layouts, truth, "exchanged" if name == "exchanged" else "told")
        if not wanted:
            return LAYOUT_SCORES.empty_table()
        rows.append({**about, "drawn": name, **_figures(score_placement(wanted, seen))})
    return pa.Table.from_pylist(rows, schema=LAYOUT_SCORES)


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
    Column("recognised anywhere", ".3f", note="95 %"),
    Column("objects", ","),
)


def layout_markdown(scores: pa.Table) -> str:
    """The scores for the asset's page and the card."""
    if not scores.num_rows:
        return "These samples have no truth that names their objects, so that only the pictures tell."
    rows = [
        (
            ROWS[row["drawn"]],
            Interval(row["in_box"], row["in_box_low"], row["in_box_high"]),
            row["in_box_floor"],
            Interval(row["shown"], row["shown_low"], row["shown_high"]),
            row["num_objects"],
        )
        for row in scores.to_pylist()
    ]
    first = scores.to_pylist()[0]
    return markdown_table(Table(COLUMNS, rows)) + (
        f"\n\n{first['num_pictures']} held-out layouts, {first['num_steps']} steps, guidance {first['guidance']:g}, strength "
        f"{first['strength']:g}, the same noise. Recognised by {first['judged_by']}, which names every region by the closest "
        "concept; floor: the same objects sought in the pictures of all other layouts."
    )


def layout_sheet(
    layouts: HeldOutLayouts,
    drawn: Mapping[Way, UInt8[np.ndarray, "n h w 3"]],
    real: UInt8[np.ndarray, "n h w 3"],
) -> bytes:
    """A JPEG: real pictures, and below them what was drawn each way, with the boxes that were told over it."""
    from assets.corpus.image_io import encode_png
    from assets.pages.sheets import sheet_jpeg

    count = min(PICTURES_SHOWN, len(real))
    tiles: list[bytes] = []
    captions: list[str] = []
    boxes: list[list[NamedBox]] = []
    pictures: dict[str, UInt8[np.ndarray, "n h w 3"]] = {
        "real": real,
        **{str(way): rows for way, rows in drawn.items()},
    }
    for name, rows in pictures.items():
        told = layouts.told("exchanged" if name == "exchanged" else "told")[:count]
        tiles += [encode_png(image) for image in rows[:count]]
        captions += [ROWS[name].partition(",")[0]] * count
        boxes += [[] if name == "base" else _boxes(layout) for layout in told]
    return sheet_jpeg(tiles, captions, boxes, columns=count, tile_px=128)


def _boxes(layout: Any) -> list[NamedBox]:
    from evaluation.plots.contact_sheets import NamedBox

    return [NamedBox(entity.phrase, entity.box_xyxy_norm) for entity in layout.entities]
