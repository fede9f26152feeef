"""Layouts of the dataset's samples out of the annotations: what layout branches are trained on, apart from the dataset."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from assets.graph.interfaces import Store
from training.layout.entities import Entity
from training.layout.shards import LayoutDescription, write_layout_shards
from training.shards import TrainingShards
from training.text_encoders import TextEncoder

Text = Literal["description", "phrase"]
COLUMNS = ["sample_id", "entity_index", "phrase", "description", "box_xyxy_norm", "keep"]


@dataclass(frozen=True)
class Layouts:
    """Entities of every sample of a dataset, in its order, best first."""

    by_row: list[list[Entity]]

    def counts(self) -> dict[str, int]:
        """How many samples have how many entities, as text for a page."""
        found = Counter(len(entities) for entities in self.by_row)
        return {str(number): found[number] for number in sorted(found)}


def read_layouts(store: Store, shards: TrainingShards, text: Text) -> Layouts:
    """Kept entities of the samples of a dataset, none where nothing was annotated. ``text``: the describer's words where it
    has any, or the short phrase alone."""
    by_sample = _by_sample(store.read_all("entity_annotations", COLUMNS), text)
    return Layouts([by_sample.get(sample_id, []) for sample_id in shards.samples["sample_id"].to_pylist()])


def _by_sample(annotations: pa.Table, text: Text) -> dict[str, list[Entity]]:
    kept = annotations.filter(annotations["keep"]).sort_by(
        [("sample_id", "ascending"), ("entity_index", "ascending")]
    )
    found: dict[str, list[Entity]] = {}
    for row in kept.to_pylist():
        x1, y1, x2, y2 = (min(max(float(value), 0.0), 1.0) for value in row["box_xyxy_norm"])
        words = row["description"] if text == "description" and row["description"] else row["phrase"]
        if x2 > x1 and y2 > y1:
            found.setdefault(row["sample_id"], []).append(Entity(words, (x1, y1, x2, y2)))
    return found


def write_layouts(
    folder: Path, layouts: Layouts, encoder: TextEncoder, dataset_digest: str, tokens_per_entity: int
) -> LayoutDescription:
    """The sidecar's folder; see :func:`training.layout.shards.write_layout_shards`."""
    return write_layout_shards(
        folder, layouts.by_row, encoder, dataset_digest, tokens_per_entity=tokens_per_entity
    )


def layout_facts(layouts: Layouts, about: LayoutDescription) -> dict[str, Any]:
    """What the asset's page says."""
    return {
        "num_samples": about.num_samples,
        "num_entities": about.num_entities,
        "distinct_phrases": about.num_phrases,
        "phrases_that_may_be_cut": about.num_cut_phrases,
        "most_entities": about.most_entities,
        "phrase_states": f"{about.tokens_per_entity} x {about.phrase_dim}",
        "samples_by_number_of_entities": layouts.counts(),
    }
