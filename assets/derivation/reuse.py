"""The rows of the version before, for whoever makes the next."""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa

from assets.graph.interfaces import Store
from training.errors import FoundryError


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
