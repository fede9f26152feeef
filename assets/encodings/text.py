"""Caption embeddings: each distinct caption is encoded once and found again by the digest of its text."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any, Protocol, runtime_checkable

import pyarrow as pa

from assets.schemas import TEXT_EMBEDDINGS


@runtime_checkable
class TextEncoder(Protocol):
    """What is needed of a text encoder; :class:`training.text_encoders.MiniLMEncoder` is one."""

    @property
    def digest(self) -> str: ...

    def encode(self, texts: list[str], batch_size: int) -> Any: ...


def text_id(text: str) -> str:
    """sha256 (hex) of a caption's bytes."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def distinct_texts(captions: Iterable[str]) -> dict[str, str]:
    """Caption by text id, in order of first appearance; the empty caption (no condition) is always there."""
    texts = {text_id(""): ""}
    for caption in captions:
        texts.setdefault(text_id(caption), caption)
    return texts


def embed_texts(
    texts: dict[str, str], encoder: TextEncoder, function_version: int, batch_size: int
) -> pa.Table:
    """Rows of :data:`assets.schemas.TEXT_EMBEDDINGS` for captions by text id."""
    if not texts:
        return TEXT_EMBEDDINGS.empty_table()
    encoded = encoder.encode(list(texts.values()), batch_size)
    states = encoded.split()
    return pa.table(
        {
            "text_id": list(texts),
            "text": list(texts.values()),
            "num_tokens": pa.array(encoded.lengths, pa.int32()),
            "states": [rows.tobytes() for rows in states],
            "pooled": [row.tobytes() for row in encoded.pooled],
            "encoder_digest": [encoder.digest] * len(texts),
            "function_version": pa.array([function_version] * len(texts), pa.int32()),
        },
        schema=TEXT_EMBEDDINGS,
    )
