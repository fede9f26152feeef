"""Caption embeddings: each distinct caption is encoded once and found again by the digest of its text."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import pyarrow as pa

from assets.interfaces import BatchWorker, Model, Resources
from assets.schemas import TEXT_EMBEDDINGS

ENCODER_NAME = "all-MiniLM-L6-v2"
INLINE_ROWS = 8192  # at under a millisecond a caption, starting workers takes longer


def text_id(text: str) -> str:
    """sha256 (hex) of a caption's bytes."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def distinct_texts(captions: Iterable[str]) -> dict[str, str]:
    """Caption by text id, in order of first appearance; the empty caption (no condition) is always there."""
    texts = {text_id(""): ""}
    for caption in captions:
        texts.setdefault(text_id(caption), caption)
    return texts


class CaptionEncoder:
    """A batch worker from rows (text_id, text) to rows of :data:`assets.schemas.TEXT_EMBEDDINGS`."""

    def __init__(self, batch_size: int) -> None:
        from training.text_encoders import MiniLMEncoder

        self._encoder = MiniLMEncoder()
        self._batch_size = batch_size

    def __call__(self, batch: pa.Table) -> pa.Table:
        """States and pooled vectors of every caption of ``batch``, in its order."""
        texts = batch["text"].to_pylist()
        encoded = self._encoder.encode(texts, self._batch_size)
        columns = {
            "text_id": batch["text_id"].to_pylist(),
            "text": texts,
            "num_tokens": pa.array(encoded.lengths, pa.int32()),
            "states": [rows.tobytes() for rows in encoded.split()],
            "pooled": [row.tobytes() for row in encoded.pooled],
            "model": [ENCODER_NAME] * len(texts),
            "model_digest": [self._encoder.digest] * len(texts),
            "function_version": pa.array([0] * len(texts), pa.int32()),
        }
        return pa.table(columns, schema=TEXT_EMBEDDINGS)


def text_model(batch_size: int) -> Model:
    """The packaged text encoder as the model of ``text_embeddings``."""
    from training.packaged import minilm_digest

    return Model(
        name=ENCODER_NAME,
        digest=minilm_digest(),
        make=lambda: BatchWorker(CaptionEncoder, {"batch_size": batch_size}),
        resources=Resources(batch_size=1024, inline_rows=INLINE_ROWS, keep_loaded=True),
    )
