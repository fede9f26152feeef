"""Tables of scores of models."""

from __future__ import annotations

import pyarrow as pa

from evaluation.tables.columns import bounds, described

DENOISING_ERRORS = pa.schema(
    [
        described("recipe", pa.string(), "recipe of the model"),
        described("sample_id", pa.string(), "held-out sample"),
        described("split", pa.string(), "split of the sample"),
        described("level_index", pa.int32(), "position in the grid of noise levels, 0 is the cleanest"),
        described("sigma", pa.float32(), "noise-to-signal ratio sigma / alpha"),
        described("squared_error", pa.float32(), "mean squared error of the predicted clean latent"),
        described("model_digest", pa.string(), "content digest of the model's folder"),
        described(
            "dataset_digest", pa.string(), "content digest of the training shards that held the sample"
        ),
        described("function_version", pa.int32(), "declared version of the function that made the row"),
    ]
)

ALIGNMENT_SCORES = pa.schema(
    [
        described("recipe", pa.string(), "recipe of the model, 'real' for held-out pictures (the ceiling)"),
        described("prompt_id", pa.string(), "sha256 of the prompt's bytes"),
        described("split", pa.string(), "split that the prompt comes from"),
        described("seed", pa.int64(), "seed of the starting noise"),
        described("cosine", pa.float32(), "judge's cosine of picture and prompt, in [-1, 1]"),
        described(
            "shuffled_cosine", pa.float32(), "mean cosine of the picture with all other prompts: the floor"
        ),
        described(
            "top1_of_k", pa.float32(), "chance that the prompt beats k - 1 others drawn at random, [0, 1]"
        ),
        described("judge_digest", pa.string(), "content digest of the judge"),
        described("function_version", pa.int32(), "declared version of the function that made the row"),
    ]
)

PRUNING_COMPARISON = pa.schema(
    [
        described("recipe", pa.string(), "recipe of the pruned model"),
        described("model", pa.string(), "model that was pruned"),
        described("method", pa.string(), "how its units were scored"),
        described("recovery", pa.string(), "what was trained after pruning: none, all weights, or adapters"),
        described("scores", pa.string(), "recipe of the scores"),
        described(
            "sparsity",
            pa.float64(),
            "share of units removed, the largest of its kinds; null by threshold",
            nullable=True,
        ),
        described("scope", pa.string(), "units ranked over all modules (global) or within each (layer)"),
        described("score_per", pa.string(), "what scores are divided by before ranking"),
        described("parameters", pa.int64(), "parameters of the pruned backbone"),
        described("parameters_left", pa.float64(), "the same over the whole model's"),
        described("macs_left", pa.float64(), "multiply-adds over the whole model's"),
        described("milliseconds", pa.float64(), "measured forward pass of a batch of 8, median"),
        described(
            "speedup", pa.float64(), "the whole model's milliseconds over the pruned one's, in one run"
        ),
        described("peak_memory_left", pa.float64(), "peak memory of a forward pass over the whole model's"),
        described("judge_cosine", pa.float64(), "mean judge cosine of held-out prompts, [-1, 1]"),
        *bounds("judge_cosine"),
        described("relative", pa.float64(), "pruned minus whole over the whole's cosine, paired by prompt"),
        *bounds("relative"),
        described(
            "intervals_overlap",
            pa.bool_(),
            "minimal degradation: the judge's interval overlaps the whole model's",
        ),
        described("ssim", pa.float64(), "mean structural similarity to the whole model's picture"),
        described("scoring_seconds", pa.float64(), "what scoring took, on the machine of its run"),
        described("scoring_evaluations", pa.int64(), "forward passes of the network for the scores"),
        described("scoring_gradients", pa.int64(), "of these, with a backward pass"),
    ]
)

