"""Which generated captions go on, and which caption speaks for an image. Alt-texts stay beside them as caption 0.

A caption that is not used keeps its row and the reason, so that a threshold can be judged by what it drops, and
changed without asking a model again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from assets.graph.schemas import RECAPTIONS
from evaluation.tables.columns import described
from evaluation.tables.perception import CAPTIONS, SAMPLE_ID
from training.errors import FoundryError

MIN_CONFIDENCE = 0.5
MAX_CAPTIONS = 5

GLOBAL_CAPTIONS = pa.schema(
    [
        SAMPLE_ID,
        described("caption", pa.string(), "the caption that speaks for the image, untrusted"),
        described("caption_index", pa.int32(), "1 .. k for a generated caption, 0 for the alt-text"),
    ]
)


def select_captions(
    captions: pa.Table, min_confidence: float = MIN_CONFIDENCE, max_captions: int = MAX_CAPTIONS
) -> pa.Table:
    """Rows of :data:`evaluation.tables.perception.CAPTIONS` as :data:`assets.graph.schemas.RECAPTIONS`: which of them go on.

    The reasons, of which the first that strikes is told: ``empty`` (no word in it), ``low_confidence`` (score below
    ``min_confidence``, or no number), ``duplicate`` (the words of a better caption of the same image; case, spaces
    and punctuation do not count), ``too_many`` (beyond the best ``max_captions``). Better is a lower
    ``caption_index``: captioners number their answers best first.

    Args:
        captions: rows in any order.
        min_confidence: in [0, 1]; 0 lets every score pass.
        max_captions: captions of one image that may go on, 1 or more.

    Returns:
        all rows, sorted by sample_id and caption_index. An image of which nothing is kept is described by its
        alt-text alone.

    Raises:
        FoundryError: a setting out of range, or a column is missing.
    """
    if not 0.0 <= min_confidence <= 1.0:
        raise FoundryError(f"min_confidence is {min_confidence}; allowed is 0 to 1")
    if max_captions < 1:
        raise FoundryError(f"max_captions is {max_captions}; allowed is 1 or more")
    require_columns(captions, "captions", CAPTIONS.names)
    ordered = captions.select(CAPTIONS.names).sort_by(
        [("sample_id", "ascending"), ("caption_index", "ascending")]
    )
    reasons: list[str] = []
    num_words: list[int] = []
    sample, kept = "", set[str]()
    for sample_id, caption, score in zip(
        *(ordered.column(name).to_pylist() for name in ("sample_id", "caption", "score")), strict=True
    ):
        if sample_id != sample:
            sample, kept = sample_id, set()
        words = normalised_words(caption)
        reason = _reason(words, score, kept, min_confidence, max_captions)
        if not reason:
            kept.add(words)
        reasons.append(reason)
        num_words.append(len(caption.split()))
    columns: dict[str, Any] = {name: ordered.column(name) for name in CAPTIONS.names}
    columns |= {
        "num_words": num_words,
        "keep": [not reason for reason in reasons],
        "dropped_because": reasons,
    }
    return pa.table([columns[field.name] for field in RECAPTIONS], schema=RECAPTIONS)


def _reason(words: str, score: float, kept: set[str], min_confidence: float, max_captions: int) -> str:
    if not words:
        return "empty"
    if not score >= min_confidence:  # also where the score is not a number
        return "low_confidence"
    if words in kept:
        return "duplicate"
    return "too_many" if len(kept) >= max_captions else ""


def normalised_words(text: str) -> str:
    """The words of a text in lower case, single spaces between them, punctuation and underscores left out."""
    return " ".join(re.findall(r"[^\W_]+", text.lower()))


def global_captions(recaptions: pa.Table, alt_texts: Mapping[str, str]) -> pa.Table:
    """The caption that speaks for each image: the best kept generated one, else its alt-text.

    Args:
        recaptions: rows of :data:`assets.graph.schemas.RECAPTIONS` in any order; rows that were not kept do not count.
        alt_texts: the text that came with each sample, by sample_id: exactly the samples that are answered.

    Returns:
        rows of :data:`GLOBAL_CAPTIONS`, sorted by sample_id.

    Raises:
        FoundryError: a caption was kept of a sample without alt-text, or a column is missing.
    """
    require_columns(recaptions, "recaptions", ("sample_id", "caption", "caption_index", "keep"))
    best: dict[str, tuple[int, str]] = {}
    columns = (
        recaptions.column(name).to_pylist() for name in ("sample_id", "caption_index", "caption", "keep")
    )
    for sample_id, index, caption, keep in zip(*columns, strict=True):
        if keep and (sample_id not in best or index < best[sample_id][0]):
            best[sample_id] = (index, caption)
    for sample_id in best:
        if sample_id not in alt_texts:
            raise FoundryError(
                f"sample {sample_id}: captions but no alt-text; curate and recaption the same samples"
            )
    rows = [(sample_id, *best.get(sample_id, (0, alt_texts[sample_id]))) for sample_id in sorted(alt_texts)]
    return pa.table(
        {
            "sample_id": [sample_id for sample_id, _, _ in rows],
            "caption": [caption for _, _, caption in rows],
            "caption_index": [index for _, index, _ in rows],
        },
        schema=GLOBAL_CAPTIONS,
    )


def require_columns(table: pa.Table, name: str, columns: list[str] | tuple[str, ...]) -> None:
    """Raise FoundryError that names the table and the columns it lacks."""
    missing = [column for column in columns if column not in table.column_names]
    if missing:
        raise FoundryError(
            f"{name} table lacks the columns {', '.join(missing)}; it has {table.column_names}"
        )
