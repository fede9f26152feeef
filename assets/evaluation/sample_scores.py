"""Scores of all models: measured once per model and kept until the model, the judge or the data change."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from assets.derivation.reuse import previous_rows
from assets.evaluation.held_out import rows_of_one_shape
from assets.graph.interfaces import Store
from assets.graph.versions import Manifest
from assets.models.drawing import pictures_of
from assets.models.judging import decoded, held_out_pairs
from evaluation.judge import Embedder
from evaluation.tables.scores import ALIGNMENT_SCORES, DENOISING_ERRORS

if TYPE_CHECKING:
    from training.conditioning import Condition

Log = Callable[[str], None]
REAL = "real"


@dataclass(frozen=True)
class HeldOut:
    """Held-out latents with what their alt-texts tell a model, the same for every model."""

    sample_ids: list[str]
    splits: list[str]
    latents: np.ndarray  # [n, c, h, w] float32
    condition: Condition


def read_held_out(store: Store) -> HeldOut:
    """All held-out samples of the training shards, the original alt-text as condition."""
    from training.feed.conditions import alt_texts
    from training.shards import TrainingShards

    shards = TrainingShards.open(store.local_folder("training_shards", require_gate=True))
    rows = rows_of_one_shape(shards)
    chosen = shards.samples.take(pa.array(rows))
    return HeldOut(
        chosen["sample_id"].to_pylist(),
        chosen["split"].to_pylist(),
        shards.gather_latents(rows),
        alt_texts(shards, rows),
    )


def denoising_table(store: Store, recipes: list[str], function_version: int, log: Log) -> pa.Table:
    """Rows of DENOISING_ERRORS for every recipe's newest model; a model that was measured before is not again."""
    previous = previous_rows(store, "denoising_errors", None, log)
    held_out = read_held_out(store)
    data = store.require("training_shards").digest
    parts = []
    for recipe in recipes:
        manifest = store.require("backbone", recipe, require_gate=True)
        kept = _measured_before(previous, manifest, function_version, data)
        parts.append(
            kept if kept is not None else _measure(store, manifest, held_out, function_version, data, log)
        )
    return pa.concat_tables(parts)


def alignment_table(store: Store, recipes: list[str], k: int, function_version: int) -> pa.Table:
    """Rows of ALIGNMENT_SCORES: every generated picture, and real held-out pictures as the ceiling.

    Real pictures are those whose alt-texts were the prompts, so that ceiling and scores answer the same question.
    Where fewer than ``k`` different prompts exist, the judge picks among those there are.
    """
    from evaluation.judge import Judge

    judge = Judge.load(store.local_folder("judge_clip", require_gate=True))
    digest = store.require("judge_clip").digest
    first = store.read_table(
        "generated_samples", recipes[0], ["sample_id", "split", "prompt", "seed", "prompt_id"]
    )
    k = min(k, len(set(first["prompt"].to_pylist())))
    pairs = held_out_pairs(store)
    real = pairs.filter(pc.is_in(pairs["sample_id"], value_set=first["sample_id"].combine_chunks()))
    order = {sample_id: row for row, sample_id in enumerate(real["sample_id"].to_pylist())}
    real_images = decoded(real)[[order[sample_id] for sample_id in first["sample_id"].to_pylist()]]
    sets = [(REAL, first, real_images)]
    for recipe in recipes:
        table = store.read_table("generated_samples", recipe)
        sets.append((recipe, table, pictures_of(table)))
    return pa.concat_tables(
        [_align(judge, digest, name, table, images, k, function_version) for name, table, images in sets]
    )


def kid_by_recipe(store: Store, recipes: list[str]) -> dict[str, tuple[float, float]]:
    """KID-EffLite0 of each recipe's pictures against real held-out pictures, with its standard error."""
    from evaluation.metrics.kid import distance_to_real
    from evaluation.metrics.metric import Evidence, lite0_features

    real = Evidence({"real_features": lambda: lite0_features(decoded(held_out_pairs(store)))})
    distances = {}
    for recipe in recipes:
        pictures = pictures_of(store.read_table("generated_samples", recipe, ["image"]))
        distance = distance_to_real(lite0_features(pictures), real)
        distances[recipe] = (distance.value, distance.standard_error)
    return distances


def _measured_before(
    previous: pa.Table | None, manifest: Manifest, version: int, data: str
) -> pa.Table | None:
    if previous is None or "dataset_digest" not in previous.column_names:
        return None
    same = pc.and_(
        pc.and_(
            pc.equal(previous["recipe"], manifest.partition),
            pc.equal(previous["model_digest"], manifest.digest),
        ),
        pc.and_(pc.equal(previous["function_version"], version), pc.equal(previous["dataset_digest"], data)),
    )
    rows = previous.filter(same)
    return rows if rows.num_rows else None


def _measure(
    store: Store, manifest: Manifest, held_out: HeldOut, version: int, data: str, log: Log
) -> pa.Table:
    import torch

    from evaluation.metrics.clean_predictor import load_predictor
    from evaluation.metrics.denoising import denoising_errors, noise_levels

    predict = load_predictor(store.local_folder("backbone", manifest.partition))
    latents = torch.from_numpy(held_out.latents)
    errors = denoising_errors(predict, held_out.sample_ids, latents, held_out.condition)
    log(f"{manifest.partition}: denoising error {errors.mean():.4f} over {len(errors)} held-out samples")
    sigmas = noise_levels()
    num_samples, num_levels = errors.shape
    count = num_samples * num_levels
    return pa.table(
        {
            "recipe": [manifest.partition] * count,
            "sample_id": np.repeat(np.array(held_out.sample_ids, dtype=object), num_levels),
            "split": np.repeat(np.array(held_out.splits, dtype=object), num_levels),
            "level_index": np.tile(np.arange(num_levels, dtype=np.int32), num_samples),
            "sigma": np.tile(sigmas.astype(np.float32), num_samples),
            "squared_error": errors.reshape(-1).astype(np.float32),
            "model_digest": [manifest.digest] * count,
            "dataset_digest": [data] * count,
            "function_version": pa.array([version] * count, pa.int32()),
        },
        schema=DENOISING_ERRORS,
    )


def _align(
    judge: Embedder, digest: str, recipe: str, table: pa.Table, images: np.ndarray, k: int, version: int
) -> pa.Table:
    from evaluation.metrics.alignment import score_pairs

    prompts = table["prompt"].to_pylist()
    scores = score_pairs(judge.embed_images(images), judge.embed_texts(prompts), prompts, k)
    count = table.num_rows
    return pa.table(
        {
            "recipe": [recipe] * count,
            "prompt_id": table["prompt_id"],
            "split": table["split"],
            "seed": table["seed"],
            "cosine": scores.cosine.astype(np.float32),
            "shuffled_cosine": scores.shuffled_cosine.astype(np.float32),
            "top1_of_k": scores.top1_of_k.astype(np.float32),
            "judge_digest": [digest] * count,
            "function_version": pa.array([version] * count, pa.int32()),
        }
    ).cast(ALIGNMENT_SCORES)