SMALLER_MODEL_SCORES = pa.schema(
    [
        described("recipe", pa.string(), "recipe of the smaller model"),
        described("parent", pa.string(), "model that it was made from"),
        described("model", pa.string(), "parent or child"),
        described("parameters", pa.int64(), "parameters of the backbone"),
        described(
            "macs", pa.int64(), "multiply-adds of one forward pass of one image, attention products included"
        ),
        described(
            "milliseconds",
            pa.float64(),
            "measured forward pass of a batch of 8, median, on the machine of the run",
        ),
        described(
            "peak_memory_bytes",
            pa.int64(),
            "weights and the most tensors that a forward pass of a batch of 8 has alive at once, float32, counted",
        ),
        described(
            "judge_cosine", pa.float64(), "mean judge cosine of held-out prompts and pictures, [-1, 1]"
        ),
        *bounds("judge_cosine"),
        described(
            "relative",
            pa.float64(),
            "child minus parent over the parent's cosine, paired by prompt",
            nullable=True,
        ),
        *bounds("relative", nullable=True),
        described(
            "ssim",
            pa.float64(),
            "mean structural similarity to the parent's picture at equal noise",
            nullable=True,
        ),
        described("num_steps", pa.int32(), "evaluations of the scheduler"),
        described("guidance", pa.float64(), "classifier-free guidance scale, 1 is none"),
        described("num_prompts", pa.int32(), "held-out prompts that were drawn"),
        described(
            "prompt_cosines", pa.list_(pa.float32()), "the judge's cosine of each prompt, in their order"
        ),
        described(
            "sheet",
            pa.binary(),
            "JPEG: the parent's pictures above the child's, from the same noise",
            nullable=True,
        ),
        described("model_digest", pa.string(), "content digest of the child's folder"),
    ]
)

LAYOUT_SCORES = pa.schema(
    [
        described("recipe", pa.string(), "recipe of the layout model"),
        described(
            "drawn",
            pa.string(),
            "real, reconstructed, base (no layout), told, exchanged (left and right), or base_by_exchanged: the base's "
            "pictures by the exchanged boxes",
        ),
        described(
            "in_box", pa.float64(), "share of the told objects recognised with their centre in their box"
        ),
        *bounds("in_box"),
        described("in_box_floor", pa.float64(), "the same sought in the pictures of all other layouts"),
        described(
            "moved_in_box",
            pa.float64(),
            "in_box of the objects alone that an exchange moves: neither box holds the other's centre; null without any",
            nullable=True,
        ),
        *bounds("moved_in_box", nullable=True),
        described("num_moved", pa.int32(), "objects that an exchange of left and right moves"),
        described("shown", pa.float64(), "share of the told objects recognised anywhere in the picture"),
        *bounds("shown"),
        described("num_objects", pa.int32(), "told entities whose object the hidden truth names"),
        described("num_pictures", pa.int32(), "held-out layouts"),
        described("num_steps", pa.int32(), "evaluations of the scheduler"),
        described("guidance", pa.float64(), "scale of guidance from no text and no layout"),
        described("strength", pa.float64(), "of the branch, 0 is the base"),
        described("judged_by", pa.string(), "name of the recogniser"),
        described("model_digest", pa.string(), "content digest of the model's folder"),
    ]
)

LAYOUT_EVALUATION = pa.schema(
    [
        described("what", pa.string(), "model, or contrast of two"),
        described("kind", pa.string(), "asset that the layout model is a partition of"),
        described("recipe", pa.string(), "the layout model, the first of a contrast"),
        described("branch", pa.string(), "how it is told of boxes"),
        described("other", pa.string(), "the second of a contrast, null else", nullable=True),
        described("other_branch", pa.string(), "how that one is told of boxes", nullable=True),
        described("metric", pa.string(), "name of the metric, as in model_scores"),
        described("value", pa.float64(), "of a model; of a contrast the first's minus the second's"),
        *bounds("value"),
        described("status", pa.string(), "of a contrast: holds, fails or inside the noise", nullable=True),
        described(
            "num_objects",
            pa.int32(),
            "what the share is of, null where the figure is none of a count",
            nullable=True,
        ),
        described("num_pictures", pa.int32(), "held-out layouts"),
        described("judged_by", pa.string(), "name of the recogniser"),
        described("model_digest", pa.string(), "content digest of the model's folder"),
    ]
)

PRUNING_STEP_ERRORS = pa.schema(
    [
        described("recipe", pa.string(), "recipe of the pruned model"),
        described("step", pa.int32(), "sampling step, 1 is the one from pure noise"),
        described(
            "timestep", pa.float64(), "the scheduler's timestep of the step, at most 1000, noise first"
        ),
        described(
            "relative_error",
            pa.float64(),
            "squared error of the guided prediction over the dense model's square, on the dense model's own path, "
            "mean over prompts",
        ),
        *bounds("relative_error"),
        described(
            "state_distance",
            pa.float64(),
            "mean squared difference of the two models' own latents after the step, from the same noise",
        ),
    ]
)

