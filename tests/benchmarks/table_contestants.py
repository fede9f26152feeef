"""One contestant a process: writes or summarises entity rows, and prints its answer, seconds and peak memory as JSON.

``python -m tests.benchmarks.table_contestants CONTESTANT FOLDER NUM_IMAGES``
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from assets.graph.versions import Provenance
from orchestration.resources.store import ManifestStore

ENTITIES_PER_IMAGE = 3.963  # 10.7 million entities on 2.7 million images
IMAGES_AT_ONCE = 20_000
THREADS = 2
MEMORY_GB = 4.0
SPLITS = ("train", "judge", "held_out_images", "held_out_concepts")
_BOX = pa.list_(pa.float32(), 4)


def sample_ids(first: int, count: int, random: np.random.Generator) -> pa.Array:
    """Hex digests of 64 characters in ascending order, as a stored table has them."""
    head = (np.arange(first, first + count, dtype=np.uint64) << np.uint64(36)).astype(">u8").view(np.uint8)
    digests = np.concatenate([head.reshape(count, 8), random.integers(0, 256, (count, 24), np.uint8)], axis=1)
    offsets = np.arange(0, 64 * count + 1, 64, dtype=np.int32)
    return pa.StringArray.from_buffers(
        count, pa.py_buffer(offsets), pa.py_buffer(digests.tobytes().hex().encode())
    )


def batches(num_images: int) -> Iterator[tuple[pa.Table, pa.Table]]:
    """(images, entities) in pieces; the same rows for the same number."""
    random = np.random.default_rng(0)
    nouns = pa.array([f"{letter}{number:03d} thing" for letter in "abcdefgh" for number in range(250)])
    adjectives = pa.array(["red", "green", "large wooden", "small", "striped", "shiny metal", "old", "white"])
    endings = pa.array(
        [
            f"with a {index % 97}-sided edge, lying near the {index % 61}th corner of the table"
            for index in range(4096)
        ]
    )
    for first in range(0, num_images, IMAGES_AT_ONCE):
        count = min(IMAGES_AT_ONCE, num_images - first)
        ids = sample_ids(first, count, random)
        texts = pc.binary_join_element_wise(
            "a", _some(adjectives, count, random), _some(nouns, count, random), " "
        )
        splits = _some(pa.array(SPLITS), count, random)
        images = {
            "sample_id": ids,
            "split": splits,
            "width": np.full(count, 1024, np.int32),
            "alt_text": texts,
        }
        per_image = random.poisson(ENTITIES_PER_IMAGE, count)
        yield pa.table(images), _entities(ids, per_image, adjectives, nouns, endings, random)


def _entities(
    ids: pa.Array,
    per_image: np.ndarray,
    adjectives: pa.Array,
    nouns: pa.Array,
    endings: pa.Array,
    random: np.random.Generator,
) -> pa.Table:
    total = int(per_image.sum())
    phrases = pc.binary_join_element_wise(_some(adjectives, total, random), _some(nouns, total, random), " ")
    ends = np.cumsum(per_image)
    corners = np.sort(random.random((total, 2, 2), np.float32), axis=1).reshape(-1)
    return pa.table(
        {
            "sample_id": ids.take(pa.array(np.repeat(np.arange(len(ids)), per_image))),
            "entity_index": pa.array(
                (np.arange(total) - np.repeat(ends - per_image, per_image)).astype(np.int32)
            ),
            "phrase": phrases,
            "description": pc.binary_join_element_wise(phrases, _some(endings, total, random), " "),
            "box_xyxy_norm": pa.FixedSizeListArray.from_arrays(pa.array(corners), type=_BOX),
            "detector_score": pa.array(random.random(total, np.float32)),
            "score": pa.array(random.random(total, np.float32)),
            "keep": pa.array(random.random(total) < 0.9),
        }
    )


def _some(pool: pa.Array, count: int, random: np.random.Generator) -> pa.Array:
    return pool.take(pa.array(random.integers(0, len(pool), count)))


# -- contestants -----------------------------------------------------------------------------------------


def generate_only(folder: Path, num_images: int) -> Any:
    """Makes the rows and throws them away: what has to be taken off the writers' times."""
    return sum(entities.num_rows for _, entities in batches(num_images))


def write_plain(folder: Path, num_images: int) -> Any:
    """The floor of writing: the same rows into one Parquet file each, unnamed, unverified, not synced."""
    rows = 0
    writers: list[pq.ParquetWriter] = []
    for pair in batches(num_images):
        if not writers:
            writers = [
                pq.ParquetWriter(folder / f"plain_{index}.parquet", table.schema, compression="zstd")
                for index, table in enumerate(pair)
            ]
        for writer, table in zip(writers, pair, strict=True):
            writer.write_table(table)
        rows += pair[1].num_rows
    for writer in writers:
        writer.close()
    return rows


