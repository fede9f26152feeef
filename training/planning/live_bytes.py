"""Which bytes are alive at every moment of a simulated step: those that grow with the batch, and those that do not.

The simulation runs with :data:`PROBE_BATCH` images, a prime that divides no width, token count or channel count of a
backbone. A storage whose elements it divides grows with the batch; every other one does not. So a single run tells the
live bytes of any batch size at every moment, and the peak is the largest of them, whenever it comes.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, no_type_check

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

PROBE_BATCH = 101
GROWING, WIDE, NARROW = range(3)
"""Kinds of storages: growing with the batch; not growing, of four bytes an element; not growing, of fewer."""

Row = tuple[int, int, int]
NOTHING: Row = (0, 0, 0)


@dataclass(frozen=True)
class Timeline:
    """Live bytes moment by moment beside the weights: a column an image, one in fp32 and one in narrower formats."""

    per_image: Float64[np.ndarray, " moments"]
    wide: Float64[np.ndarray, " moments"]
    narrow: Float64[np.ndarray, " moments"]

    @staticmethod
    def of(rows: list[Row]) -> Timeline:
        """From rows as :class:`LiveBytes` writes them."""
        columns = np.array(rows or [NOTHING], dtype=np.float64).T
        return Timeline(columns[GROWING] / PROBE_BATCH, columns[WIDE], columns[NARROW])


class LiveBytes(TorchDispatchMode):
    """Follows every storage that operations make until it is freed; ``rows`` holds the live bytes after each change."""

    def __init__(self) -> None:
        super().__init__()
        self.now: Row = NOTHING
        self.rows: list[Row] = []
        self._known: dict[int, weakref.ref[Any]] = {}
        self._changes: dict[int, Row] = {}
        self._is_paused = False

    @no_type_check
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        if self._is_paused:
            return output
        for leaf in tree_leaves(output):
            if isinstance(leaf, Tensor):
                self.follow(leaf)
        return output

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Inside, new storages are not seen."""
        self._is_paused, was = True, self._is_paused
        try:
            yield
        finally:
            self._is_paused = was

    def ignore(self, tensor: Tensor) -> None:
        """Take a storage that is counted elsewhere, such as a weight, as not there."""
        self._follow(tensor, NOTHING)

    def follow(self, tensor: Tensor) -> None:
        """Count a tensor's storage from now on until it is freed, unless it is known already."""
        self._follow(tensor, _change(tensor))

    def lump(self, change: Row) -> Tensor:
        """A tensor that counts as so many bytes of each kind while it lives."""
        with self.paused():
            tensor = torch.empty(())
        self._follow(tensor, change)
        return tensor

    def drop(self, tensor: Tensor) -> None:
        """Count a storage as freed now, whoever still holds it."""
        key = tensor.untyped_storage()._cdata
        self._move(_minus(self._changes.pop(key, NOTHING)))

    def paste(self, rows: list[Row]) -> None:
        """Write moments that lie so many bytes above the present one, without changing it."""
        self.rows += [_plus(self.now, row) for row in rows]

    def size(self, tensor: Tensor) -> tuple[int, Row]:
        """A known storage's key for :meth:`is_alive`, and what it counts as."""
        key = tensor.untyped_storage()._cdata
        return key, self._changes[key]

    def is_alive(self, key: int) -> bool:
        """Whether a storage that was known has not been freed."""
        return key in self._known

    @no_type_check
    def _follow(self, tensor: Tensor, change: Row) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._known:
            return

        def freed(_: Any) -> None:
            self._known.pop(key, None)
            self._move(_minus(self._changes.pop(key, NOTHING)))

        self._known[key] = weakref.ref(storage, freed)
        self._changes[key] = change
        self._move(change)

    @no_type_check
    def _move(self, change: Row) -> None:
        if change != NOTHING:
            self.now = _plus(self.now, change)
            self.rows.append(self.now)


@no_type_check
def _change(tensor: Tensor) -> Row:
    size = tensor.untyped_storage().nbytes()
    elements = size // tensor.element_size()
    if elements % PROBE_BATCH == 0:
        return (size, 0, 0)
    return (0, size, 0) if tensor.element_size() >= 4 else (0, 0, size)


@no_type_check
def _plus(left: Row, right: Row) -> Row:
    return left[0] + right[0], left[1] + right[1], left[2] + right[2]


@no_type_check
def _minus(row: Row) -> Row:
    return -row[0], -row[1], -row[2]


def above(rows: list[Row], start: Row) -> list[Row]:
    """Rows relative to a moment."""
    return [_plus(row, _minus(start)) for row in rows]


def highest(rows: list[Row]) -> list[Row]:
    """Rows that can be the highest for some batch: those that no other one reaches in every column."""
    kept: list[Row] = []
    for row in sorted(set(rows), reverse=True):
        if not any(row[1] <= other[1] and row[2] <= other[2] for other in kept):
            kept.append(row)
    return kept
