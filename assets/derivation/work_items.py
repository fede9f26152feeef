"""Work for perception models: rows of units joined with the images or regions that a model reads."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc

from assets.derivation.nested_rows import nest
from assets.derivation.units import Units
from assets.graph.interfaces import PerceptionModel, Store, WorkItem

BATCHES_PER_ITEM = 8


def work_for(store: Store, partition: str | None, model: PerceptionModel, units: pa.Table) -> list[WorkItem]:
    """Work items over rows of ``units`` (which have a sample_id), with the columns that the model reads.

    Images are loaded where the work is done; regions, which are small, travel along.
    """
    if "regions" in model.reads:
        units = with_regions(units, store.read_table("regions", partition))
    size = model.resources.batch_size * BATCHES_PER_ITEM
    if "image" not in model.reads:
        return table_items(units, size)
    return [
        item
        for start in range(0, units.num_rows, size)
        for item in _with_images(store, partition, units.slice(start, size))
    ]


def sample_work(
    store: Store, partition: str | None, model: PerceptionModel, samples: Sequence[str]
) -> list[WorkItem]:
    """:func:`work_for` a model that answers for whole samples."""
    return work_for(store, partition, model, pa.table({"sample_id": pa.array(samples, pa.string())}))


def text_units(texts: Mapping[str, str], model: PerceptionModel, also_keep: Collection[str] = ()) -> Units:
    """One unit a distinct text by its id, which stands for the text."""

    def items(todo: Sequence[str]) -> list[WorkItem]:
        rows = pa.table({"text_id": list(todo), "text": [texts[name] for name in todo]})
        return table_items(rows, BATCHES_PER_ITEM * model.resources.batch_size)

    return Units(dict.fromkeys(texts, ""), items, also_keep)


def table_items(table: pa.Table, rows_per_item: int) -> list[WorkItem]:
    """A table that is in memory, as work."""
    pieces = (table.slice(start, rows_per_item) for start in range(0, table.num_rows, rows_per_item))
    return [WorkItem(piece.num_rows, partial(_given, piece)) for piece in pieces]


def with_regions(units: pa.Table, regions: pa.Table) -> pa.Table:
    """``units`` with the column ``regions``: what perception saw in each row's sample, as a list of structs."""
    samples = pc.unique(units["sample_id"])
    ordered = regions.filter(pc.is_in(regions["sample_id"], value_set=samples)).sort_by(
        [("sample_id", "ascending"), ("region_index", "ascending")]
    )
    nested = nest(ordered, "sample_id", samples.to_pylist(), "regions")
    position = pc.index_in(units["sample_id"], value_set=samples)
    return units.append_column("regions", nested["regions"].take(position))


def _with_images(store: Store, partition: str | None, units: pa.Table) -> list[WorkItem]:
    samples = pc.unique(units["sample_id"]).to_pylist()
    items = store.work_items(
        "landed_images", partition, "sample_id", samples, ["sample_id", "image"], len(samples)
    )
    shares = _shares(units.num_rows, [item.num_rows for item in items])
    return [
        WorkItem(share, partial(_load_joined, item.load, units))
        for item, share in zip(items, shares, strict=True)
    ]


def _shares(total: int, weights: Sequence[int]) -> list[int]:
    """``total`` dealt out in proportion to ``weights``, for progress figures."""
    dealt, seen, result = 0, 0, []
    for weight in weights:
        seen += weight
        upto = round(total * seen / sum(weights))
        result.append(upto - dealt)
        dealt = upto
    return result


def _given(table: pa.Table) -> pa.Table:
    return table


def _load_joined(load: Callable[[], pa.Table], units: pa.Table) -> pa.Table:
    """Rows of ``units`` whose sample is among the loaded ones, with its image."""
    images = load()
    position = pc.index_in(units["sample_id"], value_set=images["sample_id"].combine_chunks())
    here = units.filter(pc.is_valid(position))
    return here.append_column("image", images["image"].take(position.drop_null()))
