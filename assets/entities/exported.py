"""What an export is made of: the newest versions of the tables, and images with all that belongs to them, in a stream."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from assets.entities.card import ModelRow
from assets.entities.formats.records import AnnotatedCaption, AnnotatedEntity, AnnotatedImage, image_suffix
from assets.entities.tally import Tally
from assets.graph.interfaces import Store
from training.digests import canonical_json, sha256_bytes
from training.errors import FoundryError

TableName = Literal["training", "benchmark"]
ROWS_AT_ONCE = 256
"""Images in memory."""
_LANDED = [
    "sample_id",
    "image_id",
    "source",
    "split",
    "image",
    "width",
    "height",
    "alt_text",
    "license",
    "attribution",
]


class Selection:
    """What is exported: the versions it comes from and the records in a fixed order."""

    def __init__(self, store: Store, table: TableName, split: str, limit: int | None) -> None:
        self.store, self.table, self.split, self.limit = store, table, split, limit
        self.request: dict[str, Any] = {"table": table, "split": split, "limit": limit}
        names = ["landed_images", "curated_images"]
        names += (
            ["recaptions", "entity_annotations", "entity_masks"]
            if table == "training"
            else ["layout_benchmark"]
        )
        self.versions = _versions(store, names)
        # Tables of the last run may still hold what was removed since; an export must not.
        self._removed = store.takedowns()
        selection = {**self.request, "versions": self.versions, "removed": sorted(self._removed)}
        self.digest = sha256_bytes(canonical_json(selection).encode())
        self._names = names
        if table == "benchmark":
            self._prompts, self._layouts = _benchmark(store)
            self._wanted_ids = pa.array(sorted(self._prompts), pa.string())
        else:
            self._wanted_ids = _ids_of_split(store, split)
        self.total = len(self._wanted_ids) if limit is None else min(len(self._wanted_ids), limit)

    def records(self, needs_entities: bool, tally: Tally) -> Iterator[AnnotatedImage]:
        """Images in order of shard group and landing; what is left out is counted."""
        found = 0
        for key in self.store.partitions("landed_images"):
            for record in self._of_group(key, tally):
                if needs_entities and not (record.entities and record.global_caption):
                    tally.without_entities += 1
                    continue
                if self.limit is not None and found >= self.limit:
                    return
                found += 1
                tally.add(record)
                yield record

    def check_unchanged(self) -> None:
        """Raises FoundryError when a version was replaced while it was being read."""
        if _versions(self.store, self._names) != self.versions:
            raise FoundryError(
                "export: the tables changed while they were read. Export again when no run is going."
            )

    def _of_group(self, key: str, tally: Tally) -> Iterator[AnnotatedImage]:
        is_training = self.table == "training"
        captions = _captions(self.store, key) if is_training else self._prompts
        entities = _entities(self.store, key) if is_training else self._layouts
        ids = self._wanted_ids.to_pylist()
        for item in self.store.work_items("landed_images", key, "sample_id", ids, _LANDED, ROWS_AT_ONCE):
            for row in item.load().to_pylist():
                if row["image_id"] in self._removed:
                    tally.removed += 1
                    continue
                yield _record(row, captions, entities, keep_alt_text=is_training)


def _ids_of_split(store: Store, split: str) -> pa.Array:
    """Samples of a split that curation kept, looking at all shard groups together, as training does."""
    from assets.corpus.curation import mark_duplicates

    curated = mark_duplicates(store.read_all("curated_images"))
    chosen = curated.filter(pc.and_(curated["keep"], pc.equal(curated["split"], split)))
    return chosen["sample_id"].combine_chunks()


def _benchmark(store: Store) -> tuple[dict[str, list[AnnotatedCaption]], dict[str, list[AnnotatedEntity]]]:
    """Prompt and entities of each sample of the benchmark. Raises StoreError when its leak check failed."""
    table = store.read_table("layout_benchmark", require_gate=True)
    prompts: dict[str, list[AnnotatedCaption]] = {}
    layouts: dict[str, list[AnnotatedEntity]] = defaultdict(list)
    for row in table.sort_by("entity_index").to_pylist():
        prompts[row["sample_id"]] = [AnnotatedCaption(row["global_caption"], "prompt")]
        layouts[row["sample_id"]].append(_entity(row, {}))
    return prompts, layouts


def _versions(store: Store, names: list[str]) -> dict[str, str]:
    """Digest of the newest version of every partition of the named tables; those never made are left out."""
    found: dict[str, str] = {}
    for name in names:
        keys: list[str | None] = [*store.partitions(name)] or [None]
        for key in keys:
            manifest = store.current(name, key)
            if manifest is not None:
                found[name if key is None else f"{name}@{key}"] = manifest.digest
    return found


def _captions(store: Store, key: str) -> dict[str, list[AnnotatedCaption]]:
    """Kept recaptions of a shard group by sample, best first."""
    if store.current("recaptions", key) is None:
        return {}
    table = store.read_table(
        "recaptions", key, ["sample_id", "caption_index", "caption", "model", "score", "keep"]
    )
    captions: dict[str, list[AnnotatedCaption]] = defaultdict(list)
    for row in table.filter(table["keep"]).sort_by("caption_index").to_pylist():
        captions[row["sample_id"]].append(AnnotatedCaption(row["caption"], row["model"], row["score"]))
    return captions


def _entities(store: Store, key: str) -> dict[str, list[AnnotatedEntity]]:
    """Kept entities of a shard group by sample, best first, with their masks where there are any."""
    if store.current("entity_annotations", key) is None:
        return {}
    masks: dict[str, dict[str, Any]] = {}
    if store.current("entity_masks", key) is not None:
        rows = store.read_table("entity_masks", key, ["entity_id", "mask_rle", "mask_size"]).to_pylist()
        masks = {row["entity_id"]: row for row in rows}
    columns = ["sample_id", "entity_id", "entity_index", "annotator", "phrase", "description", "box_xyxy_norm",
               "score", "detector_score", "keep"]  # fmt: skip
    table = store.read_table("entity_annotations", key, columns)
    table = table.filter(table["keep"])
    annotators = pc.unique(table["annotator"]).to_pylist()
    if len(annotators) > 1:
        raise FoundryError(
            f"export: entity_annotations@{key} holds entities of several annotators ({', '.join(sorted(annotators))}); "
            "one data set has one. Configure a single annotator and materialize again."
        )
    entities: dict[str, list[AnnotatedEntity]] = defaultdict(list)
    for row in table.sort_by("entity_index").to_pylist():
        entities[row["sample_id"]].append(_entity(row, masks.get(row["entity_id"], {})))
    return entities


def _entity(row: Mapping[str, Any], mask: Mapping[str, Any]) -> AnnotatedEntity:
    x1, y1, x2, y2 = (float(value) for value in row["box_xyxy_norm"])
    height, width = mask.get("mask_size", (0, 0))
    return AnnotatedEntity(
        row["phrase"], row["description"], (x1, y1, x2, y2), row.get("score"), row.get("detector_score"),
        mask.get("mask_rle", ""), (height, width),
    )  # fmt: skip


def _record(
    row: Mapping[str, Any],
    captions: Mapping[str, list[AnnotatedCaption]],
    entities: Mapping[str, list[AnnotatedEntity]],
    *,
    keep_alt_text: bool,
) -> AnnotatedImage:
    sample_id = row["sample_id"]
    alt_text = (AnnotatedCaption(row["alt_text"]),) if keep_alt_text and row["alt_text"] else ()
    return AnnotatedImage(
        sample_id=sample_id,
        image=row["image"],
        width=row["width"],
        height=row["height"],
        file_name=f"{sample_id}{image_suffix(row['image'])}",
        captions=(*captions.get(sample_id, ()), *alt_text),
        entities=tuple(entities.get(sample_id, ())),
        license=row["license"],
        attribution=row["attribution"],
        source=row["source"],
        split=row["split"],
    )


def model_rows(store: Store) -> list[ModelRow]:
    """Every model whose rows stand in the tables that an export is made of."""
    columns: dict[str, list[tuple[str, str, str, str | None]]] = {
        "regions": [("regions", "model", "model_digest", "function_version")],
        "recaptions": [("captions", "model", "model_digest", "function_version")],
        "entity_phrases": [("phrases", "model", "model_digest", "function_version")],
        "entity_annotations": [
            ("boxes", "model", "model_digest", "function_version"),
            ("descriptions", "description_model", "description_digest", None),
        ],
        "entity_masks": [("masks", "model", "model_digest", "function_version")],
    }  # fmt: skip
    found: dict[ModelRow, None] = {}
    for table, roles in columns.items():
        for role, name, digest, version in roles:
            wanted = [column for column in (name, digest, version) if column]
            for key in store.partitions(table):
                for row in store.read_table(table, key, wanted).group_by(wanted).aggregate([]).to_pylist():
                    if row[name]:
                        found[ModelRow(role, row[name], row[digest], row[version] if version else None)] = (
                            None
                        )
    return sorted(found, key=lambda row: (row.role, row.name, row.digest))


def dropped_rows(store: Store) -> dict[str, dict[str, int]]:
    """Rows of each table by the reason for which they were dropped, ``kept`` for the others."""
    counts: dict[str, dict[str, int]] = {}
    for name in ("curated_images", "recaptions", "entity_phrases", "entity_annotations"):
        by_reason: dict[str, int] = defaultdict(int)
        for key in store.partitions(name):
            table = store.read_table(name, key, ["keep", "dropped_because"])
            for row in table.group_by(["keep", "dropped_because"]).aggregate([([], "count_all")]).to_pylist():
                by_reason["kept" if row["keep"] else row["dropped_because"] or "dropped"] += row["count_all"]
        if by_reason:
            counts[name] = dict(sorted(by_reason.items()))
    return counts


def leak_findings(store: Store) -> dict[str, Any]:
    """What the benchmark's leak check found; empty where there is no benchmark."""
    manifest = store.current("layout_benchmark")
    return {} if manifest is None or manifest.gate is None else dict(manifest.gate.findings)
