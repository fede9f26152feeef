"""The held-out samples that models are scored on: the same for all, with what is stored of each and what is made anew."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from assets.derivation.work_items import table_items
from assets.encodings.assembly import HELD_OUT
from assets.graph.interfaces import BatchWorker
from assets.models.drawing import DrawingPlace, load_denoiser
from evaluation.metrics.metric import HeldOutErrors

if TYPE_CHECKING:
    from jaxtyping import Float

    from training.model_folders.denoiser import Denoiser
    from training.shards import TrainingShards


@dataclass(frozen=True)
class ScoringSettings:
    """How models are scored: held-out prompts that are drawn and samples that are denoised of each held-out split, the
    sampling (few-step models take 4 steps without guidance), and out of how many prompts the judge picks."""

    prompts_per_split: int
    samples_per_split: int
    num_steps: int
    guidance: float
    seed: int
    distractors: int


def rows_of_one_shape(shards: TrainingShards) -> np.ndarray:
    """Held-out rows; of several latent shapes the first, so that one picture counts once."""
    from training.shards.reading import rows_of

    shape = shards.description.latent_shapes[0]
    parts = shards.ranges(HELD_OUT)
    return rows_of([part for part in parts if shards.description.shards[part.shard].latent_shape == shape])


def held_out_samples(shards: TrainingShards, per_split: int) -> pa.Table:
    """Rows (row, sample_id, split) of the first held-out samples of each split, by sample id."""
    rows = rows_of_one_shape(shards)
    chosen = shards.samples.take(pa.array(rows))
    splits = np.array(chosen["split"].to_pylist())
    first = np.concatenate([np.flatnonzero(splits == split)[:per_split] for split in HELD_OUT])
    table = pa.table(
        {
            "row": pa.array(rows, pa.int64()),
            "sample_id": chosen["sample_id"].combine_chunks(),
            "split": chosen["split"].combine_chunks(),
        }
    )
    return table.take(pa.array(first)).sort_by("sample_id")


def errors_of(denoiser: Denoiser, shards: TrainingShards, samples: pa.Table) -> Float[np.ndarray, "n levels"]:
    """Denoising error of held-out samples at every noise level, their alt-texts as condition."""
    import torch

    from evaluation.metrics.clean_predictor import CleanPredictor
    from evaluation.metrics.denoising import denoising_errors
    from training.feed.conditions import alt_texts

    rows, ids = samples["row"].to_numpy(), samples["sample_id"].to_pylist()
    latents = torch.from_numpy(shards.gather_latents(rows))
    return denoising_errors(CleanPredictor(denoiser), ids, latents, alt_texts(shards, rows))


class ErrorWorker:
    """Batch function from held-out samples to their denoising errors; loads the model once."""

    def __init__(self, load: Callable[[], Denoiser], shards: str) -> None:
        from training.shards import TrainingShards

        self._denoiser, self._shards = load(), TrainingShards.open(Path(shards))

    def __call__(self, batch: pa.Table) -> pa.Table:
        errors = errors_of(self._denoiser, self._shards, batch).astype(np.float32)
        return batch.append_column("errors", pa.array(errors.tolist(), pa.list_(pa.float32())))


def measure_errors(place: DrawingPlace, model: Path, shards: Path, samples: pa.Table) -> HeldOutErrors:
    """Denoising errors of a model folder, measured where pictures are drawn."""
    worker = BatchWorker(ErrorWorker, {"load": partial(load_denoiser, str(model)), "shards": str(shards)})
    few = replace(place.resources, inline_rows=None if place.resources.gpus else samples.num_rows)
    items = table_items(samples, place.resources.batch_size)
    found = pa.concat_tables(place.compute.map_shards(worker, items, few, place.log)).sort_by("sample_id")
    errors = np.array(found["errors"].to_pylist(), dtype=np.float64).mean(axis=1)
    return HeldOutErrors(tuple(found["sample_id"].to_pylist()), tuple(found["split"].to_pylist()), errors)


def errors_among(known: HeldOutErrors, samples: pa.Table) -> HeldOutErrors | None:
    """Of measured errors those of ``samples``; None where one was not measured."""
    place = pc.index_in(samples["sample_id"], value_set=pa.array(known.sample_ids, pa.string()))
    if place.null_count:
        return None
    rows = place.to_numpy()
    return HeldOutErrors(
        tuple(samples["sample_id"].to_pylist()), tuple(samples["split"].to_pylist()), known.errors[rows]
    )
