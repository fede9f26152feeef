"""Tables of what a backbone consists of, and how alike its blocks are."""

from __future__ import annotations

import pyarrow as pa

from evaluation.tables.columns import described

BACKBONE_ANALYSIS = pa.schema(
    [
        described("recipe", pa.string(), "recipe (partition) of the model"),
        described("stage_index", pa.int32(), "place of the stage in the forward pass, from 0"),
        described(
            "stage", pa.string(), "input, down.0 ..., mid, up.0 ..., groups of blocks, output or between"
        ),
        described("kind", pa.string(), "self_attention, cross_attention, feed_forward, residual or rest"),
        described("parameters", pa.int64(), "parameters that the part owns; all parts add up to the model"),
        described("macs", pa.int64(), "multiply-adds of linears and convolutions, one image, 77 tokens"),
        described("attention_product_macs", pa.int64(), "multiply-adds of QK^T and AV"),
        described(
            "milliseconds", pa.float64(), "time of the part, median over the timed passes", nullable=True
        ),
        described("latent", pa.int32(), "side of the latent"),
        described("timed_runs", pa.int32(), "passes that were timed, 0 for none"),
        described("model_digest", pa.string(), "content digest of the model's folder"),
        described("function_version", pa.int32(), "declared version of the function that made the row"),
    ]
)

BLOCK_SIMILARITIES = pa.schema(
    [
        described("recipe", pa.string(), "recipe (partition) of the model"),
        described("noise_level", pa.float64(), "noise level t in [0, 1], 1 is pure noise"),
        described("block_index", pa.int32(), "place of the block in the forward pass, from 0"),
        described("block", pa.string(), "name of the module"),
        described(
            "cosine",
            pa.float64(),
            "mean cosine of input and output tokens, in [-1, 1]; null where shapes differ",
            nullable=True,
        ),
        described("cka", pa.list_(pa.float64()), "linear CKA with each block by block_index, in [0, 1]"),
        described("model_digest", pa.string(), "content digest of the model's folder"),
        described("dataset_digest", pa.string(), "content digest of the training shards that were looked at"),
        described("function_version", pa.int32(), "declared version of the function that made the row"),
    ]
)
