"""How much captions say: the numbers of Table 3 in the scalability paper (arXiv 2404.02883), in our terms.

The paper counts nouns with a tagger. Here every word that is no stop word counts ("content words"), so the figures
are labelled so and are not comparable with the paper's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

# fmt: off
STOP_WORDS = frozenset({
    "a", "an", "and", "are", "as", "at", "be", "by", "for", "from", "has", "have",
    "in", "into", "is", "it", "its", "of", "off", "on", "onto", "or", "over", "s",
    "that", "the", "their", "them", "then", "there", "these", "they", "this", "those", "to", "under",
    "up", "was", "were", "which", "while", "with", "without", "you", "your", "next",
})
# fmt: on
CAPTION_STATISTICS = pa.schema(
    [
        pa.field("captions", pa.string(), False, {"description": "original, recaptioned or mixed (both)"}),
        pa.field("num_images", pa.int64(), False, {"description": "images with at least one caption"}),
        pa.field("num_captions", pa.int64(), False, {"description": "captions counted"}),
        pa.field("words_per_caption", pa.float64(), False, {"description": "mean number of words"}),
        pa.field(
            "content_words_per_image",
            pa.float64(),
            False,
            {"description": "mean number of different content words"},
        ),
        pa.field(
            "unique_content_words", pa.int64(), False, {"description": "different content words in all"}
        ),
        pa.field(
            "image_word_pairs",
            pa.int64(),
            False,
            {"description": "pairs of an image and a content word said of it"},
        ),
    ]
)
_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")


@dataclass(frozen=True)
class CaptionStatistics:
    """The statistics of one set of captions; see :data:`CAPTION_STATISTICS` for the fields."""

    num_images: int
    num_captions: int
    words_per_caption: float
    content_words_per_image: float
    unique_content_words: int
    image_word_pairs: int


def words(caption: str) -> list[str]:
    """Words in lower case; digits count, punctuation does not."""
    return _WORD.findall(caption.lower())


def content_words(caption: str) -> list[str]:
    """Words that are no stop words."""
    return [word for word in words(caption) if word not in STOP_WORDS]


def count_captions(captions_of_image: Mapping[str, Sequence[str]]) -> CaptionStatistics:
    """Statistics of captions grouped by image; images without captions do not count. All zero for none."""
    present = {image: captions for image, captions in captions_of_image.items() if len(captions)}
    lengths = [len(words(caption)) for captions in present.values() for caption in captions]
    said = [
        {word for caption in captions for word in content_words(caption)} for captions in present.values()
    ]
    pairs = sum(len(of_image) for of_image in said)
    return CaptionStatistics(
        num_images=len(present),
        num_captions=len(lengths),
        words_per_caption=float(np.mean(lengths)) if lengths else 0.0,
        content_words_per_image=pairs / len(present) if present else 0.0,
        unique_content_words=len(set().union(*said)),
        image_word_pairs=pairs,
    )


def caption_sets(alt_texts: Mapping[str, str], recaptions: pa.Table) -> dict[str, dict[str, list[str]]]:
    """Captions by image for the three sets: original, recaptioned (kept originals included) and mixed.

    Only samples of ``recaptions`` count, so that the three sets speak of the same images.
    """
    again: dict[str, list[str]] = {}
    new: dict[str, list[str]] = {}
    columns = (recaptions.column(name).to_pylist() for name in ("sample_id", "caption", "kept_original"))
    for sample_id, caption, kept_original in zip(*columns, strict=True):
        again.setdefault(sample_id, []).append(caption)
        new.setdefault(sample_id, []).extend([] if kept_original else [caption])
    original = {sample_id: [alt_texts[sample_id]] for sample_id in again if sample_id in alt_texts}
    mixed = {sample_id: [*original.get(sample_id, []), *new[sample_id]] for sample_id in again}
    return {"original": original, "recaptioned": again, "mixed": mixed}


def caption_statistics(alt_texts: Mapping[str, str], recaptions: pa.Table) -> pa.Table:
    """One row of :data:`CAPTION_STATISTICS` for each of the original, recaptioned and mixed sets."""
    sets = caption_sets(alt_texts, recaptions)
    rows = [{"captions": name, **vars(count_captions(captions))} for name, captions in sets.items()]
    return pa.Table.from_pylist(rows, schema=CAPTION_STATISTICS)


def length_histogram(captions: Sequence[str], longest: int = 40) -> list[int]:
    """Number of captions of 0, 1, ... words; the last of ``longest + 1`` entries counts all longer ones too."""
    lengths = np.minimum([len(words(caption)) for caption in captions], longest).astype(np.int64)
    return [int(count) for count in np.bincount(lengths, minlength=longest + 1)]
