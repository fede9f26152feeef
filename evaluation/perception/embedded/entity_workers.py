"""The embedded describer and the embedded masks as workers: what perception measured of an entity's box."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from evaluation.perception.decoding import decode_image
from evaluation.perception.embedded.caption_worker import load_tokenizer
from evaluation.perception.embedded.descriptions import (
    SAME_IOU,
    Look,
    describe,
    look_at_crop,
    look_of_region,
    matching_region,
)
from evaluation.perception.embedded.models import DESCRIBER_NAME, DESCRIBER_VERSION, MASKS_NAME, MASKS_VERSION
from evaluation.tables.perception import DESCRIPTIONS, MASKS

if TYPE_CHECKING:
    from tokenizers import Tokenizer

TEMPLATE = "surface, colours, phrase, outline, place, size"


class DescribeWorker:
    """A batch worker from rows (entity_id, phrase, box_xyxy_norm, image, regions) to one row of DESCRIPTIONS each.

    The score is the IoU of the entity's box with what was measured: how surely it is the entity that is described.
    """

    def __init__(self, digest: str) -> None:
        self.digest = digest

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Descriptions in the batch's order. Raises FoundryError that names an entity whose image is broken."""
        rows: list[dict[str, Any]] = []
        for row in batch.to_pylist():
            look = self._look(row)
            text = describe(row["phrase"], row["box_xyxy_norm"], look)
            rows.append(
                {
                    "entity_id": row["entity_id"],
                    "description": text,
                    "score": look.iou,
                    "prompt": TEMPLATE,
                    "num_tokens": len(self._tokenizer.encode(text, add_special_tokens=False).ids),
                    "model": DESCRIBER_NAME,
                    "model_digest": self.digest,
                    "function_version": DESCRIBER_VERSION,
                }
            )
        return pa.Table.from_pylist(rows, schema=DESCRIPTIONS)

    def _look(self, row: dict[str, Any]) -> Look:
        region, iou = matching_region(row["box_xyxy_norm"], row["regions"])
        if region is not None and iou >= SAME_IOU:
            return look_of_region(region, iou)
        return look_at_crop(decode_image(row["image"], f"entity {row['entity_id']}"), row["box_xyxy_norm"])

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        return load_tokenizer()


class MaskWorker:
    """A batch worker from rows (entity_id, box_xyxy_norm, regions) to rows of :data:`evaluation.tables.perception.MASKS`.

    The mask is that of the perceived region which overlaps the box most, from ``min_iou`` on; below that the entity
    gets none. The score is that IoU of boxes, for want of an estimate of the masks' own.
    """

    def __init__(self, min_iou: float, digest: str) -> None:
        self.min_iou = min_iou
        self.digest = digest

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Masks of the entities that have one."""
        rows: list[dict[str, Any]] = []
        for row in batch.select(["entity_id", "box_xyxy_norm", "regions"]).to_pylist():
            region, iou = matching_region(row["box_xyxy_norm"], row["regions"])
            if region is not None and iou >= self.min_iou:
                rows.append(
                    {
                        "entity_id": row["entity_id"],
                        "mask_rle": region["mask_rle"],
                        "mask_size": region["mask_size"],
                        "score": iou,
                        "model": MASKS_NAME,
                        "model_digest": self.digest,
                        "function_version": MASKS_VERSION,
                    }
                )
        return pa.Table.from_pylist(rows, schema=MASKS)
