"""What can go wrong in workers that no batch function can report itself."""

from __future__ import annotations

import pyarrow as pa

from training.errors import FoundryError


class DeadlyRows(FoundryError):  # noqa: N818
    """Rows on which the worker's process died each time, also alone (a segmentation fault, memory).

    Raised by :meth:`assets.graph.interfaces.Compute.map_shards` after every other row has been answered, so that a caller
    can keep those and record these.

    Attributes:
        rows: the input rows at fault, as the batch function would have seen them.
    """

    def __init__(self, message: str, rows: pa.Table) -> None:
        super().__init__(message)
        self.rows = rows
