"""Metrics of a run as small Parquet parts, so that whoever follows the folder reads whole files only."""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from torch import Tensor

from training.loop.processes import Team
from training.run_folder import write_bytes_atomic


class Interval:
    """Sums over the batches since the last row; tensors stay on the device until the row is made."""

    def __init__(self) -> None:
        self.images = 0
        self.sums: dict[str, Tensor | float] = defaultdict(float)

    def add(self, images: int, values: Mapping[str, Tensor | float]) -> None:
        """Add means over ``images`` images; values named ``count_...`` are sums already."""
        for name, value in values.items():
            self.sums[name] = self.sums[name] + value * (1 if name.startswith("count_") else images)

    def total(self, team: Team) -> Interval:
        """The sums over all processes of a team."""
        if team.size == 1:
            return self
        mine = {name: float(value) for name, value in self.sums.items()}
        whole = Interval()
        for images, sums in team.gather([self.images, mine]):
            whole.images += images
            for name, value in sums.items():
                whole.sums[name] = whole.sums[name] + value
        return whole

    def row(self) -> dict[str, float]:
        """Mean of each value over the images, sums for counts."""
        parts = {name: 1 if name.startswith("count_") else self.images for name in self.sums}
        return {name: float(total) / parts[name] for name, total in self.sums.items()}


class MetricsLog:
    """Rows wait here and go to disk as one part named by the images seen at the last row."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rows: list[dict[str, float]] = []

    def add(self, row: dict[str, float]) -> None:
        """Keep one row; it must hold ``images_seen``."""
        self.rows.append(row)

    def flush(self) -> None:
        """Write the waiting rows. Raises FoundryError when the disk is full."""
        if not self.rows:
            return
        table = pa.Table.from_pylist(self.rows)
        table = table.set_column(
            table.column_names.index("images_seen"), "images_seen", table["images_seen"].cast(pa.int64())
        )
        buffer = io.BytesIO()
        pq.write_table(table, buffer)
        name = f"{int(self.rows[-1]['images_seen']):015d}.parquet"
        write_bytes_atomic(self.folder / name, buffer.getvalue(), durable=False)
        self.rows = []

    def forget_after(self, images_seen: int) -> None:
        """Drop parts that go beyond the checkpoint a run resumes from; they will be written again."""
        for part in self.folder.glob("*.parquet"):
            if int(part.stem) > images_seen:
                part.unlink()