def write_store(folder: Path, num_images: int) -> Any:
    """Both tables through the store."""
    store, made = ManifestStore(folder / "store"), Provenance("bench", 1)
    store.write_batches("images", (images for images, _ in batches(num_images)), made)
    manifest = store.write_batches("entities", (entities for _, entities in batches(num_images)), made)
    return manifest.num_rows


PER_IMAGE = """
    WITH per_image AS (
        SELECT sample_id, count(*) AS n, avg(score::DOUBLE) AS mean_score FROM entities WHERE keep GROUP BY sample_id)
    SELECT split, coalesce(n, 0) AS n, count(*) AS num_images, avg(mean_score) AS mean_score
    FROM images LEFT JOIN per_image USING (sample_id) GROUP BY ALL ORDER BY split, n"""
PER_CONCEPT = """
    SELECT phrase, count(*) AS n, avg(score::DOUBLE) AS mean_score FROM entities WHERE keep
    GROUP BY phrase ORDER BY n DESC, phrase LIMIT 50"""


def foundry(folder: Path, num_images: int) -> Any:
    """Our own query: DuckDB over the store, every byte verified before it is used."""
    from orchestration.sql import Limits, query

    store, limits = ManifestStore(folder / "store"), Limits(THREADS, MEMORY_GB)
    return [query(store, text, limits=limits)[1] for text in (PER_IMAGE, PER_CONCEPT)]


def polars(folder: Path, num_images: int) -> Any:
    """Polars' streaming engine over the same files."""
    import polars as pl

    images, entities = (pl.scan_parquet(_files(folder, name)) for name in ("images", "entities"))
    kept = entities.filter(pl.col("keep")).with_columns(pl.col("score").cast(pl.Float64))
    per_image = kept.group_by("sample_id").agg(
        pl.len().alias("n"), pl.col("score").mean().alias("mean_score")
    )
    joined = images.join(per_image, on="sample_id", how="left").with_columns(pl.col("n").fill_null(0))
    first = joined.group_by("split", "n").agg(pl.len().alias("num_images"), pl.col("mean_score").mean())
    second = kept.group_by("phrase").agg(pl.len().alias("n"), pl.col("score").mean().alias("mean_score"))
    second = second.sort(["n", "phrase"], descending=[True, False]).head(50)
    tables = [first.sort("split", "n").collect(engine="streaming"), second.collect(engine="streaming")]
    return [table.rows() for table in tables]


def pandas(folder: Path, num_images: int) -> Any:
    """Pandas with the columns that are needed, all in memory."""
    import pandas as pd

    def read(name: str, columns: list[str]) -> Any:
        files: Any = _files(folder, name)  # pandas takes a list of files; its type hints do not know
        return pd.read_parquet(files, columns=columns)

    images = read("images", ["sample_id", "split"])
    kept = read("entities", ["sample_id", "phrase", "score", "keep"])
    kept = kept[kept["keep"]].astype({"score": "float64"})
    per_image = kept.groupby("sample_id").agg(n=("score", "size"), mean_score=("score", "mean")).reset_index()
    joined = images.merge(per_image, on="sample_id", how="left").fillna({"n": 0})
    first = joined.groupby(["split", "n"], as_index=False).agg(
        num_images=("sample_id", "size"), mean_score=("mean_score", "mean")
    )
    second = kept.groupby("phrase", as_index=False).agg(n=("score", "size"), mean_score=("score", "mean"))
    second = second.sort_values(["n", "phrase"], ascending=[False, True]).head(50)
    rows = [
        list(frame.itertuples(index=False, name=None))
        for frame in (first.sort_values(["split", "n"]), second)
    ]
    return [[tuple(None if value != value else value for value in row) for row in table] for table in rows]


def _files(folder: Path, name: str) -> list[str]:
    store = ManifestStore(folder / "store")
    return [store.files.url(file.path) for file in store.require(name).files]


CONTESTANTS: dict[str, Callable[[Path, int], Any]] = {
    contestant.__name__: contestant
    for contestant in (generate_only, write_plain, write_store, foundry, polars, pandas)
}


def main() -> None:
    """Run one contestant and print what it took."""
    name, folder, num_images = sys.argv[1:]
    pa.set_cpu_count(THREADS)
    start, cpu = time.perf_counter(), time.process_time()
    answer = CONTESTANTS[name](Path(folder), int(num_images))
    taken = {
        "seconds": time.perf_counter() - start,
        "cpu_seconds": time.process_time() - cpu,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "answer": answer,
    }
    json.dump(taken, sys.stdout, default=str)


if __name__ == "__main__":
    os.environ.setdefault("POLARS_MAX_THREADS", str(THREADS))
    main()
