"""The tables of the platform: Arrow schemas whose field metadata carries meaning, units and ranges.

Boxes are always normalised xyxy: x1, y1, x2, y2 in [0, 1], x / width and y / height independently.
Scores of models, and what perception sees, are declared in :mod:`evaluation.tables`.
"""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa

from evaluation.tables.columns import described
from evaluation.tables.perception import (
    BOX_XYXY_NORM,
    BOXES,
    CAPTIONS,
    ENTITY_ID,
    MADE_BY,
    MASKS,
    PHRASES,
    SAMPLE_ID,
)
from evaluation.tables.perception import NOUNS as NOUNS
from evaluation.tables.perception import REGIONS as REGIONS

SPLITS = ("train", "judge", "held_out_images", "held_out_concepts")


LANDED_IMAGES = pa.schema(
    [
        SAMPLE_ID,
        described("image_id", pa.string(), "sha256 of the image's bytes"),
        described("source", pa.string(), "name of the collection the sample arrived in"),
        described(
            "shard", pa.string(), "file the sample arrived in, relative to the source's landing folder"
        ),
        described("key", pa.string(), "the sample's key inside its source"),
        described("split", pa.string(), "one of " + ", ".join(SPLITS)),
        described("image", pa.binary(), "encoded image, bytes as landed"),
        described("width", pa.int32(), "pixels"),
        described("height", pa.int32(), "pixels"),
        described("alt_text", pa.string(), "text that came with the image, untrusted"),
        described("license", pa.string(), "licence of the picture, SPDX identifier or 'unknown'"),
        described("attribution", pa.string(), "credit that has to be given, empty when none is due"),
    ]
)

QUARANTINE = pa.schema(
    [
        described("source", pa.string(), "name of the collection"),
        described("shard", pa.string(), "file that holds the sample"),
        described("position", pa.int64(), "row or member number inside the file, -1 for the file as a whole"),
        described("key", pa.string(), "the sample's key where it could be read, else empty"),
        described(
            "reason",
            pa.string(),
            "broken_image, no_caption, no_image, oversize, truncated, unreadable, duplicate_key or removed",
        ),
        described("detail", pa.string(), "what was found"),
    ]
)

CURATED_IMAGES = pa.schema(
    [
        SAMPLE_ID,
        described("image_id", pa.string(), "sha256 of the image's bytes"),
        described("split", pa.string(), "one of " + ", ".join(SPLITS)),
        described("perceptual_hash", pa.uint64(), "64-bit DCT hash of the grey image"),
        described("thumbnail", pa.binary(192), "8 x 8 mean colours, uint8 RGB, row-major"),
        described("keep", pa.bool_(), "whether the sample goes on"),
        described("dropped_because", pa.string(), "empty, duplicate, too_small or extreme_aspect_ratio"),
    ]
)

KEPT = [
    described("keep", pa.bool_(), "whether the row passed all filters"),
    described("dropped_because", pa.string(), "why not, empty where it passed"),
]

UNITS = pa.schema(
    [
        described("key", pa.string(), "the unit of work: a sample, an entity or a text"),
        described(
            "input_digest",
            pa.string(),
            "sha256 of what the model read of the unit beyond its key, else empty",
        ),
        described("num_rows", pa.int32(), "rows that came of it, 0 is an answer too"),
        described("num_attempts", pa.int32(), "how often it was tried"),
        described("error", pa.string(), "the model's error, empty where it succeeded"),
        *MADE_BY,
    ]
)

RECAPTIONS = pa.schema(
    [
        *CAPTIONS,
        described("num_words", pa.int32(), "words in the caption"),
        *KEPT,  # empty, low_confidence, duplicate or too_many
    ]
)

ENTITY_PHRASES = pa.schema(
    [
        *PHRASES,
        described("caption", pa.string(), "the global caption that it was taken from"),
        *KEPT,  # background, text, duplicate or too_long
    ]
)

ENTITY_BOXES = pa.schema(
    [
        *BOXES,
        described("annotator", pa.string(), "the profile's name of the detector"),
    ]
)

ENTITY_ANNOTATIONS = pa.schema(
    [
        SAMPLE_ID,
        ENTITY_ID,
        described("entity_index", pa.int32(), "position among the sample's entities, best first, 0-based"),
        described("annotator", pa.string(), "the profile's name of the detector"),
        described("phrase", pa.string(), "short phrase that names the entity"),
        described(
            "description", pa.string(), "detailed description of the region, empty where it was dropped"
        ),
        described("description_score", pa.float32(), "the describer's confidence in [0, 1], 0 where dropped"),
        described("box_xyxy_norm", BOX_XYXY_NORM, "normalised x1, y1, x2, y2"),
        described("area_fraction", pa.float32(), "area of the box over the image's, in [0, 1]"),
        described("detector_score", pa.float32(), "confidence that an object is there, in [0, 1]"),
        described("score", pa.float32(), "image-text score of phrase and box, in [0, 1]"),
        described("overlap_iou", pa.float32(), "largest IoU with a better entity that was kept, in [0, 1]"),
        *KEPT,  # low_score, too_small, overlapping, too_many or too_few
        described("description_model", pa.string(), "name of the describer, empty where it was not asked"),
        described("description_digest", pa.string(), "sha256 of the describer and its settings"),
        *MADE_BY,  # of the detector
    ]
)

ENTITY_MASKS = pa.schema([SAMPLE_ID, *MASKS])

