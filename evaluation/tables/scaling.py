"""Tables of the scaling grid and of what laws are fitted on."""

from __future__ import annotations

import pyarrow as pa

from evaluation.tables.columns import described

SCALING_OBSERVATIONS = pa.schema(
    [
        described("family", pa.string(), "models that share a law: transformer or unet"),
        described("recipe", pa.string(), "recipe of the model"),
        described("metric", pa.string(), "denoising_error or judge_cosine"),
        described("parameters", pa.int64(), "trainable parameters"),
        described("images_seen", pa.int64(), "images seen in training"),
        described("training_gflops", pa.float64(), "3 x forward FLOPs x images seen, in 1e9"),
        described("seed", pa.int64(), "training seed"),
        described("value", pa.float64(), "the metric"),
        described("standard_error", pa.float64(), "standard error over held-out samples"),
        described("macs", pa.int64(), "multiply-adds of one forward pass of one image"),
        described("mix", pa.string(), "caption mix of the training"),
        described("filter", pa.string(), "curated, or raw: also what curation dropped"),
        described("data_images", pa.int64(), "training samples that take part, null: all", nullable=True),
        described("concepts", pa.int64(), "commonest nouns that samples may name, null: all", nullable=True),
        described(
            "image_noun_pairs",
            pa.int64(),
            "pairs of a training image and a noun of its captions (I-N), null: not counted",
            nullable=True,
        ),
        described("wall_seconds", pa.float64(), "wall seconds of training up to here", nullable=True),
        described("hardware", pa.string(), "what it was trained on, empty where it is not known"),
        described("profile", pa.string(), "profile whose scale it is"),
    ]
)

SCALING_SCORES = pa.schema(
    [
        described("recipe", pa.string(), "grid point"),
        described("size", pa.string(), "name on the grid's axis of sizes"),
        described("data", pa.string(), "name on the grid's axis of data"),
        described("mix", pa.string(), "original, recaptioned or mixed captions"),
        described("seed", pa.int64(), "training seed"),
        described("metric", pa.string(), "denoising_error, judge_cosine or judge_top1"),
        described("images_seen", pa.int64(), "images seen when it was scored"),
        described("value", pa.float64(), "mean over held-out samples"),
        described("standard_error", pa.float64(), "standard error of that mean"),
        described(
            "by_sample", pa.list_(pa.float32()), "the metric of each held-out sample, in a fixed order"
        ),
        described("family", pa.string(), "transformer or unet"),
        described("backbone", pa.string(), "registry name of the backbone"),
        described("parameters", pa.int64(), "trainable parameters"),
        described("macs", pa.int64(), "multiply-adds of one forward pass of one image"),
        described("training_gflops", pa.float64(), "3 x 2 x macs x images seen, in 1e9"),
        described("filter", pa.string(), "curated, or raw: also what curation dropped"),
        described("concepts", pa.int64(), "commonest nouns that samples may name, null: all", nullable=True),
        described("data_images", pa.int64(), "training samples that take part"),
        described(
            "image_noun_pairs", pa.int64(), "pairs of a training image and a noun of its captions (I-N)"
        ),
        described("wall_seconds", pa.float64(), "wall seconds of training up to here"),
        described("hardware", pa.string(), "what it was trained on"),
        described("profile", pa.string(), "profile whose scale it is"),
        described("model_digest", pa.string(), "content digest of the run's final model"),
        described("function_version", pa.int32(), "declared version of the function that made the row"),
    ]
)

SCALING_EFFICIENCY = pa.schema(
    [
        described("size", pa.string(), "name on the grid's axis of sizes"),
        described("data", pa.string(), "name on the grid's axis of data"),
        described("mix", pa.string(), "original, recaptioned or mixed captions"),
        described("metric", pa.string(), "the score"),
        described("target", pa.float64(), "value to reach"),
        described("seeds", pa.int64(), "runs of the cell"),
        described("reached", pa.int64(), "runs that got there"),
        described("images", pa.float64(), "images to get there, null unless all did", nullable=True),
        described("images_low", pa.float64(), "lower end of the 95 % interval over seeds", nullable=True),
        described("images_high", pa.float64(), "upper end, infinite for one seed", nullable=True),
        described("gflops", pa.float64(), "training compute to get there, in 1e9", nullable=True),
        described("at_most", pa.bool_(), "some run was there at its first count: an upper bound"),
        described("outcome", pa.string(), "in words"),
    ]
)
