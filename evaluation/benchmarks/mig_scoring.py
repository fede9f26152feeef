"""Pictures of COCO-MIG's prompts, looked at: a detector is asked for every class, a segmenter at every wanted box."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, UInt8

from evaluation.benchmarks.coco_mig import InstanceFound, found_of, without_overlaps
from evaluation.benchmarks.detections import Detector, as_regions, found_boxes, regions_by_id
from evaluation.benchmarks.layoutsam_eval import PICTURES_AT_ONCE, require_pictures
from evaluation.benchmarks.mig_prompts import MigPrompt
from evaluation.benchmarks.samples import AskedBox, LayoutSample
from evaluation.perception.role_models import BatchFunction
from evaluation.perception.run_lengths import decode_mask
from evaluation.tables.coco_mig import MIG_INSTANCES


@dataclass(frozen=True)
class Segmenter:
    """A model in perception's role ``masks``; ``regions`` is what looks for it, where it reads regions."""

    name: str
    draw: BatchFunction
    regions: BatchFunction | None = None


def find_instances(
    prompts: Sequence[MigPrompt],
    pictures: Mapping[str, bytes],
    detector: Detector,
    segmenter: Segmenter,
) -> pa.Table:
    """A row of :data:`evaluation.tables.coco_mig.MIG_INSTANCES` for every instance, in the prompts' order.

    ``pictures``: encoded, by prompt_id, of any size. Raises FoundryError where a prompt has no picture.
    """
    require_pictures([prompt.sample() for prompt in prompts], pictures)
    rows = [
        row
        for first in range(0, len(prompts), PICTURES_AT_ONCE)
        for row in _rows(prompts[first : first + PICTURES_AT_ONCE], pictures, detector, segmenter)
    ]
    return pa.Table.from_pylist(rows, schema=MIG_INSTANCES)


def pictures_found(instances: pa.Table) -> list[list[InstanceFound]]:
    """What :mod:`evaluation.benchmarks.coco_mig` scores, a list a picture."""
    by_picture: dict[str, list[InstanceFound]] = {}
    for row in instances.select(["prompt_id", "best_iou", "color_share"]).to_pylist():
        found = InstanceFound(row["best_iou"], row["color_share"])
        by_picture.setdefault(row["prompt_id"], []).append(found)
    return list(by_picture.values())


def _rows(
    prompts: Sequence[MigPrompt], pictures: Mapping[str, bytes], detector: Detector, segmenter: Segmenter
) -> Iterator[dict[str, Any]]:
    found = found_boxes([_asked(prompt) for prompt in prompts], pictures, detector, label_of=str)
    masks = _masks(prompts, pictures, segmenter)
    for prompt in prompts:
        image = _decoded(pictures[prompt.prompt_id], prompt.prompt_id)
        for number, own in enumerate(prompt.instances):
            seen = [box for box in found[prompt.prompt_id] if box.label == own.name]
            boxes = [tuple(box.box_xyxy_norm) for box in seen]
            kept = [boxes[index] for index in without_overlaps(boxes, [box.score for box in seen])]
            mask = masks.get((prompt.prompt_id, number), np.zeros(image.shape[:2], bool))
            result = found_of(own.box_xyxy_norm, own.color, kept, image, _as_large(mask, image))
            yield {
                "prompt_id": prompt.prompt_id, "instance": number, "color": own.color, "name": own.name,
                "box_xyxy_norm": list(own.box_xyxy_norm), "best_iou": result.best_iou,
                "color_share": result.color_share, "in_place": result.in_place, "in_color": result.in_color,
                "num_instances": len(prompt.instances), "detector": detector.name, "segmenter": segmenter.name,
            }  # fmt: skip


def _asked(prompt: MigPrompt) -> LayoutSample:
    """Classes without their colours: the detector is asked where a thing is, not how it looks."""
    boxes = tuple(AskedBox(own.name, own.name, own.box_xyxy_norm) for own in prompt.instances)
    return replace(prompt.sample(), boxes=boxes)


def _masks(
    prompts: Sequence[MigPrompt], pictures: Mapping[str, bytes], segmenter: Segmenter
) -> dict[tuple[str, int], Bool[np.ndarray, "h w"]]:
    """The mask at every wanted box; none where the segmenter draws none."""
    places = [(prompt, number) for prompt in prompts for number in range(len(prompt.instances))]
    ids = [prompt.prompt_id for prompt, _ in places]
    rows = pa.table(
        {
            "entity_id": [str(number) for number in range(len(places))],
            "box_xyxy_norm": [list(prompt.instances[number].box_xyxy_norm) for prompt, number in places],
            "image": pa.array([pictures[name] for name in ids], pa.binary()),
        }
    )
    if segmenter.regions is not None:
        own = {prompt.prompt_id: pictures[prompt.prompt_id] for prompt in prompts}
        looked = pa.table({"sample_id": list(own), "image": pa.array(list(own.values()), pa.binary())})
        by_id = regions_by_id(looked, segmenter.regions)
        rows = rows.append_column("regions", as_regions([by_id[name] for name in ids]))
    return {
        (places[int(row["entity_id"])][0].prompt_id, places[int(row["entity_id"])][1]): decode_mask(
            row["mask_rle"], *row["mask_size"]
        )
        for row in segmenter.draw(rows).to_pylist()
    }


def _decoded(data: bytes, name: str) -> UInt8[np.ndarray, "height width 3"]:
    from evaluation.perception.decoding import decode_image

    return decode_image(data, f"picture of prompt {name}")


def _as_large(
    mask: Bool[np.ndarray, "h w"], image: UInt8[np.ndarray, "height width 3"]
) -> Bool[np.ndarray, "height width"]:
    """A mask at the picture's size, which segmenters may leave."""
    if mask.shape == image.shape[:2]:
        return mask
    rows, columns = (
        np.arange(side) * small // side for side, small in zip(image.shape[:2], mask.shape, strict=True)
    )
    return mask[rows][:, columns]
