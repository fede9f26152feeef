"""Masks of boxes from tiny SAM and SAM 2 checkpoints."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from evaluation.perception.hub.images import open_image
from evaluation.perception.hub.loading import load
from evaluation.perception.hub.masking import draw_masks
from evaluation.perception.hub.models import HubPerceptionModel
from evaluation.perception.hub.settings import read_settings
from evaluation.perception.run_lengths import decode_mask
from evaluation.tables.perception import MASKS
from tests.evaluation.perception.hub.conftest import Checkpoint, png
from training.errors import FoundryError

BOXES = [[0.1, 0.1, 0.5, 0.6], [0.2, 0.2, 0.9, 0.9], [0.5, 0.5, 0.8, 0.9]]


@pytest.fixture(scope="module")
def rows() -> pa.Table:
    images = [png(1, 48, 32), png(2, 40, 60), png(1, 48, 32)]
    boxes = pa.array(BOXES, pa.list_(pa.float32(), 4))
    return pa.table({"entity_id": ["e1", "e2", "e3"], "image": images, "box_xyxy_norm": boxes})


def run(settings: dict[str, Any], rows: pa.Table) -> pa.Table:
    factory, kwargs = HubPerceptionModel("tiny", settings, "masks").worker()
    return factory(**kwargs)(rows)


@pytest.mark.parametrize("name", ["sam", "sam2"])
def test_masks_have_the_form_and_do_not_depend_on_the_batch(
    name: str, checkpoint: Checkpoint, rows: pa.Table
) -> None:
    settings = {"family": name, "path": str(checkpoint(name)), "device": "cpu", "max_image_side": 50}
    alone = run(settings | {"batch_size": 1}, rows).sort_by("entity_id")
    together = run(settings | {"batch_size": 3}, rows).sort_by("entity_id")
    assert alone.schema.equals(MASKS)
    assert alone["entity_id"].to_pylist() == ["e1", "e2", "e3"]
    assert alone["mask_size"].to_pylist() == [[32, 48], [50, 33], [32, 48]]
    for one, other in zip(alone.to_pylist(), together.to_pylist(), strict=True):
        first, second = (decode_mask(row["mask_rle"], *row["mask_size"]) for row in (one, other))
        assert (first != second).mean() < 0.01  # the last bit of a logit near zero may turn a pixel
        assert first.any()
        assert one["score"] == pytest.approx(other["score"], abs=1e-5)
        assert 0 <= one["score"] <= 1
    assert alone["mask_rle"][0] != alone["mask_rle"][2]  # two boxes of one image


@pytest.mark.parametrize("name", ["sam", "sam2"])
def test_boxes_reach_the_model_in_its_own_pixels(name: str, checkpoint: Checkpoint) -> None:
    settings = read_settings({"family": name, "path": "x", "device": "cpu"}, "masks")
    loaded = load(checkpoint(name), settings)
    image = open_image(png(1, 48, 32), "e", 1024)
    masks, scores = draw_masks(loaded, image, np.array([[0.25, 0.5, 0.75, 1.0]]))
    pixels = loaded.processor(images=image, return_tensors="pt")["pixel_values"]
    # Both are fed 64 x 64: SAM keeps the shape (64 x 43 and padding), SAM 2 stretches.
    scale = (64 / 48, 43 / 32) if name == "sam" else (64 / 48, 64 / 32)
    box = torch.tensor([[[12 * scale[0], 16 * scale[1], 36 * scale[0], 32 * scale[1]]]])
    with torch.inference_mode():
        output = loaded.model(pixel_values=pixels, input_boxes=box, multimask_output=False)
    assert scores[0] == pytest.approx(output.iou_scores.clamp(0, 1).item(), abs=1e-6)
    low = output.pred_masks[0]
    large = torch.nn.functional.interpolate(low, (64, 64), mode="bilinear", align_corners=False)
    seen = large[..., :43, :] if name == "sam" else low
    expected = torch.nn.functional.interpolate(seen, (32, 48), mode="bilinear", align_corners=False)[0, 0] > 0
    assert (masks[0] != expected.numpy()).mean() < 0.01


def test_a_broken_image_is_named(checkpoint: Checkpoint, rows: pa.Table) -> None:
    torn = rows.set_column(1, "image", pa.array([b"x"] * 3))
    with pytest.raises(FoundryError, match="entity e1"):
        run({"family": "sam", "path": str(checkpoint("sam")), "device": "cpu"}, torn)
