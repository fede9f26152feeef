"""Scores of one run at every count it kept its weights at: the same held-out samples, noise and prompts for all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from assets.derivation.work_items import table_items
from assets.evaluation.held_out import ScoringSettings, errors_of
from assets.graph.interfaces import BatchWorker, Compute, Resources
from assets.models.drawing import ShardTexts, held_out_prompts, paint
from assets.scaling.runs import snapshot_path
from evaluation.metrics.alignment import JUDGE_COSINE, JUDGE_TOP1
from evaluation.metrics.held_out_errors import DENOISING_ERROR
from evaluation.metrics.metric import Evidence, HeldOutErrors, Pictures
from training.errors import FoundryError

if TYPE_CHECKING:
    from training.model_folders.denoiser import Denoiser

METRICS = {"denoising_error": DENOISING_ERROR, "judge_cosine": JUDGE_COSINE, "judge_top1": JUDGE_TOP1}
"""The metrics of the grid by the names that its tables keep; the judge is asked at the last count alone."""
FALLING = {name: metric.better == "down" for name, metric in METRICS.items()}
"""By metric, whether less is better."""
SCORES = pa.schema(
    [("images_seen", pa.int64()), ("metric", pa.string()), ("by_sample", pa.list_(pa.float32()))]
)


@dataclass(frozen=True)
class ScoredFolders:
    """What a scorer reads: the run's model, its kept weights, training shards and judge."""

    model: Path
    snapshots: Path
    shards: Path
    judge: Path


def score_counts(
    folders: ScoredFolders,
    counts: tuple[int, ...],
    settings: ScoringSettings,
    compute: Compute,
    resources: Resources,
    log: Callable[[str], None],
) -> pa.Table:
    """Rows of SCORES, by count and metric: the denoising error at every count, what the judge says at the last one."""
    worker = BatchWorker(SnapshotScorer, {"folders": folders, "settings": settings, "last": counts[-1]})
    work = pa.table({"images_seen": pa.array(counts, pa.int64())})
    parts = list(compute.map_shards(worker, table_items(work, 1), replace(resources, batch_size=1), log))
    return pa.concat_tables(parts).sort_by([("images_seen", "ascending"), ("metric", "ascending")])


class SnapshotScorer:
    """Batch function from counts of images to scores; loads autoencoder, judge and held-out samples once."""

    def __init__(self, folders: ScoredFolders, settings: ScoringSettings, last: int) -> None:
        import torch

        from training.model_folders.denoiser import Denoiser
        from training.shards import TrainingShards

        self._denoiser = Denoiser.load(folders.model, "cuda" if torch.cuda.is_available() else "cpu")
        self._shards = TrainingShards.open(folders.shards)
        self._folders = folders
        self._settings = settings
        self._last = last

    def __call__(self, batch: pa.Table) -> pa.Table:
        rows: list[dict[str, Any]] = []
        for count in batch["images_seen"].to_pylist():
            evidence = self._evidence(self._at(count))
            rows += [
                {
                    "images_seen": count,
                    "metric": name,
                    "by_sample": metric.by_unit(evidence).astype(np.float32),
                }
                for name, metric in METRICS.items()
                if count == self._last or "judge" not in metric.needs
            ]
        return pa.Table.from_pylist(rows, schema=SCORES)

    def _at(self, count: int) -> Denoiser:
        folder = snapshot_path(self._folders.snapshots, count)
        if not folder.is_dir():
            raise FoundryError(
                f"{folder}: no weights after {count} images; materialize scaling_run for this point again"
            )
        return self._denoiser.with_weights(self._folders.model, folder)

    def _evidence(self, denoiser: Denoiser) -> Evidence:
        """What the metrics ask for, made when they do."""
        from evaluation.judge import Judge

        return Evidence(
            {
                "held_out_errors": lambda: self._errors(denoiser),
                "pictures": lambda: self._pictures(denoiser),
                "judge": lambda: Judge.load(self._folders.judge),
                "distractors": lambda: self._settings.distractors,
            }
        )

    def _errors(self, denoiser: Denoiser) -> HeldOutErrors:
        chosen = self._chosen(self._settings.samples_per_split)
        errors = errors_of(denoiser, self._shards, chosen).mean(axis=1)
        return HeldOutErrors(
            tuple(chosen["sample_id"].to_pylist()), tuple(chosen["split"].to_pylist()), errors
        )

    def _pictures(self, denoiser: Denoiser) -> Pictures:
        settings, chosen = self._settings, self._chosen(self._settings.prompts_per_split)
        texts = ShardTexts(str(self._folders.shards))
        shape = self._shards.description.latent_shapes[0]
        images = paint(denoiser, texts, chosen, settings.num_steps, settings.guidance, shape)
        ids, splits, prompts = (tuple(chosen[name].to_pylist()) for name in ("sample_id", "split", "prompt"))
        return Pictures(ids, splits, prompts, images)

    def _chosen(self, per_split: int) -> pa.Table:
        return held_out_prompts(self._shards.samples, per_split, self._settings.seed)
