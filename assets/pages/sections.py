"""What a page of results is made of: sections, each with its sentences, tables and figures.

Every system builds its own section of the report from the store, in the file ``report_section.py`` of its folder. Text
may come from captions or recipes of strangers: nothing here is markup, and all of it is escaped where it is shown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from assets.graph.interfaces import Landing, Models, Store
from assets.pages.tables import Table


@dataclass(frozen=True)
class Figure:
    """A picture with a caption; ``image`` is PNG or JPEG bytes."""

    title: str
    image: bytes
    caption: str = ""


@dataclass(frozen=True)
class Section:
    """One section: sentences, then tables, then figures. ``anchor`` names it in addresses within the page.

    ``missing`` says what would have to be made where there is neither a row nor a figure.
    """

    title: str
    anchor: str
    sentences: Sequence[str] = ()
    tables: Sequence[Table] = ()
    figures: Sequence[Figure] = ()
    missing: str = ""

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to show beside sentences."""
        return not self.figures and not any(table.rows for table in self.tables)


@dataclass(frozen=True)
class Page:
    """A page of sections. ``label``: a bold lead and what must be known before anything is read; ``facts`` stand below."""

    title: str
    sections: Sequence[Section]
    label: tuple[str, str] = ("", "")
    facts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Sources:
    """What sections are built from: the store, what landed, and the profile's recipes."""

    store: Store
    landing: Landing
    models: Models
    prompts_shown: int = 12

    def table(self, name: str, partition: str | None = None) -> pa.Table | None:
        """The newest version of a table; None where it was never made."""
        if self.store.current(name, partition) is None:
            return None
        return self.store.read_table(name, partition)

    def rows(self, name: str, partition: str | None = None) -> list[dict[str, Any]]:
        """Rows of a table; none where it was never made."""
        table = self.table(name, partition)
        return [] if table is None else list(table.to_pylist())

    def rows_of_all(self, name: str, partitions: Sequence[str] | None = None) -> list[dict[str, Any]]:
        """Rows of all partitions, or of some."""
        keys = self.store.partitions(name) if partitions is None else partitions
        return [row for key in keys for row in self.rows(name, key)]

    def figures(self, name: str) -> list[Figure]:
        """Figures that an asset kept in full, by name; none where it drew none."""
        if self.store.current(name) is None:
            return []
        paths = sorted(self.store.local_folder(name).glob("*.png"))
        return [Figure(path.stem.replace("_", " ").capitalize(), path.read_bytes()) for path in paths]
