"""The steps of annotation as units of work: what each asks its model, of what, and when it has to ask again."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from assets.captions.recaption import global_captions
from assets.derivation.deriving import Derived, Refreshed, derive, refresh_table
from assets.derivation.inputs import read_digests, samples_of
from assets.derivation.nested_rows import nest
from assets.derivation.reuse import previous_rows
from assets.derivation.units import Derivation, Units, input_digest
from assets.derivation.work_items import table_items, work_for
from assets.graph.interfaces import Compute, PerceptionModel, Store, WorkItem
from assets.graph.schemas import ENTITY_BOXES, ENTITY_MASKS
from assets.graph.steps import STEPS
from assets.graph.versions import Provenance
from evaluation.tables.perception import BOXES, DESCRIPTIONS

DESCRIPTION_TABLE = "entity_descriptions"
Log = Callable[[str], None]


def captions_to_read(store: Store, partition: str | None) -> pa.Table:
    """(sample_id, caption) that phrases are taken from: each sample's best kept caption, else its alt-text."""
    recaptions = store.read_table("recaptions", partition)
    landed = store.read_table("landed_images", partition, ["sample_id", "alt_text"])
    seen = landed.filter(pc.is_in(landed["sample_id"], value_set=pc.unique(recaptions["sample_id"])))
    alt_texts = dict(zip(seen["sample_id"].to_pylist(), seen["alt_text"].to_pylist(), strict=True))
    return global_captions(recaptions, alt_texts)


def caption_units(captions: pa.Table, model: PerceptionModel) -> Units:
    """One unit a sample; it is asked again when its caption changes."""
    texts = dict(zip(captions["sample_id"].to_pylist(), captions["caption"].to_pylist(), strict=True))

    def items(todo: Sequence[str]) -> list[WorkItem]:
        rows = pa.table({"sample_id": list(todo), "caption": [texts[name] for name in todo]})
        return table_items(rows, 8 * model.resources.batch_size)

    return Units({name: input_digest(text) for name, text in texts.items()}, items)


def detect(
    store: Store,
    compute: Compute,
    annotator: str,
    model: PerceptionModel,
    partition: str,
    log: Log,
    *,
    retry_failed: bool,
) -> Derived:
    """Boxes of one detector for all samples of a group. A sample is asked again when its phrases change."""
    step = STEPS["entity_boxes"]
    asked = _phrases_by_sample(store, partition, samples_of(store, partition))
    phrases = dict(zip(asked["sample_id"].to_pylist(), asked["phrases"].to_pylist(), strict=True))
    seen = read_digests(store, partition, model, list(phrases))
    digests = {name: input_digest(phrases[name], digest) for name, digest in seen.items()}

    def items(todo: Sequence[str]) -> list[WorkItem]:
        wanted = pc.is_in(asked["sample_id"], value_set=pa.array(todo, pa.string()))
        return work_for(store, partition, model, asked.filter(wanted))

    derivation = Derivation(
        step.name, f"{step.name}_{annotator}", model, "sample_id", BOXES, ["sample_id", "box_index"],
        step.function_version,
    )  # fmt: skip
    before = previous_rows(store, step.name, partition, log)
    if before is not None:
        before = before.filter(pc.equal(before["annotator"], annotator))
    return derive(
        store, compute, derivation, partition, before, Units(digests, items), log, retry_failed=retry_failed
    )


def annotated_boxes(found: Mapping[str, Derived]) -> pa.Table:
    """Rows of all annotators as :data:`assets.graph.schemas.ENTITY_BOXES`, by sample, annotator and rank."""
    tables = [ENTITY_BOXES.empty_table()]
    for annotator, derived in found.items():
        column = pa.repeat(pa.scalar(annotator), derived.rows.num_rows)
        tables.append(derived.rows.append_column(ENTITY_BOXES.field("annotator"), column).cast(ENTITY_BOXES))
    order = [("sample_id", "ascending"), ("annotator", "ascending"), ("box_index", "ascending")]
    return pa.concat_tables(tables).sort_by(order).combine_chunks()


def kept_entities(annotations: pa.Table) -> pa.Table:
    """What a describer or a mask model is asked about: id, sample, phrase and box of kept entities."""
    kept = annotations.filter(annotations["keep"])
    return kept.select(["entity_id", "sample_id", "phrase", "box_xyxy_norm"])


def with_samples(masks: pa.Table, entities: pa.Table) -> pa.Table:
    """Masks as :data:`assets.graph.schemas.ENTITY_MASKS`: each with the sample of its entity, by sample."""
    position = pc.index_in(masks["entity_id"], value_set=entities["entity_id"].combine_chunks())
    table = masks.append_column("sample_id", entities["sample_id"].take(position))
    order = [("sample_id", "ascending"), ("entity_id", "ascending")]
    return table.select(ENTITY_MASKS.names).cast(ENTITY_MASKS).sort_by(order)


def entity_units(
    store: Store,
    partition: str,
    model: PerceptionModel,
    entities: pa.Table,
    also_keep: Collection[str] = (),
) -> Units:
    """One unit an entity, whose id stands for its sample, phrase and box."""
    names, samples = entities["entity_id"].to_pylist(), entities["sample_id"].to_pylist()
    seen = read_digests(store, partition, model, list(dict.fromkeys(samples)))

    def items(todo: Sequence[str]) -> list[WorkItem]:
        wanted = pc.is_in(entities["entity_id"], value_set=pa.array(todo, pa.string()))
        return work_for(store, partition, model, entities.filter(wanted))

    return Units({name: seen[sample] for name, sample in zip(names, samples, strict=True)}, items, also_keep)


def describe(
    store: Store,
    compute: Compute,
    model: PerceptionModel,
    selected: pa.Table,
    provenance: Provenance,
    partition: str,
    log: Log,
    *,
    retry_failed: bool,
) -> Refreshed:
    """Descriptions of the selected entities that are kept, stored in a table of their own.

    Descriptions of entities that a threshold dropped stay there: moving it back asks no model.
    """
    step = STEPS["entity_annotations"]
    derivation = Derivation(
        step.name, DESCRIPTION_TABLE, model, "entity_id", DESCRIPTIONS, ["entity_id"], step.function_version
    )
    units = entity_units(
        store, partition, model, kept_entities(selected), frozenset(selected["entity_id"].to_pylist())
    )
    return refresh_table(
        store, compute, derivation, units, provenance, partition, log, retry_failed=retry_failed
    )


def _phrases_by_sample(store: Store, partition: str, samples: Sequence[str]) -> pa.Table:
    """(sample_id, phrases): kept phrases of each sample in order, an empty list where there are none."""
    rows = store.read_table("entity_phrases", partition, ["sample_id", "phrase_index", "phrase", "keep"])
    known = pc.is_in(rows["sample_id"], value_set=pa.array(samples, pa.string()))
    kept = rows.filter(pc.and_(rows["keep"], known)).sort_by(
        [("sample_id", "ascending"), ("phrase_index", "ascending")]
    )
    nested = nest(kept.select(["sample_id", "phrase"]), "sample_id", samples, "phrases")
    lists = nested["phrases"].combine_chunks()
    flat = pc.struct_field(lists.flatten(), "phrase")
    return pa.table(
        {"sample_id": nested["sample_id"], "phrases": pa.ListArray.from_arrays(lists.offsets, flat)}
    )
