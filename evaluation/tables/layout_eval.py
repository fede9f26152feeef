"""Tables of LayoutSAM-Eval: every answer about every box, scores over them, and how far to trust the judge."""

from __future__ import annotations

import pyarrow as pa

from evaluation.tables.columns import bounds, described
from evaluation.tables.perception import BOX_XYXY_NORM

_JUDGE = [
    described("judge", pa.string(), "name of the model that answers; scores of two judges do not compare"),
    described("judge_digest", pa.string(), "sha256 over its weights and every setting that changes answers"),
]
_ATTRIBUTES = ("color", "texture", "shape")

LAYOUT_ANSWERS = pa.schema(
    [
        described("image_id", pa.string(), "sample of the benchmark"),
        described("box_index", pa.int32(), "position among the sample's boxes, 0-based"),
        described("phrase", pa.string(), "short phrase of the entity, untrusted"),
        described("detail", pa.string(), "its detailed description, untrusted"),
        described(
            "box_xyxy_norm", BOX_XYXY_NORM, "normalised x1, y1, x2, y2, by the sample's own width and height"
        ),
        described("spatial", pa.bool_(), "whether the entity is in its box"),
        *(
            described(
                name, pa.bool_(), f"whether its {name} agrees; null where spatial is not true", nullable=True
            )
            for name in _ATTRIBUTES
        ),
        described("spatial_answer", pa.string(), "what the judge said, in full"),
        *(
            described(f"{name}_answer", pa.string(), "the same; null where it was not asked", nullable=True)
            for name in _ATTRIBUTES
        ),
        *_JUDGE,
    ]
)

LAYOUT_EVAL_SCORES = pa.schema(
    [
        described("metric", pa.string(), "spatial, color, texture or shape"),
        described(
            "value", pa.float64(), "boxes with a Yes over all boxes, [0, 1]; no attribute is above spatial"
        ),
        *bounds("value"),
        described("num_yes", pa.int64(), "boxes with a Yes"),
        described("num_asked", pa.int64(), "boxes about which it was asked"),
        described("num_boxes", pa.int64(), "all boxes"),
        described("num_prompts", pa.int64(), "prompts with a box, which the interval resamples"),
        *_JUDGE,
    ]
)

JUDGE_AGREEMENT = pa.schema(
    [
        described("question", pa.string(), "spatial or color"),
        described(
            "side", pa.string(), "yes: the phrase is what was drawn in the box; no: it is something else"
        ),
        described("accuracy", pa.float64(), "share of these questions answered by the hidden truth, [0, 1]"),
        *bounds("accuracy"),
        described("num_questions", pa.int64(), "questions of this side"),
        described(
            "num_pictures", pa.int64(), "real pictures with such a question, which the interval resamples"
        ),
        *_JUDGE,
    ]
)
