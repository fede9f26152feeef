"""The embedded detector as a worker: phrases are grounded on regions."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from jaxtyping import Float

from evaluation.perception.embedded.grounding import ground
from evaluation.perception.embedded.models import DETECTOR_NAME, DETECTOR_VERSION
from evaluation.tables.perception import BOXES

if TYPE_CHECKING:
    from training.text_encoders import MiniLMEncoder


class DetectWorker:
    """A batch worker from rows (sample_id, phrases, regions) to rows of :data:`evaluation.tables.perception.BOXES`.

    The sentence encoder is loaded when a phrase is first met that says no region's name.
    """

    def __init__(self, min_similarity: float, min_score: float, digest: str) -> None:
        self.min_similarity = min_similarity
        self.min_score = min_score
        self.digest = digest
        self._vectors: dict[str, Float[np.ndarray, " d"]] = {}

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Boxes of every row's regions."""
        rows: list[dict[str, Any]] = []
        for sample_id, phrases, regions in zip(
            *(batch[name].to_pylist() for name in ("sample_id", "phrases", "regions")), strict=True
        ):
            boxes = ground(phrases, regions, self._similarity, self.min_similarity, self.min_score)
            rows += [
                {
                    "sample_id": sample_id,
                    "box_index": index,
                    "phrase_index": box.phrase_index,
                    "phrase": box.phrase,
                    "box_xyxy_norm": list(box.box_xyxy_norm),
                    "score": box.score,
                    "name_score": box.name_score,
                    "model": DETECTOR_NAME,
                    "model_digest": self.digest,
                    "function_version": DETECTOR_VERSION,
                }
                for index, box in enumerate(boxes)
            ]
        return pa.Table.from_pylist(rows, schema=BOXES)

    def _similarity(self, first: str, second: str) -> float:
        """Cosine of sentence vectors, each made once."""
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
