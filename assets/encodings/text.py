"""Caption embeddings: each distinct caption is encoded once and found again by the digest of its text."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import pyarrow as pa

from assets.graph.interfaces import BatchWorker, Model, Resources
from assets.graph.schemas import TEXT_EMBEDDINGS
from training.recipes.text_encoder import EncoderSettings, encoder_digest, encoder_name

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
    """A batch worker from rows (text_id, text) to rows of :data:`assets.graph.schemas.TEXT_EMBEDDINGS`."""

    def __init__(self, batch_size: int, settings: dict[str, Any]) -> None:
        import torch

        from training.text_encoders import build_encoder

        chosen = EncoderSettings.model_validate(settings)
        self._encoder = build_encoder(chosen, "cuda" if torch.cuda.is_available() else "cpu")
        self._name = encoder_name(chosen)
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
            "model": [self._name] * len(texts),
            "model_digest": [self._encoder.digest] * len(texts),
            "function_version": pa.array([0] * len(texts), pa.int32()),
        }
        return pa.table(columns, schema=TEXT_EMBEDDINGS)


def text_model(batch_size: int, settings: EncoderSettings) -> Model:
    """The profile's text encoder as the model of ``text_embeddings``. Raises FoundryError when it is not there."""
    arguments = {"batch_size": batch_size, "settings": settings.model_dump(mode="json")}
    return Model(
        name=encoder_name(settings),
        digest=encoder_digest(settings),
        make=lambda: BatchWorker(CaptionEncoder, arguments),
        resources=Resources(batch_size=1024, inline_rows=INLINE_ROWS, keep_loaded=True),
    )