DISTILLATION_STUDY = pa.schema(
    [
        described("what", pa.string(), "cell or contrast"),
        described("name", pa.string(), "the cell, or the factor that the contrast is about"),
        described("num_seeds", pa.int32(), "trainings that the figures rest on"),
        described("parameters", pa.int64(), "of the student; empty for contrasts", nullable=True),
        described(
            "value",
            pa.float64(),
            "judge cosine, mean over seeds; of a contrast, left minus right",
            nullable=True,
        ),
        described("low", pa.float64(), "lower end of the 95 % interval", nullable=True),
        described("high", pa.float64(), "upper end of the 95 % interval", nullable=True),
        described("left", pa.string(), "the cell that the paper says is better", nullable=True),
        described("right", pa.string(), "the cell that it is held against", nullable=True),
        described(
            "status", pa.string(), "holds, fails, inside the noise, or what it waits for", nullable=True
        ),
    ]
)

MODEL_SCORES = pa.schema(
    [
        described("kind", pa.string(), "asset that holds the model"),
        described("recipe", pa.string(), "recipe (partition) of the model"),
        described("metric", pa.string(), "name in the registry of metrics"),
        described("split", pa.string(), "held-out split; held_out for all of them together"),
        described("value", pa.float64(), "the metric, measured as scale says"),
        described("low", pa.float64(), "lower end of the 95 % interval"),
        described("high", pa.float64(), "upper end of the 95 % interval"),
        described("n", pa.int64(), "units that the value and its interval rest on"),
        described("unit", pa.string(), "what is resampled: prompt or held-out sample"),
        described("scale", pa.string(), "what the value is measured in, with its range"),
        described("better", pa.string(), "up where more is better, else down"),
        described(
            "by_unit",
            pa.list_(pa.float32()),
            "the value of each unit, in one order for a protocol: two models are compared unit by unit; null: it has no single one",
            nullable=True,
        ),
        described("model_digest", pa.string(), "content digest of the model's folder"),
        described(
            "protocol_digest", pa.string(), "sha256 of the protocol; values compare where it is the same"
        ),
        described(
            "protocol",
            pa.string(),
            "JSON: metric and its version, prompts, steps, guidance, digests of judge and data",
        ),
    ]
)

FEW_STEP_SCORES = pa.schema(
    [
        described("recipe", pa.string(), "recipe of the student"),
        described("teacher", pa.string(), "recipe of its teacher"),
        described("model", pa.string(), "teacher or student"),
        described("num_steps", pa.int32(), "evaluations of the model's scheduler"),
        described(
            "judge_cosine", pa.float64(), "mean judge cosine of held-out prompts and pictures, [-1, 1]"
        ),
        *bounds("judge_cosine"),
        described(
            "above_teacher", pa.float64(), "cosine minus the teacher's in as many steps", nullable=True
        ),
        *bounds("above_teacher", nullable=True),
        described(
            "path_error",
            pa.float64(),
            "root mean square distance in 8-bit pixels to the teacher's picture in 16 steps from the same noise",
            nullable=True,
        ),
        described("num_prompts", pa.int32(), "held-out prompts that were drawn"),
        described("model_digest", pa.string(), "content digest of the student's folder"),
    ]
)

EVALUATION_TABLE = pa.schema(
    [
        described("recipe", pa.string(), "recipe of the model"),
        described("family", pa.string(), "transformer, unet, autoencoder or judge"),
        described("backbone", pa.string(), "registry name of the backbone"),
        described("parameters", pa.int64(), "trainable parameters"),
        described("images_seen", pa.int64(), "images seen in training"),
        described("seed", pa.int64(), "training seed"),
        described("training_seconds", pa.float64(), "wall seconds of the training", nullable=True),
        described("split", pa.string(), "split the scores were taken on"),
        described("denoising_error", pa.float64(), "mean squared error of the clean latent", nullable=True),
        *bounds("denoising_error", nullable=True),
        described("judge_cosine", pa.float64(), "mean judge cosine of generated pictures", nullable=True),
        *bounds("judge_cosine", nullable=True),
        described("judge_ceiling", pa.float64(), "the same on real held-out pictures", nullable=True),
        described("judge_floor", pa.float64(), "the same with shuffled prompts", nullable=True),
        described(
            "judge_top1_of_k", pa.float64(), "chance to pick the right prompt among k, [0, 1]", nullable=True
        ),
        described(
            "kid_efflite0", pa.float64(), "KID on EfficientNet-Lite0 features, 0 is equal", nullable=True
        ),
        described("kid_efflite0_standard_error", pa.float64(), "jackknife standard error", nullable=True),
        described("num_generated", pa.int64(), "pictures scored"),
        described("model_digest", pa.string(), "content digest of the model's folder"),
    ]
)
