"""The table of pictures that models drew."""

from __future__ import annotations

import pyarrow as pa

from evaluation.tables.columns import described

GENERATED_SAMPLES = pa.schema(
    [
        described("recipe", pa.string(), "recipe (partition) of the model that made the picture"),
        described("prompt_id", pa.string(), "sha256 of the prompt's bytes"),
        described(
            "sample_id", pa.string(), "held-out sample whose text is the prompt, empty for a free prompt"
        ),
        described("split", pa.string(), "split that the prompt comes from"),
        described("prompt", pa.string(), "text the picture was made from, untrusted"),
        described("seed", pa.int64(), "seed of the starting noise; equal for the same prompt in all models"),
        described("num_steps", pa.int32(), "evaluations of the model's scheduler"),
        described("guidance", pa.float32(), "classifier-free guidance scale, 1 is none"),
        described("image", pa.binary(), "PNG bytes"),
        described("model_digest", pa.string(), "content digest of the model's folder"),
        described("function_version", pa.int32(), "declared version of the function that made the row"),
    ]
)

LAYOUT_PICTURES = pa.schema(
    [
        described("recipe", pa.string(), "partition of the layout model that made the picture"),
        described("sample_id", pa.string(), "held-out sample whose layout was told, or would have been"),
        described("drawn", pa.string(), "base (no layout), told, or exchanged (left and right)"),
        described("caption", pa.string(), "text the picture was made from, untrusted"),
        described("phrases", pa.list_(pa.string()), "phrases of the sample's entities, untrusted"),
        described(
            "boxes_xyxy_norm",
            pa.list_(pa.list_(pa.float32(), 4)),
            "their boxes in the sample's own picture, normalised; exchanged ones are told mirrored",
        ),
        described(
            "seed", pa.int64(), "seed of the starting noise; equal for one sample however it was drawn"
        ),
        described("num_steps", pa.int32(), "evaluations of the model's scheduler"),
        described("guidance", pa.float64(), "scale of guidance from no text and no layout"),
        described("strength", pa.float64(), "of the branch; 0 for the base"),
        described("image", pa.binary(), "PNG bytes"),
        described("model_digest", pa.string(), "content digest of the model's folder"),
    ]
)
