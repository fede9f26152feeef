"""Tables of what perception sees and says, by role."""

from __future__ import annotations

import pyarrow as pa

from evaluation.tables.columns import described

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
# each with the unit's key; :mod:`assets.derivation.deriving` stores which units were done and which failed.

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

ANSWERS = pa.schema(
    [
        described("question_id", pa.string(), "the asker's own name of the question"),
        described("answer", pa.string(), "what the judge says, in full"),
        described(
            "is_yes", pa.bool_(), 'whether the answer contains "Yes" or "yes", as LayoutSAM-Eval counts'
        ),
        *MADE_BY,
    ]
)

READINGS = pa.schema(
    [
        SAMPLE_ID,
        described("text", pa.string(), "lines read in the picture with spaces between them, empty when none"),
        described("confidence", pa.float32(), "mean confidence of the lines in [0, 1]"),
        described("boxes_xyxy_norm", pa.list_(BOX_XYXY_NORM), "normalised x1, y1, x2, y2 of every line"),
        *MADE_BY,
    ]
)

TOXICITY = pa.schema(
    [
        described("text_id", pa.string(), "which text was judged"),
        described("toxicity", pa.float64(), "how toxic it is, in [0, 1]"),
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
