"""Tables of COCO-MIG: what was found of every instance."""

from __future__ import annotations

import pyarrow as pa

from evaluation.tables.columns import described
from evaluation.tables.perception import BOX_XYXY_NORM

MIG_INSTANCES = pa.schema(
    [
        described("prompt_id", pa.string(), "prompt of the benchmark"),
        described("instance", pa.int32(), "position among the prompt's instances, 0-based"),
        described("color", pa.string(), "colour that was asked for"),
        described("name", pa.string(), "class that was asked for"),
        described("box_xyxy_norm", BOX_XYXY_NORM, "where it was asked for, normalised x1, y1, x2, y2"),
        described(
            "best_iou", pa.float64(), "IoU of the found box of its class that overlaps most; 0 for none"
        ),
        described(
            "color_share", pa.float64(), "share of the mask at the wanted box in the colour's range, [0, 1]"
        ),
        described("in_place", pa.bool_(), "best_iou is .5 or more"),
        described("in_color", pa.bool_(), "color_share is .2 or more"),
        described("num_instances", pa.int32(), "instances of the prompt: its level"),
        described("detector", pa.string(), "who found boxes; scores of two detectors do not compare"),
        described("segmenter", pa.string(), "who drew masks"),
    ]
)
