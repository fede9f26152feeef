"""Other attention processors for as long as something is rendered."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any


@contextmanager
def in_place_of(attentions: Sequence[Any], processors: Sequence[Any]) -> Iterator[None]:
    """While inside, each attention has the processor beside it; afterwards, whatever happened, its own again."""
    before = [attention.processor for attention in attentions]
    try:
        for attention, processor in zip(attentions, processors, strict=True):
            attention.processor = processor
        yield
    finally:
        for attention, own in zip(attentions, before, strict=True):
            attention.processor = own
