"""Scores of one run at every count it kept its weights at: the same held-out samples, noise and prompts for all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from assets.derivation.work_items import table_items
from assets.evaluation.held_out import errors_of
from assets.graph.interfaces import BatchWorker, Compute, Resources
from assets.models.drawing import ShardTexts, held_out_prompts, paint
from assets.scaling.runs import snapshot_path
from training.errors import FoundryError

if TYPE_CHECKING:
    from training.model_folders.denoiser import Denoiser

METRICS = ("denoising_error", "judge_cosine", "judge_top1")
FALLING = {"denoising_error": True, "judge_cosine": False, "judge_top1": False}
"""By metric, whether less is better."""
SCORES = pa.schema(
    [("images_seen", pa.int64()), ("metric", pa.string()), ("by_sample", pa.list_(pa.float32()))]
)


@dataclass(frozen=True)
class ScoringSettings:
    """How much is scored: held-out samples and prompts from each held-out split; sampling as in the UI's config."""

    samples_per_split: int
    prompts_per_split: int
    num_steps: int
    guidance: float
    seed: int
    distractors: int


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

        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        self._denoiser = Denoiser.load(folders.model, self._device)
        self._shards = TrainingShards.open(folders.shards)
        self._folders = folders
        self._settings = settings
        self._last = last

    def __call__(self, batch: pa.Table) -> pa.Table:
        rows: list[dict[str, Any]] = []
        for count in batch["images_seen"].to_pylist():
            denoiser = self._at(count)
            scores = {"denoising_error": self._denoising(denoiser)}
            if count == self._last:
                scores |= self._judged(denoiser)
            rows += [
                {"images_seen": count, "metric": metric, "by_sample": values.astype(np.float32)}
                for metric, values in scores.items()
            ]
        return pa.Table.from_pylist(rows, schema=SCORES)

    def _at(self, count: int) -> Denoiser:
        from training.model_folders.classes import backbone_part

        folder = snapshot_path(self._folders.snapshots, count)
        if not folder.is_dir():
            raise FoundryError(
                f"{folder}: no weights after {count} images; materialize scaling_run for this point again"
            )
        _, kind = backbone_part(self._folders.model)
        backbone = kind.from_pretrained(folder, low_cpu_mem_usage=False).eval().to(self._device)
        return replace(self._denoiser, backbone=backbone)

    def _denoising(self, denoiser: Denoiser) -> np.ndarray:
        """Mean over noise levels of each held-out sample's error: [n]."""
        chosen = held_out_prompts(self._shards.samples, self._settings.samples_per_split, self._settings.seed)
        return errors_of(denoiser, self._shards, chosen).mean(axis=1)

    def _judged(self, denoiser: Denoiser) -> dict[str, np.ndarray]:
        """The judge's cosine and top-1 of each prompt's picture: [n]."""
        from evaluation.judge import Judge
        from evaluation.metrics.alignment import score_pairs

        settings = self._settings
        chosen = held_out_prompts(self._shards.samples, settings.prompts_per_split, settings.seed)
        texts = chosen["prompt"].to_pylist()
        texts_of = ShardTexts(str(self._folders.shards))
        images = paint(denoiser, texts_of, chosen, settings.num_steps, settings.guidance)
        judge = Judge.load(self._folders.judge)
        k = min(settings.distractors, len(set(texts)))
        scores = score_pairs(judge.embed_images(images), judge.embed_texts(texts), texts, k)
        return {"judge_cosine": scores.cosine, "judge_top1": scores.top1_of_k}
