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
