"""Tables of scores: Arrow schemas whose field metadata carries meaning, units and ranges."""

from __future__ import annotations

import pyarrow as pa


def _field(name: str, kind: pa.DataType, about: str, *, nullable: bool = False) -> pa.Field:
    return pa.field(name, kind, nullable=nullable, metadata={"description": about})


GENERATED_SAMPLES = pa.schema(
    [
        _field("recipe", pa.string(), "recipe (partition) of the model that made the picture"),
        _field("prompt_id", pa.string(), "sha256 of the prompt's bytes"),
        _field("sample_id", pa.string(), "held-out sample whose text is the prompt, empty for a free prompt"),
        _field("split", pa.string(), "split that the prompt comes from"),
        _field("prompt", pa.string(), "text the picture was made from, untrusted"),
        _field("seed", pa.int64(), "seed of the starting noise; equal for the same prompt in all models"),
        _field("num_steps", pa.int32(), "evaluations of the model's scheduler"),
        _field("guidance", pa.float32(), "classifier-free guidance scale, 1 is none"),
        _field("image", pa.binary(), "PNG bytes"),
        _field("model_digest", pa.string(), "content digest of the model's folder"),
        _field("function_version", pa.int32(), "declared version of the function that made the row"),
    ]
)

DENOISING_ERRORS = pa.schema(
    [
        _field("recipe", pa.string(), "recipe of the model"),
        _field("sample_id", pa.string(), "held-out sample"),
        _field("split", pa.string(), "split of the sample"),
        _field("level_index", pa.int32(), "position in the grid of noise levels, 0 is the cleanest"),
        _field("sigma", pa.float32(), "noise-to-signal ratio sigma / alpha"),
        _field("squared_error", pa.float32(), "mean squared error of the predicted clean latent"),
        _field("model_digest", pa.string(), "content digest of the model's folder"),
        _field("dataset_digest", pa.string(), "content digest of the training shards that held the sample"),
        _field("function_version", pa.int32(), "declared version of the function that made the row"),
    ]
)

ALIGNMENT_SCORES = pa.schema(
    [
        _field("recipe", pa.string(), "recipe of the model, 'real' for held-out pictures (the ceiling)"),
        _field("prompt_id", pa.string(), "sha256 of the prompt's bytes"),
        _field("split", pa.string(), "split that the prompt comes from"),
        _field("seed", pa.int64(), "seed of the starting noise"),
        _field("cosine", pa.float32(), "judge's cosine of picture and prompt, in [-1, 1]"),
        _field(
            "shuffled_cosine", pa.float32(), "mean cosine of the picture with all other prompts: the floor"
        ),
        _field(
            "top1_of_k", pa.float32(), "chance that the prompt beats k - 1 others drawn at random, [0, 1]"
        ),
        _field("judge_digest", pa.string(), "content digest of the judge"),
        _field("function_version", pa.int32(), "declared version of the function that made the row"),
    ]
)

SCALING_OBSERVATIONS = pa.schema(
    [
        _field("family", pa.string(), "models that share a law: transformer or unet"),
        _field("recipe", pa.string(), "recipe of the model"),
        _field("metric", pa.string(), "denoising_error or judge_cosine"),
        _field("parameters", pa.int64(), "trainable parameters"),
        _field("images_seen", pa.int64(), "images seen in training"),
        _field("training_gflops", pa.float64(), "3 x forward FLOPs x images seen, in 1e9"),
        _field("seed", pa.int64(), "training seed"),
        _field("value", pa.float64(), "the metric"),
        _field("standard_error", pa.float64(), "standard error over held-out samples"),
    ]
)

EVALUATION_TABLE = pa.schema(
    [
        _field("recipe", pa.string(), "recipe of the model"),
        _field("family", pa.string(), "transformer, unet, autoencoder or judge"),
        _field("backbone", pa.string(), "registry name of the backbone"),
        _field("parameters", pa.int64(), "trainable parameters"),
        _field("images_seen", pa.int64(), "images seen in training"),
        _field("seed", pa.int64(), "training seed"),
        _field("training_seconds", pa.float64(), "wall seconds of the training", nullable=True),
        _field("split", pa.string(), "split the scores were taken on"),
        _field("denoising_error", pa.float64(), "mean squared error of the clean latent", nullable=True),
        _field("denoising_error_low", pa.float64(), "lower end of the 95 % interval", nullable=True),
        _field("denoising_error_high", pa.float64(), "upper end of the 95 % interval", nullable=True),
        _field("judge_cosine", pa.float64(), "mean judge cosine of generated pictures", nullable=True),
        _field("judge_cosine_low", pa.float64(), "lower end of the 95 % interval", nullable=True),
        _field("judge_cosine_high", pa.float64(), "upper end of the 95 % interval", nullable=True),
        _field("judge_ceiling", pa.float64(), "the same on real held-out pictures", nullable=True),
        _field("judge_floor", pa.float64(), "the same with shuffled prompts", nullable=True),
        _field(
            "judge_top1_of_k", pa.float64(), "chance to pick the right prompt among k, [0, 1]", nullable=True
        ),
        _field("kid_efflite0", pa.float64(), "KID on EfficientNet-Lite0 features, 0 is equal", nullable=True),
        _field("kid_efflite0_standard_error", pa.float64(), "jackknife standard error", nullable=True),
        _field("num_generated", pa.int64(), "pictures scored"),
        _field("model_digest", pa.string(), "content digest of the model's folder"),
    ]
)


# What perception says about an image; assets/schemas.py declares the same table (a test compares the two).
_SAMPLE_ID = _field(
    "sample_id", pa.string(), "digest of (image_id, source, key): one image with two alt-texts is two samples"
)
_BOX_XYXY_NORM = pa.list_(pa.float32(), 4)
_MADE_BY = [
    _field("model", pa.string(), "name of the model that made the row"),
    _field("model_digest", pa.string(), "sha256 over the model's weights and parameters"),
    _field("function_version", pa.int32(), "declared version of the function that made the row"),
]

REGIONS = pa.schema(
    [
        _SAMPLE_ID,
        _field("region_index", pa.int32(), "0 is the largest region"),
        _field("box_xyxy_norm", _BOX_XYXY_NORM, "normalised x1, y1, x2, y2"),
        _field("area_fraction", pa.float32(), "foreground pixels over image pixels, in [0, 1]"),
        _field("color", pa.string(), "measured main colour, a word"),
        _field("names", pa.list_(pa.string()), "candidate names, best first"),
        _field("name_scores", pa.list_(pa.float32()), "calibrated probability of each candidate, in [0, 1]"),
        _field("name_source", pa.string(), "concept_bank, conse or none"),
        _field("text", pa.string(), "text read in the region, empty when none"),
        _field("text_score", pa.float32(), "confidence of the reading in [0, 1]"),
        _field("background_kind", pa.string(), "plain, gradient, two-tone, checkered or unknown"),
        _field("background_color", pa.string(), "measured colours of the background, such as 'blue and red'"),
        *_MADE_BY,
    ]
)
