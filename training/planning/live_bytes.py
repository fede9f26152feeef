"""Which bytes are alive at every moment of a simulated step: those that grow with the batch, and those that do not; and its work.

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
from torch.utils.flop_counter import flop_registry, sdpa_flop_count

PROBE_BATCH = 101
GROWING, WIDE, NARROW = range(3)
"""Kinds of storages: growing with the batch; not growing, of four bytes an element; not growing, of fewer."""

Row = tuple[int, int, int]
NOTHING: Row = (0, 0, 0)


@dataclass(frozen=True)
class Timeline:
    """Live bytes moment by moment beside the weights: a column an image, one in fp32 and one in narrower formats.

    ``forward_macs`` and ``backward_macs``: multiply-adds of both passes, an image; what the backward pass computes again counts
    there.
    """

    per_image: Float64[np.ndarray, " moments"]
    wide: Float64[np.ndarray, " moments"]
    narrow: Float64[np.ndarray, " moments"]
    forward_macs: float = 0.0
    backward_macs: float = 0.0

    @staticmethod
    def of(rows: list[Row], forward_macs: int = 0, backward_macs: int = 0) -> Timeline:
        """From rows and multiply-adds as :class:`LiveBytes` counts them."""
        columns = np.array(rows or [NOTHING], dtype=np.float64).T
        macs = forward_macs / PROBE_BATCH, backward_macs / PROBE_BATCH
        return Timeline(columns[GROWING] / PROBE_BATCH, columns[WIDE], columns[NARROW], *macs)


class LiveBytes(TorchDispatchMode):
    """Follows every storage that operations make until it is freed; ``rows`` holds the live bytes after each change.

    ``macs``: multiply-adds of all operations so far.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now: Row = NOTHING
        self.rows: list[Row] = []
        self.macs = 0
        self._known: dict[int, weakref.ref[Any]] = {}
        self._changes: dict[int, Row] = {}
        self._is_paused = False

    @no_type_check
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        if self._is_paused:
            return output
        self.macs += _macs(func, args, kwargs, output)
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
def _macs(func: Any, args: Any, kwargs: Any, output: Any) -> int:
    """Multiply-adds of an operation; of fused attention's backward pass its four products, not what it computes again."""
    if func._overloadpacket in _FUSED_ON_CPU:
        tensors = args if func._overloadpacket is _FUSED_ON_CPU[0] else args[1:]
        shapes = [tensor.shape for tensor in tensors[:3]]
        return sdpa_flop_count(*shapes) // 2 * (1 if tensors is args else 2)
    rule = flop_registry.get(func._overloadpacket)
    return 0 if rule is None else rule(*args, **(kwargs or {}), out_val=output) // 2


_FUSED_ON_CPU = (
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward,
)
"""Attention as fake tensors of a CPU compute it; torch's own table of operations lacks both."""


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
