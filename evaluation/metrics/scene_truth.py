"""What the scene builder drew, as scoring reads it, and how texts are searched for it.

Only scoring reads the truth table; nothing that perceives, captions or annotates does.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache

import pyarrow as pa

from evaluation.boxes import Box
from evaluation.perception.embedded.colors import COLOR_WORDS
from training.errors import FoundryError

TRUTH_COLUMNS = ("sample_id", "objects", "word", "word_box_xyxy_norm", "background")
"""What scoring reads of the truth; masks are not among it."""
_NEEDED = ("sample_id", "objects", "word", "background")


@dataclass(frozen=True)
class TrueLook:
    """How an object looks: the world's colour word, or empty, and the words that tell it from its concept's others."""

    color: str
    phrase: str


@dataclass(frozen=True)
class Truth:
    """One image: objects as (name, box), the rendered word with its box, and the background's colour words.

    Boxes are normalised xyxy and hold the whole object, also where another one hides part of it. ``looks`` tell of
    each object, in the same order, what concepts of several colours need.
    """

    objects: tuple[tuple[str, Box], ...]
    word: str
    word_box: Box | None
    colors: frozenset[str]
    looks: tuple[TrueLook, ...] = ()

    @property
    def names(self) -> frozenset[str]:
        """Names of the objects."""
        return frozenset(name for name, _ in self.objects)


def read_truth(truth: pa.Table) -> dict[str, Truth]:
    """What the builder drew, by sample. Raises FoundryError for a table without the columns of the truth.

    Tables from before concepts had several colours read back with objects that their name alone tells.
    """
    require_columns(truth, "truth", _NEEDED)
    return {
        row["sample_id"]: Truth(
            objects=tuple((item["name"], tuple(item["box_xyxy_norm"])) for item in row["objects"]),
            word=row["word"],
            word_box=tuple(row["word_box_xyxy_norm"]) if row.get("word_box_xyxy_norm") else None,
            colors=color_words(row["background"]),
            looks=tuple(
                TrueLook(item.get("color") or "", item.get("phrase") or item["name"])
                for item in row["objects"]
            ),
        )
        for row in truth.to_pylist()
    }


def require_columns(table: pa.Table, name: str, columns: Collection[str]) -> None:
    """Raise FoundryError that names what is missing."""
    missing = [column for column in columns if column not in table.column_names]
    if missing:
        raise FoundryError(
            f"{name} table lacks the columns {', '.join(missing)}; it has {table.column_names}"
        )


def color_words(description: str) -> frozenset[str]:
    """The colour words in a description such as "two-tone blue and red"; grey is gray."""
    found = {word.replace("grey", "gray") for word in re.findall(r"[a-z]+", description.lower())}
    return frozenset(found & set(COLOR_WORDS))


def mentions(caption: str, concepts: Collection[str]) -> frozenset[str]:
    """Concepts a text names as whole words (a plural s may follow); longer names are looked for first."""
    rest, found = caption.lower(), set()
    for concept, lower in _longest_first(frozenset(concepts)):
        if lower not in rest:  # most are not, and this is much faster than a pattern
            continue
        shorter = re.sub(rf"\b{re.escape(lower)}s?\b", " ", rest)
        if shorter != rest:
            found.add(concept)
            rest = shorter
    return frozenset(found)


@lru_cache(maxsize=8)
def _longest_first(concepts: frozenset[str]) -> tuple[tuple[str, str], ...]:
    """Concepts with their lower-case form, so that "sunflower" is found before "sun"."""
    return tuple((name, name.lower()) for name in sorted(concepts, key=lambda name: (-len(name), name)))
