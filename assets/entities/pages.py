"""The page to browse annotations, filled from the store."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from assets.entities.browse import PAGE_FILE, choose_samples, count_reasons, gather_samples, write_pages
from assets.graph.interfaces import Store
from training.run_folder import write_bytes_atomic

_EMPTY = (
    b"<!doctype html><meta charset=utf-8><title>Annotated samples</title>"
    b"<p>entity_annotations holds no entity at all: look at its asset page. Did the detector find boxes?</p>\n"
)
_IMAGE_COLUMNS = ["sample_id", "image", "split", "alt_text", "license", "attribution"]


def write_annotation_pages(
    folder: Path, store: Store, max_samples: int, concept_names: Sequence[str]
) -> dict[str, int]:
    """Write the page into ``folder`` and return counts. Without any entity the page says so."""
    annotations = store.read_all("entity_annotations")
    chosen = choose_samples(annotations, max_samples)
    if not chosen:
        write_bytes_atomic(folder / PAGE_FILE, _EMPTY)
        return {"samples_shown": 0, "samples_annotated": 0, "entities": 0}
    images = pa.concat_tables(list(_images(store, chosen)))
    samples = gather_samples(chosen, images, store.read_all("recaptions"), annotations, concept_names)
    counts = {
        "samples_shown": len(samples),
        "samples_annotated": len(pc.unique(annotations["sample_id"])),
        "entities": annotations.num_rows,
        **{_label(reason): count for reason, count in count_reasons(annotations).items()},
    }
    facts = {name.replace("_", " "): f"{value:,}" for name, value in counts.items()}
    write_pages(folder, samples, title="Annotated samples", facts=facts)
    return counts


def _label(reason: str) -> str:
    return "entities kept" if reason == "kept" else f"dropped, {reason}"


def _images(store: Store, wanted: Sequence[str]) -> list[pa.Table]:
    """Pictures of the chosen samples, group by group, so that never more than one group is in memory."""
    ids = pa.array(wanted, pa.string())
    tables = []
    for key in store.partitions("landed_images"):
        rows = store.read_table("landed_images", key, _IMAGE_COLUMNS)
        tables.append(rows.filter(pc.is_in(rows["sample_id"], value_set=ids)))
    return tables