LAYOUT_BENCHMARK = pa.schema(
    [
        SAMPLE_ID,
        described("global_caption", pa.string(), "the prompt, untrusted"),
        described("entity_index", pa.int32(), "position among the prompt's entities, 0-based"),
        described("phrase", pa.string(), "short phrase that names the entity"),
        described("description", pa.string(), "detailed description of the region"),
        described("box_xyxy_norm", BOX_XYXY_NORM, "normalised x1, y1, x2, y2"),
        described("spatial", pa.string(), "where the box lies, in words"),
        described("color", pa.string(), "colour that the description names, empty where none"),
        described("texture", pa.string(), "texture that the description names, empty where none"),
        described("shape", pa.string(), "shape that the description names, empty where none"),
        described("is_held_out_concept", pa.bool_(), "whether training never shows the entity's concept"),
    ]
)

TEXT_EMBEDDINGS = pa.schema(
    [
        described("text_id", pa.string(), "sha256 of the caption's bytes"),
        described("text", pa.string(), "the caption"),
        described("num_tokens", pa.int32(), "tokens that are not padding"),
        described("states", pa.binary(), "float16 [num_tokens, dimension] token states, row-major"),
        described(
            "pooled", pa.binary(), "float16 [dimension], one vector for the text as the encoder pools it"
        ),
        *MADE_BY,  # the text encoder, with tokenizer and settings
    ]
)

IMAGE_LATENTS = pa.schema(
    [
        SAMPLE_ID,
        described(
            "resolution", pa.int32(), "side in pixels of the square with the area of the picture's bucket"
        ),
        described("height", pa.int32(), "rows of the latent"),
        described("width", pa.int32(), "columns of the latent"),
        described(
            "latent", pa.binary(), "float16 [channels, height, width], already scaled as the backbone sees it"
        ),
        described(
            "reconstruction_error", pa.float32(), "mean squared error of decode(encode(x)), pixels in [-1, 1]"
        ),
        *MADE_BY,  # the autoencoder, by its folder's content digest, with resolutions, buckets and crop
    ]
)

SCENE_OBJECT = pa.struct(
    [
        pa.field("name", pa.string(), nullable=False),
        pa.field("box_xyxy_norm", BOX_XYXY_NORM, nullable=False),
        pa.field("depth_order", pa.int32(), nullable=False),  # 0 is the farthest
        pa.field("visible_fraction", pa.float32(), nullable=False),
        pa.field("color", pa.string(), nullable=False),  # as the world says it, or empty
        pa.field("phrase", pa.string(), nullable=False),  # tells it from other looks of its concept
        pa.field("depth", pa.float32(), nullable=False),  # in (0, 1]; 1 is the nearest, the background 0
    ]
)

SCENE_TRUTH = pa.schema(
    [
        SAMPLE_ID,
        described("source", pa.string(), "name of the collection"),
        described("key", pa.string(), "the sample's key inside its source"),
        described("split", pa.string(), "one of " + ", ".join(SPLITS)),
        described("objects", pa.list_(SCENE_OBJECT), "what the builder drew, back to front"),
        described(
            "visible_masks_rle",
            pa.list_(pa.string()),
            "pixels of each object that nothing in front covers, as COCO's compressed run lengths",
        ),
        described("mask_size", pa.list_(pa.int32(), 2), "height and width of the masks in pixels"),
        described("word", pa.string(), "rendered word, empty when none"),
        described("word_box_xyxy_norm", BOX_XYXY_NORM, "box of the word", nullable=True),
        described("background", pa.string(), "background kind and colours, such as 'plain blue'"),
    ]
)

TABLE_KEYS: Mapping[str, tuple[str, ...]] = {
    "alignment_scores": ("recipe", "prompt_id", "split", "seed"),
    "backbone_analysis": ("recipe", "stage", "kind"),
    "block_similarities": ("recipe", "noise_level", "block_index"),
    "caption_nouns": ("text_id",),
    "caption_statistics": ("captions",),
    "curated_images": ("sample_id",),
    "data_quality": ("measure", "subject", "split"),
    "demo_scenes": ("sample_id",),
    "denoising_errors": ("recipe", "sample_id", "level_index"),
    "entity_annotations": ("entity_id",),
    "entity_boxes": ("sample_id", "annotator", "box_index"),
    "entity_descriptions": ("entity_id",),
    "entity_masks": ("entity_id",),
    "entity_phrases": ("sample_id", "phrase_index"),
    "evaluation_table": ("recipe", "split"),
    "generated_samples": ("recipe", "prompt_id", "seed"),
    "image_latents": ("sample_id",),
    "judge_scores": ("measure", "subject", "split"),
    "landed_images": ("sample_id",),
    "layout_benchmark": ("sample_id", "entity_index"),
    "quarantine": ("source", "shard", "position"),
    "recaptions": ("sample_id", "caption_index"),
    "regions": ("sample_id", "region_index"),
    "model_observations": ("family", "recipe", "metric", "images_seen", "seed"),
    "scaling_efficiency": ("size", "data", "mix", "metric", "target"),
    "scaling_laws": ("family", "metric", "abscissa", "form"),
    "scaling_observations": ("family", "recipe", "metric", "images_seen", "seed"),
    "scaling_scores": ("recipe", "metric", "images_seen"),
    "scene_truth": ("sample_id",),
    "text_embeddings": ("text_id",),
    "localized_lora_comparison": ("recipe", "other", "metric"),
    "localized_lora_scores": ("recipe", "metric", "what"),
    "text_edit_evaluation": ("recipe", "way"),
    "text_guard_evaluation": ("recipe", "way"),
    "text_layer_localization": ("recipe", "what", "name"),
    "text_layer_readings": ("recipe", "run", "pair_index"),
}
"""Columns that tell the rows of a table apart, by the table's name; tables of units (``*_units``) are keyed by ``key``."""


def table_keys(name: str) -> tuple[str, ...]:
    """Key columns of a stored table; none where nothing is declared, so that a row stands for itself."""
    return ("key",) if name.endswith("_units") else TABLE_KEYS.get(name, ())
