"""The embedded detector as a worker: phrases are grounded on regions."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from evaluation.perception.embedded.grounding import ground
from evaluation.perception.embedded.models import DETECTOR_NAME, DETECTOR_VERSION
from evaluation.perception.embedded.sentence_similarity import SentenceSimilarity
from evaluation.tables.perception import BOXES


class DetectWorker:
    """A batch worker from rows (sample_id, phrases, regions) to rows of :data:`evaluation.tables.perception.BOXES`.

    The sentence encoder is loaded when a phrase is first met that says no region's name.
    """

    def __init__(self, min_similarity: float, min_score: float, digest: str) -> None:
        self.min_similarity = min_similarity
        self.min_score = min_score
        self.digest = digest
        self._similarity = SentenceSimilarity()

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
