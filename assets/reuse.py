"""Sample-level reuse: recomputing is an anti-join over the keys of what made each row."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from assets.interfaces import Store
from training.errors import FoundryError


@dataclass(frozen=True)
class ReusePlan:
    """What can be kept of a previous version, and what has to be made.

    ``new`` had no row before, ``stale`` had rows made by another model, setting or function version.
    """

    kept: pa.Table | None
    new: tuple[str, ...]
    stale: tuple[str, ...]

    @property
    def todo(self) -> tuple[str, ...]:
        """Keys that have to be computed, in the order in which they were asked for."""
        return self.new + self.stale

    def counts(self) -> dict[str, int]:
        """The figures that every asset page shows."""
        reused = 0 if self.kept is None else self.kept.num_rows
        return {"rows_reused": reused, "samples_new": len(self.new), "samples_stale": len(self.stale)}


def plan_reuse(
    previous: pa.Table | None, wanted: Iterable[str], made_by: Mapping[str, Any], key: str = "sample_id"
) -> ReusePlan:
    """Keep previous rows whose key is wanted and whose ``made_by`` columns all match; list the rest to do.

    A key is kept only if all its rows match: half of an image's captions by another model is stale.
    """
    order = list(dict.fromkeys(wanted))
    if previous is None or previous.num_rows == 0:
        return ReusePlan(None, tuple(order), ())
    matches = pa.chunked_array([pa.array([True] * previous.num_rows)])
    for column, value in made_by.items():
        matches = pc.and_(matches, pc.equal(previous[column], value))
    before = set(previous[key].to_pylist())
    outdated = set(previous.filter(pc.invert(matches))[key].to_pylist())
    good = before - outdated
    keep = [name for name in order if name in good]
    kept = previous.filter(pc.is_in(previous[key], value_set=pa.array(keep, pa.string())))
    return ReusePlan(
        kept if kept.num_rows else None,
        tuple(name for name in order if name not in before),
        tuple(name for name in order if name in outdated),
    )


def previous_rows(
    store: Store, name: str, partition: str | None, log: Callable[[str], None]
) -> pa.Table | None:
    """Rows of the newest version for reuse; None when there are none, or when they are damaged and must be made again."""
    if store.current(name, partition) is None:
        return None
    try:
        return store.read_table(name, partition)
    except FoundryError as error:
        log(f"nothing of the previous version is reused: {error}")
        return None


def merge_rows(kept: pa.Table | None, made: pa.Table, sort_by: list[str]) -> pa.Table:
    """Kept and fresh rows in one order, so that an increment and a full build have equal bytes."""
    table = made if kept is None else pa.concat_tables([kept.select(made.column_names), made])
    return table.sort_by([(name, "ascending") for name in sort_by]).combine_chunks()
