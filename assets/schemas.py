"""The tables of the platform: Arrow schemas whose field metadata carries meaning, units and ranges.

Boxes are always normalised xyxy: x1, y1, x2, y2 in [0, 1], x / width and y / height independently.
Scores of models, and what perception sees, are declared in :mod:`evaluation.schemas`.
"""

from __future__ import annotations

import pyarrow as pa

from evaluation.schemas import BOX_XYXY_NORM, MADE_BY, SAMPLE_ID, described
from evaluation.schemas import REGIONS as REGIONS

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
            "broken_image, no_caption, no_image, oversize, truncated, unreadable or duplicate_key",
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

RECAPTIONS = pa.schema(
    [
        SAMPLE_ID,
        described("caption_index", pa.int32(), "1 .. k; the original alt-text is caption 0"),
        described("caption", pa.string(), "generated caption"),
        described("score", pa.float32(), "the captioner's confidence in [0, 1]"),
        described(
            "kept_original", pa.bool_(), "true where confidence was too low and the alt-text stands instead"
        ),
        described("prompt", pa.string(), "prompt or template name"),
        described("seed", pa.int64(), "seed of the decoding"),
        described("num_words", pa.int32(), "words in the caption"),
        *MADE_BY,
    ]
)

ENTITY_ANNOTATIONS = pa.schema(
    [
        SAMPLE_ID,
        described("entity_index", pa.int32(), "position in reading of the regions, 0-based"),
        described("phrase", pa.string(), "short phrase that names the entity"),
        described("description", pa.string(), "detailed description of the region"),
        described("box_xyxy_norm", BOX_XYXY_NORM, "normalised x1, y1, x2, y2"),
        described("score", pa.float32(), "confidence in [0, 1]"),
        described("keep", pa.bool_(), "whether the entity passed all filters"),
        described("dropped_because", pa.string(), "empty, low_score, too_small, overlapping or too_many"),
        *MADE_BY,
    ]
)

TEXT_EMBEDDINGS = pa.schema(
    [
        described("text_id", pa.string(), "sha256 of the caption's bytes"),
        described("text", pa.string(), "the caption"),
        described("num_tokens", pa.int32(), "tokens that are not padding"),
        described("states", pa.binary(), "float16 [num_tokens, dimension] token states, row-major"),
        described("pooled", pa.binary(), "float16 [dimension], masked mean then unit length"),
        described("encoder_digest", pa.string(), "sha256 of encoder weights, tokenizer and settings"),
        described("function_version", pa.int32(), "declared version of the function that made the row"),
    ]
)

IMAGE_LATENTS = pa.schema(
    [
        SAMPLE_ID,
        described(
            "latent", pa.binary(), "float16 [channels, height, width], already scaled as the backbone sees it"
        ),
        described(
            "reconstruction_error", pa.float32(), "mean squared error of decode(encode(x)), pixels in [-1, 1]"
        ),
        described("autoencoder_digest", pa.string(), "content digest of the autoencoder's folder"),
        described("function_version", pa.int32(), "declared version of the function that made the row"),
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
        described("source", pa.string(), "name of the collection"),
        described("key", pa.string(), "the sample's key inside its source"),
        described("split", pa.string(), "one of " + ", ".join(SPLITS)),
        described("objects", pa.list_(SCENE_OBJECT), "what the builder drew, back to front"),
        described("word", pa.string(), "rendered word, empty when none"),
        described("word_box_xyxy_norm", BOX_XYXY_NORM, "box of the word", nullable=True),
        described("background", pa.string(), "background kind and colours, such as 'plain blue'"),
    ]
)
