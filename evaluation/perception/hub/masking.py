"""Role masks: SAM and SAM 2 asked with boxes, answered as compressed run lengths."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Bool, Float

from evaluation.perception.hub.box_conventions import to_pixels
from evaluation.perception.hub.images import open_image
from evaluation.perception.hub.loading import Loaded
from evaluation.perception.hub.rows import Maker
from evaluation.perception.hub.settings import HubModel
from evaluation.perception.run_lengths import encode_mask
from evaluation.tables.perception import MASKS

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True)
class HubMasker:
    """Batch function of role masks: rows (entity_id, box_xyxy_norm, image) to one mask each.

    Entities of one image that come in the same batch share its encoding. A mask has the size of the image after it
    was reduced to ``max_image_side``.
    """

    loaded: Loaded
    settings: HubModel
    maker: Maker

    def __call__(self, rows: pa.Table) -> pa.Table:
        """Masks of the rows' boxes. Raises FoundryError naming the entity whose image is broken."""
        by_image: dict[bytes, list[dict[str, Any]]] = {}
        for row in rows.to_pylist():
            by_image.setdefault(row["image"], []).append(row)
        answers = []
        for data, members in by_image.items():
            image = open_image(data, f"entity {members[0]['entity_id']}", self.settings.max_image_side)
            for first in range(0, len(members), self.settings.batch_size):
                answers += self._rows(image, members[first : first + self.settings.batch_size])
        return pa.Table.from_pylist(answers, schema=MASKS)

    def _rows(self, image: Image.Image, members: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        boxes = np.array([row["box_xyxy_norm"] for row in members], dtype=np.float64)
        masks, scores = draw_masks(self.loaded, image, boxes)
        return [
            {
                "entity_id": row["entity_id"],
                "mask_rle": encode_mask(mask),
                "mask_size": [image.height, image.width],
                "score": float(score),
                **self.maker.columns(),
            }
            for row, mask, score in zip(members, masks, scores, strict=True)
        ]


@torch.inference_mode()
def draw_masks(
    loaded: Loaded, image: Image.Image, boxes: Float[np.ndarray, "n 4"]
) -> tuple[Bool[np.ndarray, "n h w"], Float[np.ndarray, " n"]]:
    """One mask for each normalised box, in pixels of the image, with the model's estimate of its IoU in [0, 1]."""
    pixels = to_pixels(boxes, image.width, image.height).tolist()
    inputs = loaded.processor(images=image, input_boxes=[pixels], return_tensors="pt")
    # A box says well enough which object is meant: one mask, not three guesses (SAM, section 3).
    output = loaded.model(**_asked(loaded.to_device(inputs)), multimask_output=False)
    sizes = [inputs["original_sizes"]]
    if "reshaped_input_sizes" in inputs:  # SAM pads, SAM 2 stretches
        sizes.append(inputs["reshaped_input_sizes"])
    masks = loaded.processor.post_process_masks(output.pred_masks.float().cpu(), *sizes)[0]
    scores = output.iou_scores.float().cpu().reshape(len(boxes)).clamp(0, 1)
    return masks[:, 0].numpy().astype(bool), scores.double().numpy()


def _asked(inputs: dict[str, Any]) -> dict[str, Any]:
    return {name: inputs[name] for name in ("pixel_values", "input_boxes")}
