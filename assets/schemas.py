"""The tables of the platform: Arrow schemas whose field metadata carries meaning, units and ranges.

Boxes are always normalised xyxy: x1, y1, x2, y2 in [0, 1], x / width and y / height independently.
Scores of models live in :mod:`evaluation.schemas`.
"""

from __future__ import annotations

import pyarrow as pa

SPLITS = ("train", "judge", "held_out_images", "held_out_concepts")


def _field(name: str, kind: pa.DataType, about: str, *, nullable: bool = False) -> pa.Field:
    return pa.field(name, kind, nullable=nullable, metadata={"description": about})


SAMPLE_ID = _field(
    "sample_id", pa.string(), "digest of (image_id, source, key): one image with two alt-texts is two samples"
)
BOX_XYXY_NORM = pa.list_(pa.float32(), 4)

LANDED_IMAGES = pa.schema(
    [
        SAMPLE_ID,
        _field("image_id", pa.string(), "sha256 of the image's bytes"),
        _field("source", pa.string(), "name of the collection the sample arrived in"),
        _field("shard", pa.string(), "file the sample arrived in, relative to the source's landing folder"),
        _field("key", pa.string(), "the sample's key inside its source"),
        _field("split", pa.string(), "one of " + ", ".join(SPLITS)),
        _field("image", pa.binary(), "encoded image, bytes as landed"),
        _field("width", pa.int32(), "pixels"),
        _field("height", pa.int32(), "pixels"),
        _field("alt_text", pa.string(), "text that came with the image, untrusted"),
        _field("license", pa.string(), "licence of the picture, SPDX identifier or 'unknown'"),
        _field("attribution", pa.string(), "credit that has to be given, empty when none is due"),
    ]
)

QUARANTINE = pa.schema(
    [
        _field("source", pa.string(), "name of the collection"),
        _field("shard", pa.string(), "file that holds the sample"),
        _field("position", pa.int64(), "row or member number inside the file, -1 for the file as a whole"),
        _field("key", pa.string(), "the sample's key where it could be read, else empty"),
        _field(
            "reason",
            pa.string(),
            "broken_image, no_caption, no_image, oversize, truncated, unreadable or duplicate_key",
        ),
        _field("detail", pa.string(), "what was found"),
    ]
)

CURATED_IMAGES = pa.schema(
    [
        SAMPLE_ID,
        _field("image_id", pa.string(), "sha256 of the image's bytes"),
        _field("split", pa.string(), "one of " + ", ".join(SPLITS)),
        _field("perceptual_hash", pa.uint64(), "64-bit DCT hash of the grey image"),
        _field("thumbnail", pa.binary(192), "8 x 8 mean colours, uint8 RGB, row-major"),
        _field("keep", pa.bool_(), "whether the sample goes on"),
        _field("dropped_because", pa.string(), "empty, duplicate, too_small or extreme_aspect_ratio"),
    ]
)

MADE_BY = [
    _field("model", pa.string(), "name of the model that made the row"),
    _field("model_digest", pa.string(), "sha256 over the model's weights and parameters"),
    _field("function_version", pa.int32(), "declared version of the function that made the row"),
]

REGIONS = pa.schema(
    [
        SAMPLE_ID,
        _field("region_index", pa.int32(), "0 is the largest region"),
        _field("box_xyxy_norm", BOX_XYXY_NORM, "normalised x1, y1, x2, y2"),
        _field("area_fraction", pa.float32(), "foreground pixels over image pixels, in [0, 1]"),
        _field("color", pa.string(), "measured main colour, a word"),
        _field("names", pa.list_(pa.string()), "candidate names, best first"),
        _field("name_scores", pa.list_(pa.float32()), "calibrated probability of each candidate, in [0, 1]"),
        _field("name_source", pa.string(), "concept_bank, conse or none"),
        _field("text", pa.string(), "text read in the region, empty when none"),
        _field("text_score", pa.float32(), "confidence of the reading in [0, 1]"),
        _field("background_kind", pa.string(), "plain, gradient, two-tone, checkered or unknown"),
        _field("background_color", pa.string(), "measured colours of the background, such as 'blue and red'"),
        *MADE_BY,
    ]
)

RECAPTIONS = pa.schema(
    [
        SAMPLE_ID,
        _field("caption_index", pa.int32(), "1 .. k; the original alt-text is caption 0"),
        _field("caption", pa.string(), "generated caption"),
        _field("score", pa.float32(), "the captioner's confidence in [0, 1]"),
        _field(
            "kept_original", pa.bool_(), "true where confidence was too low and the alt-text stands instead"
        ),
        _field("prompt", pa.string(), "prompt or template name"),
        _field("seed", pa.int64(), "seed of the decoding"),
        _field("num_words", pa.int32(), "words in the caption"),
        *MADE_BY,
    ]
)

ENTITY_ANNOTATIONS = pa.schema(
    [
        SAMPLE_ID,
        _field("entity_index", pa.int32(), "position in reading of the regions, 0-based"),
        _field("phrase", pa.string(), "short phrase that names the entity"),
        _field("description", pa.string(), "detailed description of the region"),
        _field("box_xyxy_norm", BOX_XYXY_NORM, "normalised x1, y1, x2, y2"),
        _field("score", pa.float32(), "confidence in [0, 1]"),
        _field("keep", pa.bool_(), "whether the entity passed all filters"),
        _field("dropped_because", pa.string(), "empty, low_score, too_small, overlapping or too_many"),
        *MADE_BY,
    ]
)

TEXT_EMBEDDINGS = pa.schema(
    [
        _field("text_id", pa.string(), "sha256 of the caption's bytes"),
        _field("text", pa.string(), "the caption"),
        _field("num_tokens", pa.int32(), "tokens that are not padding"),
        _field("states", pa.binary(), "float16 [num_tokens, dimension] token states, row-major"),
        _field("pooled", pa.binary(), "float16 [dimension], masked mean then unit length"),
        _field("encoder_digest", pa.string(), "sha256 of encoder weights, tokenizer and settings"),
        _field("function_version", pa.int32(), "declared version of the function that made the row"),
    ]
)

IMAGE_LATENTS = pa.schema(
    [
        SAMPLE_ID,
        _field(
            "latent", pa.binary(), "float16 [channels, height, width], already scaled as the backbone sees it"
        ),
        _field(
            "reconstruction_error", pa.float32(), "mean squared error of decode(encode(x)), pixels in [-1, 1]"
        ),
        _field("autoencoder_digest", pa.string(), "content digest of the autoencoder's folder"),
        _field("function_version", pa.int32(), "declared version of the function that made the row"),
    ]
)

SCENE_OBJECT = pa.struct(
    [
        pa.field("name", pa.string(), nullable=False),
        pa.field("box_xyxy_norm", BOX_XYXY_NORM, nullable=False),
        pa.field("depth_order", pa.int32(), nullable=False),  # 0 is the farthest
        pa.field("visible_fraction", pa.float32(), nullable=False),
    ]
)

SCENE_TRUTH = pa.schema(
    [
        SAMPLE_ID,
        _field("source", pa.string(), "name of the collection"),
        _field("key", pa.string(), "the sample's key inside its source"),
        _field("split", pa.string(), "one of " + ", ".join(SPLITS)),
        _field("objects", pa.list_(SCENE_OBJECT), "what the builder drew, back to front"),
        _field("word", pa.string(), "rendered word, empty when none"),
        _field("word_box_xyxy_norm", BOX_XYXY_NORM, "box of the word", nullable=True),
        _field("background", pa.string(), "background kind and colours, such as 'plain blue'"),
    ]
)
