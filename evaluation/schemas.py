"""Tables of scores and of what perception sees: Arrow schemas whose field metadata carries meaning, units and ranges."""

from __future__ import annotations

import pyarrow as pa


def described(name: str, kind: pa.DataType, about: str, *, nullable: bool = False) -> pa.Field:
    """A column whose metadata says what it means, in which unit and range."""
    return pa.field(name, kind, nullable=nullable, metadata={"description": about})


def bounds(name: str, *, nullable: bool = False) -> list[pa.Field]:
    """The two columns of the 95 % interval of a column."""
    return [
        described(f"{name}_{end}", pa.float64(), f"{side} end of the 95 % interval", nullable=nullable)
        for end, side in (("low", "lower"), ("high", "upper"))
    ]


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


# What perception says about an image. The lowest room that uses a form declares it; assets take these from here.
SAMPLE_ID = described(
    "sample_id", pa.string(), "digest of (image_id, source, key): one image with two alt-texts is two samples"
)
BOX_XYXY_NORM = pa.list_(pa.float32(), 4)
MADE_BY = [
    described("model", pa.string(), "name of the model that made the row"),
    described("model_digest", pa.string(), "sha256 over the model's weights and parameters"),
    described("function_version", pa.int32(), "declared version of the function that made the row"),
]

REGIONS = pa.schema(
    [
        SAMPLE_ID,
        described("region_index", pa.int32(), "0 is the largest region"),
        described("box_xyxy_norm", BOX_XYXY_NORM, "normalised x1, y1, x2, y2"),
        described("area_fraction", pa.float32(), "foreground pixels over image pixels, in [0, 1]"),
        described("color", pa.string(), "measured main colour, a word"),
        described("second_color", pa.string(), "measured second colour, empty where there is none"),
        described("shape", pa.string(), "measured outline: round, square, tall, wide or irregular"),
        described("texture", pa.string(), "measured surface: smooth, striped, spotted or detailed"),
        described("mask_rle", pa.string(), "region's pixels as COCO's compressed run lengths, at mask_size"),
        described("mask_size", pa.list_(pa.int32(), 2), "height and width of the mask in pixels"),
        described("names", pa.list_(pa.string()), "candidate names, best first"),
        described(
            "name_scores", pa.list_(pa.float32()), "calibrated probability of each candidate, in [0, 1]"
        ),
        described("name_source", pa.string(), "concept_bank, conse or none"),
        described("text", pa.string(), "text read in the region, empty when none"),
        described("text_score", pa.float32(), "confidence of the reading in [0, 1]"),
        described("background_kind", pa.string(), "plain, gradient, two-tone, checkered or unknown"),
        described(
            "background_color", pa.string(), "measured colours of the background, such as 'blue and red'"
        ),
        *MADE_BY,
    ]
)

# What the roles of perception answer. A worker gets one row per unit of work and may answer any number of rows,
# each with the unit's key; :mod:`assets.deriving` stores which units were done and which failed.

CAPTIONS = pa.schema(
    [
        SAMPLE_ID,
        described("caption_index", pa.int32(), "1 .. k, best first; the original alt-text is caption 0"),
        described("caption", pa.string(), "generated caption"),
        described("score", pa.float32(), "the captioner's confidence in [0, 1]"),
        described("prompt", pa.string(), "prompt or template that it answers"),
        described("decoding", pa.string(), "decoding parameters as JSON"),
        described("seed", pa.int64(), "seed of the decoding"),
        described("num_tokens", pa.int32(), "tokens of the caption by the captioner's own tokenizer"),
        *MADE_BY,
    ]
)

PHRASES = pa.schema(
    [
        SAMPLE_ID,
        described("phrase_index", pa.int32(), "position in the caption, 0-based"),
        described("phrase", pa.string(), "words that name one entity, such as 'a red apple'"),
        described("head", pa.string(), "head noun in lower case, singular"),
        described(
            "start", pa.int32(), "first character in the caption, -1 where the words are not the caption's"
        ),
        described(
            "end", pa.int32(), "character after the last one, -1 where the words are not the caption's"
        ),
        *MADE_BY,
    ]
)

BOXES = pa.schema(
    [
        SAMPLE_ID,
        described("box_index", pa.int32(), "position among the sample's boxes, best first, 0-based"),
        described(
            "phrase_index",
            pa.int32(),
            "place, among the phrases asked for, of the one that the box grounds; -1 where the detector named it itself",
        ),
        described("phrase", pa.string(), "short phrase that names the entity"),
        described("box_xyxy_norm", BOX_XYXY_NORM, "normalised x1, y1, x2, y2"),
        described("score", pa.float32(), "confidence that an object is there, in [0, 1]"),
        described("name_score", pa.float32(), "image-text score of phrase and box, in [0, 1]"),
        *MADE_BY,
    ]
)

ENTITY_ID = described("entity_id", pa.string(), "digest of sample_id, annotator, phrase and box")

DESCRIPTIONS = pa.schema(
    [
        ENTITY_ID,
        described("description", pa.string(), "detailed description of the region"),
        described("score", pa.float32(), "the describer's confidence in [0, 1]"),
        described("prompt", pa.string(), "prompt or template that it answers"),
        described("num_tokens", pa.int32(), "tokens by the describer's own tokenizer"),
        *MADE_BY,
    ]
)

MASKS = pa.schema(
    [
        ENTITY_ID,
        described("mask_rle", pa.string(), "pixels as COCO's compressed run lengths, at mask_size"),
        described("mask_size", pa.list_(pa.int32(), 2), "height and width of the mask in pixels"),
        described("score", pa.float32(), "the model's own estimate of the mask's IoU, in [0, 1]"),
        *MADE_BY,
    ]
)

NOUNS = pa.schema(
    [
        described("text_id", pa.string(), "sha256 of the caption's bytes"),
        described("text", pa.string(), "the caption, untrusted"),
        described(
            "nouns", pa.list_(pa.string()), "lemmas of its nouns in lower case, in order, repeats included"
        ),
        described("num_words", pa.int32(), "words, punctuation left out"),
        *MADE_BY,
    ]
)
