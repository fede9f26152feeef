"""How near two short texts are: the cosine of their sentence vectors."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

if TYPE_CHECKING:
    from training.text_encoders import MiniLMEncoder


class SentenceSimilarity:
    """Cosine of two texts, in [-1, 1]; every vector is made once, and the encoder loaded when it is first needed."""

    def __init__(self) -> None:
        self._vectors: dict[str, Float[np.ndarray, " d"]] = {}

    def __call__(self, first: str, second: str) -> float:
        """Cosine of sentence vectors."""
        self._encode([text for text in (first, second) if text not in self._vectors])
        return float(self._vectors[first] @ self._vectors[second])

    def _encode(self, texts: Sequence[str]) -> None:
        if texts:
            pooled = self._encoder.encode(list(texts)).pooled.astype(np.float32)
            self._vectors.update(zip(texts, pooled, strict=True))

    @cached_property
    def _encoder(self) -> MiniLMEncoder:
        from training.text_encoders import MiniLMEncoder

        return MiniLMEncoder()
