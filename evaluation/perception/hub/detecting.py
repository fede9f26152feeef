"""Role detector: boxes for phrases, each family in its own file, all in normalised corners."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from evaluation.perception.hub.box_conventions import has_area
from evaluation.perception.hub.found import Found, Query
from evaluation.perception.hub.images import open_image
from evaluation.perception.hub.loading import Loaded
from evaluation.perception.hub.rows import Maker
from evaluation.perception.hub.settings import HubModel
from evaluation.tables.perception import BOXES

Detect = Callable[[Loaded, HubModel, Sequence[Query]], list[Found]]
"""How a family finds boxes for every query."""


@dataclass(frozen=True)
class HubDetector:
    """Batch function of role detector: rows (sample_id, phrases, image) to boxes, best first.

    A sample without phrases has no boxes; so may one whose boxes all score below the threshold.
    """

    loaded: Loaded
    settings: HubModel
    maker: Maker
    detect: Detect

    def __call__(self, rows: pa.Table) -> pa.Table:
        """Boxes of the rows' phrases. Raises FoundryError naming the sample whose image is broken."""
        settings, queries = self.settings, []
        for row in rows.to_pylist():
            image = open_image(row["image"], f"sample {row['sample_id']}", settings.max_image_side)
            if any(phrase.strip() for phrase in row["phrases"]):
                queries.append(Query(row["sample_id"], tuple(row["phrases"]), image))
        answers = self.detect(self.loaded, settings, queries)
        found = [
            row
            for query, answer in zip(queries, answers, strict=True)
            for row in self._rows(query, best(answer, settings.max_boxes))
        ]
        return pa.Table.from_pylist(found, schema=BOXES)

    def _rows(self, query: Query, found: Found) -> list[dict[str, object]]:
        return [
            {
                "sample_id": query.sample_id,
                "box_index": index,
                "phrase_index": int(found.phrase_index[index]),
                "phrase": found.labels[index],
                "box_xyxy_norm": found.boxes[index].tolist(),
                "score": float(found.score[index]),
                "name_score": float(found.name_score[index]),
                **self.maker.columns(),
            }
            for index in range(len(found.boxes))
        ]


def best(found: Found, max_boxes: int) -> Found:
    """The best boxes that have an area, best first; equal scores stay in the model's order."""
    order = np.argsort(-found.score, kind="stable")
    return found.take(order[has_area(found.boxes[order])][:max_boxes])
