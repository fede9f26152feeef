"""Readers of the same samples in shuffled batches: ours, the floor, and the formats that training sets are streamed from.

``python -m tests.benchmarks.feed_contestants READER FOLDER COUNT WITH_TEXT EPOCHS`` measures one of them in a process
of its own, where no checks of shapes are installed, and prints JSON.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from training.feed.order import build_order
from training.recipes.dataset import DatasetSelection
from training.shards import SamplePart, TextRows, TrainingShards, write_training_parts

BATCH = 128
SHAPE = (4, 32, 32)  # 8 KiB in float16
TOKENS, DIM = (8, 24), 384  # from 8 to 24 tokens of width 384: 12 KiB on average
PART = 2048


@dataclass(frozen=True)
class Samples:
    """Latents, and token states of one text each."""

    latents: np.ndarray  # [n, 4, 32, 32] float16; the first number of each is its own
    states: list[np.ndarray]  # [tokens, 384] float16


class Missing(Exception):  # noqa: N818
    """A peer that is not installed."""


def make_samples(count: int) -> Samples:
    """Incompressible numbers; sample ``i`` begins with ``i`` in its first four bytes, latent and states alike."""
    random = np.random.default_rng(0)
    latents = random.integers(0, 2**15, (count, *SHAPE), dtype=np.uint16).view(np.float16)
    numbers = latents.reshape(count, -1).view(np.uint32)
    numbers[:, 0] = np.arange(count)
    lengths = random.integers(*TOKENS, size=count, endpoint=True)
    states = [random.integers(0, 2**14, (n, DIM), dtype=np.uint16).view(np.float16) for n in lengths]
    return Samples(latents, states)


def number_of(latents: np.ndarray) -> np.ndarray:
    """Which samples a batch holds."""
    return latents.reshape(len(latents), -1).view(np.uint32)[:, 0].copy()


Batches = Iterator[
    tuple[np.ndarray, np.ndarray | None]
]  # latents [b, 4, 32, 32], states [b, tokens, dim] padded


def pad(rows: list[np.ndarray], out: np.ndarray) -> np.ndarray:
    """Ragged states into a batch of one length."""
    longest = max(len(row) for row in rows)
    batch = out[: len(rows), :longest]
    for index, row in enumerate(rows):
        batch[index, : len(row)] = row
        batch[index, len(row) :] = 0
    return batch


def write_ours(samples: Samples, folder: Path) -> None:
    """Shards as training writes them; each sample has one caption."""

    def parts() -> Iterator[SamplePart]:
        for start in range(0, len(samples.latents), PART):
            rows = slice(start, start + PART)
            states = samples.states[rows]
            texts = TextRows(
                None,
                np.array([len(row) for row in states], np.int32),
                np.concatenate(states),
                np.stack([row[0] for row in states]),
            )
            count = len(states)
            yield SamplePart(
                pa.table({"sample_id": [f"{start + i}" for i in range(count)], "split": ["train"] * count}),
                samples.latents[rows],
                np.arange(count + 1, dtype=np.int64),
                np.arange(count, dtype=np.int64),
                texts,
            )

    null = TextRows(
        None, np.array([1], np.int32), np.zeros((1, DIM), np.float16), np.zeros((1, DIM), np.float16)
    )
    write_training_parts(
        folder,
        parts(),
        null_text=null,
        autoencoder_digest="a" * 64,
        text_encoder_digest="b" * 64,
        shard_bytes=2**40,
    )


def read_ours(folder: Path, count: int, with_text: bool, order: str = "permutation") -> Batches:
    """One epoch through the order and the gather that training uses."""
    shards = _opened(folder)
    chosen = DatasetSelection.model_validate({"order": order, "buffer_shards": 4})
    rows, sequence = shards.select(["train"]), build_order(0, BATCH, chosen, shards)
    out = np.empty((BATCH, *SHAPE), np.float16)
    buffer = np.empty(BATCH * TOKENS[1] * DIM, np.float16)
    first = np.zeros(BATCH, np.int64)
    for start in range(0, count - BATCH + 1, BATCH):
        batch = rows[sequence.draw(start, BATCH).rows]
        latents = shards.latents(batch, out)
        texts = shards.text_of(batch, first) if with_text else None
        yield latents, None if texts is None else shards.text_states(texts, out=buffer).states


@cache
def _opened(folder: Path) -> TrainingShards:
    """A dataset stays open from one epoch to the next, as in training."""
    return TrainingShards.open(folder)


@cache
def _litdata_loader(folder: Path) -> Any:
    """The same for litdata."""
    litdata = _peer("litdata")
    dataset = litdata.StreamingDataset(str(folder), shuffle=True, seed=0, drop_last=True)
    return litdata.StreamingDataLoader(
        dataset, batch_size=BATCH, num_workers=0, drop_last=True, collate_fn=_Collate()
    )


def read_floor(folder: Path, count: int, with_text: bool) -> Batches:
    """The same bytes copied from the map in order, a batch at a time: what memory allows."""
    shards = _opened(folder)
    latents, out = shards.arrays.get("latents", 0), np.empty((BATCH, *SHAPE), np.float16)
    for start in range(0, count - BATCH + 1, BATCH):
        np.copyto(out, latents[start : start + BATCH])
        yield out, None


def _peer(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise Missing(f"{name} is not installed ({error}); pip install --editable '.[bench]'") from error


def write_webdataset(samples: Samples, folder: Path) -> None:
    """Tar files of 2,048 samples, raw bytes: nothing to decode."""
    wds = _peer("webdataset")
    folder.mkdir()
    with wds.ShardWriter(f"{folder}/%05d.tar", maxcount=PART, verbose=0) as sink:
        for index, states in enumerate(samples.states):
            sink.write({"__key__": str(index), "l": samples.latents[index].tobytes(), "t": states.tobytes()})


def write_webdataset_latents(samples: Samples, folder: Path) -> None:
    """The same without texts."""
    wds = _peer("webdataset")
    folder.mkdir()
    with wds.ShardWriter(f"{folder}/%05d.tar", maxcount=PART, verbose=0) as sink:
        for index in range(len(samples.latents)):
            sink.write({"__key__": str(index), "l": samples.latents[index].tobytes()})


def read_webdataset(folder: Path, count: int, with_text: bool) -> Batches:
    """Shuffled shards and a buffer of 1,000, as its guide has it; in this process."""
    wds = _peer("webdataset")
    files = sorted(map(str, folder.glob("*.tar")))
    names = ("l", "t") if with_text else ("l",)
    samples = wds.WebDataset(files, shardshuffle=len(files), seed=0, empty_check=False).shuffle(1000)
    yield from _batched(samples.to_tuple(*names))


def _write_litdata(samples: Samples, folder: Path, item: Callable[[int], Any]) -> None:
    litdata = _peer("litdata")
    litdata.optimize(
        fn=item,
        inputs=list(range(len(samples.latents))),
        output_dir=str(folder),
        chunk_bytes="64MB",
        num_workers=1,
        start_method="fork",
        verbose=False,
    )


def write_litdata(samples: Samples, folder: Path) -> None:
    """Chunks of 64 MB, raw bytes: the fastest of its formats."""
    _write_litdata(
        samples, folder, lambda index: (samples.latents[index].tobytes(), samples.states[index].tobytes())
    )


def write_litdata_latents(samples: Samples, folder: Path) -> None:
    """The same without texts."""
    _write_litdata(samples, folder, lambda index: (samples.latents[index].tobytes(),))


def read_litdata(folder: Path, count: int, with_text: bool) -> Batches:
    """Its streaming dataset and loader, shuffled, in this process, with the cheapest way to make a batch of bytes."""
    yield from _litdata_loader(folder)


def read_litdata_by_hand(folder: Path, count: int, with_text: bool) -> Batches:
    """Its dataset without its loader: what is left when somebody writes the batching anew. No gate."""
    litdata = _peer("litdata")
    yield from _batched(litdata.StreamingDataset(str(folder), shuffle=True, seed=0))


class _Collate:
    """A batch of tuples of bytes, copied into memory that is used again."""

    def __init__(self) -> None:
        self.out = np.empty((BATCH, *SHAPE), np.float16)
        self.padded = np.empty((BATCH, TOKENS[1], DIM), np.float16)

    def __call__(self, samples: list[tuple[bytes, ...]]) -> tuple[np.ndarray, np.ndarray | None]:
        flat = self.out.reshape(BATCH, -1)
        for index, (latent, *_) in enumerate(samples):
            flat[index] = np.frombuffer(latent, np.float16)
        states = [np.frombuffer(data, np.float16).reshape(-1, DIM) for _, *text in samples for data in text]
        return self.out, pad(states, self.padded) if states else None


def _batched(samples: Any) -> Batches:
    """Batches of what a peer yields one sample at a time, as tuples of bytes."""
    out = np.empty((BATCH, *SHAPE), np.float16)
    flat = out.reshape(BATCH, -1)
    padded = np.empty((BATCH, TOKENS[1], DIM), np.float16)
    states: list[np.ndarray] = []
    filled = 0
    for latent, *text in samples:
        flat[filled] = np.frombuffer(latent, np.float16)
        states.extend(np.frombuffer(data, np.float16).reshape(-1, DIM) for data in text)
        filled += 1
        if filled == BATCH:
            yield out, pad(states, padded) if states else None
            filled, states = 0, []


READERS: dict[str, Callable[[Path, int, bool], Batches]] = {
    "floor": read_floor,
    "permutation": read_ours,
    "blocks": partial(read_ours, order="blocks"),
    "litdata": read_litdata,
    "litdata_by_hand": read_litdata_by_hand,
    "webdataset": read_webdataset,
}


def measure(read: Callable[[], Batches], epochs: int) -> dict[str, float]:
    """The best of a few epochs: samples and bytes a CPU second of this process."""
    best = {"samples": 0.0, "bytes": 0.0}
    for _ in range(epochs):
        count = size = 0
        start = time.process_time()
        for latents, states in read():
            count += len(latents)
            size += latents.nbytes + (0 if states is None else states.nbytes)
        seconds = time.process_time() - start
        if count / seconds > best["samples"]:
            best = {"samples": count / seconds, "bytes": size / seconds}
    return best


def main(arguments: list[str]) -> None:
    """Measure what the command line names."""
    import torch

    torch.set_num_threads(1)
    name, folder, count, with_text, epochs = arguments
    found = measure(lambda: READERS[name](Path(folder), int(count), with_text == "1"), int(epochs))
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1:])
