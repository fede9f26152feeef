"""What detectors are asked and what they find. Light: no torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from jaxtyping import Float, Int

if TYPE_CHECKING:
    from collections.abc import Callable

    from PIL import Image

Item = TypeVar("Item")


@dataclass(frozen=True)
class Query:
    """Phrases to be found in one sample's image."""

    sample_id: str
    phrases: tuple[str, ...]
    image: Image.Image


@dataclass(frozen=True)
class Found:
    """Boxes in normalised corners, the phrase of each (index and words) and two scores in [0, 1].

    ``score`` says how surely an object is there, ``name_score`` how well the phrase fits it. ``phrase_index`` is -1
    where the model's words are none of the phrases.
    """

    boxes: Float[np.ndarray, "n 4"]
    phrase_index: Int[np.ndarray, " n"]
    labels: list[str]
    score: Float[np.ndarray, " n"]
    name_score: Float[np.ndarray, " n"]

    def take(self, rows: Int[np.ndarray, " k"]) -> Found:
        """Some of the boxes, in the order given."""
        return Found(
            self.boxes[rows],
            self.phrase_index[rows],
            [self.labels[row] for row in rows],
            self.score[rows],
            self.name_score[rows],
        )


def nothing() -> Found:
    """No boxes."""
    return Found(np.zeros((0, 4)), np.zeros(0, dtype=np.int64), [], np.zeros(0), np.zeros(0))


def join(parts: Sequence[Found]) -> Found:
    """The boxes of several answers about one sample."""
    if not parts:
        return nothing()
    return Found(
        np.concatenate([part.boxes for part in parts]),
        np.concatenate([part.phrase_index for part in parts]),
        [label for part in parts for label in part.labels],
        np.concatenate([part.score for part in parts]),
        np.concatenate([part.name_score for part in parts]),
    )


def alike(items: Sequence[Item], key: Callable[[Item], Any], batch_size: int) -> Iterator[list[Item]]:
    """Batches of items with equal keys, so that none is padded because of another."""
    for _, group in groupby(sorted(items, key=key), key=key):
        members = list(group)
        for first in range(0, len(members), batch_size):
            yield members[first : first + batch_size]
