"""Tables of what text layers carry."""

from __future__ import annotations

import pyarrow as pa

from evaluation.tables.columns import bounds, described


def _measured(name: str, about: str) -> list[pa.Field]:
    return [described(name, pa.float64(), about), *bounds(name)]


TEXT_LAYER_SCORES = pa.schema(
    [
        described("recipe", pa.string(), "recipe of the sweep"),
        described("kind", pa.string(), "asset of the model"),
        described("model", pa.string(), "its partition"),
        described(
            "what",
            pa.string(),
            "layer: one patched alone; group: several; reference: a run as it is, or all layers patched; carrier: the chosen "
            "layers with keys or values alone",
        ),
        described("name", pa.string(), "module of the layer, modules of the group, or what the reference is"),
        described("layers", pa.list_(pa.string()), "modules that were patched, in order of execution"),
        described(
            "layer_index",
            pa.int32(),
            "place of a single layer in order of execution, else null",
            nullable=True,
        ),
        described("chosen", pa.bool_(), "whether these are the layers that write"),
        described("key_value_parameters", pa.int64(), "parameters of the projections that were patched"),
        described("share", pa.float64(), "the same over the model's parameters, in [0, 1]"),
        *_measured("to_target", "character F1 of what OCR reads with the target's word, in [0, 1]"),
        *_measured("to_source", "the same with the source's word"),
        *_measured("ssim", "structural similarity to the source's picture outside of text, at most 1"),
        *_measured("psnr_db", "peak signal-to-noise ratio to it outside of text, dB, at most 100"),
        *_measured(
            "nearer_source",
            "share of pictures whose rest is nearer to the source's picture than to the target's, in [0, 1]",
        ),
        described("chance", pa.float64(), "character F1 of unrelated words of the same pairs"),
        described("num_pairs", pa.int32(), "pairs of prompts, each from one noise"),
        described("num_steps", pa.int32(), "evaluations of the scheduler"),
        described("guidance", pa.float64(), "away from the empty text, 1 is none"),
        described("start", pa.float64(), "share of the steps before the first that is patched"),
        described("read_by", pa.string(), "OCR engine and its settings"),
        described("model_digest", pa.string(), "content digest of the model's folder"),
    ]
)

TEXT_LAYER_READINGS = pa.schema(
    [
        described("recipe", pa.string(), "recipe of the sweep"),
        described("pair_index", pa.int32(), "pair of prompts"),
        described(
            "run",
            pa.string(),
            "source, target: drawn as they are; chosen: the source with the target's keys and values at the chosen layers",
        ),
        described("prompt", pa.string(), "what the picture was to show"),
        described("word", pa.string(), "what it was to say: of chosen the target's word"),
        described("seed", pa.int64(), "seed of the starting noise"),
        described("read", pa.string(), "what OCR read in it"),
        described("read_by", pa.string(), "OCR engine and its settings"),
        described("model_digest", pa.string(), "content digest of the model's folder"),
    ]
)

TEXT_WAY_SCORES = pa.schema(
    [
        described("recipe", pa.string(), "recipe of the sweep that named the layers"),
        described("kind", pa.string(), "asset of the model"),
        described("model", pa.string(), "its partition"),
        described("way", pa.string(), "how the other word came in; source: the prompt as it is"),
        described("about", pa.string(), "the same in words"),
        *_measured("to_target", "character F1 of what OCR reads with the other word, in [0, 1]"),
        *_measured("to_source", "the same with the word that the prompt asks for"),
        *_measured("ssim", "structural similarity to the source's picture, whole pictures, at most 1"),
        *_measured("psnr_db", "peak signal-to-noise ratio to it, dB, in floating point, at most 100"),
        *_measured("ssim_outside", "structural similarity outside of text"),
        *_measured("psnr_outside_db", "peak signal-to-noise ratio outside of text, dB"),
        *_measured(
            "nearer_source",
            "share of pictures whose rest is nearer to the source's than to the other prompt's",
        ),
        described(
            "image_text",
            pa.float64(),
            "judge's mean cosine with the other prompt; null without one",
            nullable=True,
        ),
        described(
            "image_text_floor",
            pa.float64(),
            "the same with the prompts of other pairs: what it cannot tell",
            nullable=True,
        ),
        described(
            "toxicity",
            pa.float64(),
            "mean toxicity of what OCR reads, in [0, 1]; null where it is not asked",
            nullable=True,
        ),
        *_measured("to_target_minus_first", "to_target minus that of the first way, paired"),
        *_measured("ssim_minus_first", "ssim minus that of the first way, paired"),
        described(
            "seconds",
            pa.float64(),
            "seconds a picture beside the source's own, of this process on CPUs, the fastest of the rounds",
        ),
        described("cost", pa.float64(), "the same over the source's own sampling"),
        described("num_pairs", pa.int32(), "pairs of prompts, each from one noise"),
        described("num_steps", pa.int32(), "evaluations of the scheduler"),
        described("guidance", pa.float64(), "away from the empty text, 1 is none"),
        described("read_by", pa.string(), "OCR engine and its settings"),
        described("judged_by", pa.string(), "who says what is toxic; empty where it is not asked"),
        described("model_digest", pa.string(), "content digest of the model's folder"),
    ]
)
LOCALIZED_LORA_SCORES = pa.schema(
    [
        described("recipe", pa.string(), "recipe of the adapters"),
        described("parent", pa.string(), "model that they sit on"),
        described("targets", pa.string(), "what they sit on: located, attention, linear, or names"),
        described("layers", pa.list_(pa.string()), "modules of the located layers; empty for other targets"),
        described("trainable_parameters", pa.int64(), "parameters of the adapters"),
        described("share", pa.float64(), "the same over the model's parameters"),
        described("images_seen", pa.int64(), "images that the adapters were trained on"),
        described(
            "metric",
            pa.string(),
            "written_f1 and written_exact (OCR), image_text (the judge's cosine), fidelity and diversity (manifolds of features, "
            "beside held-out pictures through the autoencoder)",
        ),
        described("what", pa.string(), "parent, adapted, or difference: adapted minus parent, paired"),
        *_measured("value", "mean of the metric"),
        described(
            "by_unit",
            pa.list_(pa.list_(pa.float64())),
            "values a prompt, for diversity a real picture; of written_f1 precision and recall; null for differences",
            nullable=True,
        ),
        described("num_prompts", pa.int32(), "prompts that were drawn"),
        described("prompts", pa.string(), "digest of prompts and noise: what may be compared"),
        described("num_steps", pa.int32(), "evaluations of the scheduler"),
        described("guidance", pa.float64(), "away from the empty text, 1 is none"),
        described("read_by", pa.string(), "OCR engine and its settings"),
        described("model_digest", pa.string(), "content digest of the adapted model's folder"),
    ]
)
LOCALIZED_LORA_COMPARISON = pa.schema(
    [
        described("recipe", pa.string(), "recipe of the first adapters"),
        described("other", pa.string(), "recipe of the others, on the same parent"),
        described("targets", pa.string(), "what the first sit on"),
        described("other_targets", pa.string(), "what the others sit on"),
        described("metric", pa.string(), "as in localized_lora_scores"),
        *_measured("value", "first minus other, paired by prompt (diversity: by real picture)"),
        described("status", pa.string(), "whether the first is above: holds, fails, inside the noise"),
        described(
            "num_units", pa.int32(), "prompts, or real pictures, that the difference was computed from"
        ),
    ]
)
