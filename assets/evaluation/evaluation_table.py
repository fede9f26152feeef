"""From single scores to the table people compare models in, and to the observations that laws are fitted on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from assets.encodings.assembly import HELD_OUT
from assets.evaluation.judge_scores import judge_scores_table
from assets.evaluation.sample_scores import REAL, alignment_table, denoising_table, kid_by_recipe
from assets.graph.interfaces import Models, Store
from evaluation.intervals import Interval
from evaluation.metrics.alignment import JUDGE_COSINE, JUDGE_FLOOR, JUDGE_TOP1, PairScores
from evaluation.metrics.held_out_errors import DENOISING_ERROR
from evaluation.metrics.metric import ALL_SPLITS, Evidence, HeldOutErrors, measured
from evaluation.tables.scaling import SCALING_OBSERVATIONS
from evaluation.tables.scores import EVALUATION_TABLE
from training.errors import FoundryError
from training.recipes.files import load_recipe
from training.recipes.specification import Recipe

Log = Callable[[str], None]


@dataclass(frozen=True)
class ModelFacts:
    """What is known of a model before anything is scored."""

    recipe: Recipe
    family: str
    parameters: int
    forward_gflops: float
    training_seconds: float | None
    digest: str


def evaluate(
    store: Store,
    models: Models,
    distractors: int,
    function_version: int,
    log: Log,
) -> dict[str, pa.Table]:
    """All score tables by name, ``evaluation_table`` among them. Raises FoundryError when no model is there."""
    recipes = [name for name in models.of("backbone") if name in store.partitions("generated_samples")]
    if not recipes:
        raise FoundryError(
            "No backbone has drawn samples yet. Materialize backbone and generated_samples first."
        )
    facts = {name: model_facts(store, models, name) for name in recipes}
    errors = denoising_table(store, recipes, function_version, log)
    alignment = alignment_table(store, recipes, distractors, function_version)
    kid = kid_by_recipe(store, recipes)
    ceiling = measured(JUDGE_COSINE, stored_evidence(errors, alignment, REAL)).intervals
    rows = [
        _row(facts[name], stored_evidence(errors, alignment, name), ceiling, kid[name], split)
        for name in recipes
        for split in (ALL_SPLITS, *(split for split in HELD_OUT if split in set(errors["split"].to_pylist())))
    ]
    return {
        "denoising_errors": errors,
        "alignment_scores": alignment,
        "judge_scores": judge_scores_table(store, distractors),
        "model_observations": _observations(facts, errors, alignment, models.profile),
        "evaluation_table": pa.Table.from_pylist(rows, schema=EVALUATION_TABLE),
    }


def model_facts(store: Store, models: Models, name: str) -> ModelFacts:
    """Recipe as it was trained (overrides included), size, cost and digest of a recipe's newest model."""
    from training.backbones import count_parameters, macs_per_image, variant

    manifest = store.require("backbone", name, require_gate=True)
    recipe = load_recipe(manifest.provenance.config, f"provenance of backbone '{name}'")
    if recipe.backbone is None:
        raise FoundryError(
            f"The published model '{name}' names no backbone. Materialize its partition again."
        )
    return ModelFacts(
        recipe=recipe,
        family="unet" if variant(recipe.backbone).class_name.startswith("UNet") else "transformer",
        parameters=count_parameters(recipe.backbone),
        forward_gflops=2 * macs_per_image(recipe.backbone) / 1e9,
        training_seconds=_training_seconds(models, manifest.digest),
        digest=manifest.digest,
    )


def stored_evidence(errors: pa.Table, alignment: pa.Table, recipe: str) -> Evidence:
    """What the tables of single scores hold of a recipe's model, as metrics take it."""
    rows = alignment.filter(pc.equal(alignment["recipe"], recipe))
    columns = (
        rows[name].to_numpy().astype(np.float64) for name in ("cosine", "shuffled_cosine", "top1_of_k")
    )
    cosine, shuffled, top1 = columns
    return Evidence(
        {
            "held_out_errors": lambda: held_out_errors(errors, recipe),
            "alignment": lambda: PairScores(cosine, shuffled, top1, k=0),
            "prompt_splits": lambda: tuple(rows["split"].to_pylist()),
        }
    )


def held_out_errors(errors: pa.Table, recipe: str) -> HeldOutErrors:
    """Denoising error of each held-out sample, averaged over noise levels, by sample id."""
    rows = errors.filter(pc.equal(errors["recipe"], recipe))
    means = rows.group_by(["sample_id", "split"]).aggregate([("squared_error", "mean")]).sort_by("sample_id")
    values = means["squared_error_mean"].to_numpy().astype(np.float64)
    return HeldOutErrors(tuple(means["sample_id"].to_pylist()), tuple(means["split"].to_pylist()), values)


def errors_by_sample(errors: pa.Table, recipe: str) -> np.ndarray:
    """Denoising error of each held-out sample, averaged over noise levels, by sample id: [n] float64."""
    return held_out_errors(errors, recipe).errors


def scores_of(alignment: pa.Table, recipe: str, column: str) -> np.ndarray:
    """One alignment column of a recipe's pictures: [n] float64."""
    rows = alignment.filter(pc.equal(alignment["recipe"], recipe))
    return rows[column].to_numpy().astype(np.float64)


def _row(
    facts: ModelFacts,
    evidence: Evidence,
    ceiling: Mapping[str, Interval],
    kid: tuple[float, float],
    split: str,
) -> dict[str, Any]:
    error, cosine, floor, top1 = (
        measured(metric, evidence).intervals[split]
        for metric in (DENOISING_ERROR, JUDGE_COSINE, JUDGE_FLOOR, JUDGE_TOP1)
    )
    whole = split == ALL_SPLITS
    return {
        "recipe": facts.recipe.name,
        "family": facts.family,
        "backbone": facts.recipe.backbone,
        "parameters": facts.parameters,
        "images_seen": facts.recipe.images_total,
        "seed": facts.recipe.seed,
        "training_seconds": facts.training_seconds,
        "split": split,
        "denoising_error": error.value,
        "denoising_error_low": error.low,
        "denoising_error_high": error.high,
        "judge_cosine": cosine.value,
        "judge_cosine_low": cosine.low,
        "judge_cosine_high": cosine.high,
        "judge_ceiling": ceiling[split].value,
        "judge_floor": floor.value,
        "judge_top1_of_k": top1.value,
        "kid_efflite0": kid[0] if whole else None,
        "kid_efflite0_standard_error": kid[1] if whole else None,
        "num_generated": cosine.count,
        "model_digest": facts.digest,
    }


def _observations(
    facts: dict[str, ModelFacts], errors: pa.Table, alignment: pa.Table, profile: str
) -> pa.Table:
    rows = []
    for name, fact in facts.items():
        evidence = stored_evidence(errors, alignment, name)
        for metric in (DENOISING_ERROR, JUDGE_COSINE):
            values = metric.by_unit(evidence)
            rows.append(
                {
                    "family": fact.family,
                    "recipe": name,
                    "metric": metric.name,
                    "parameters": fact.parameters,
                    "images_seen": fact.recipe.images_total,
                    "training_gflops": 3 * fact.forward_gflops * fact.recipe.images_total,
                    "seed": fact.recipe.seed,
                    "value": float(values.mean()),
                    "standard_error": float(values.std(ddof=1) / np.sqrt(len(values))),
                    "macs": round(fact.forward_gflops / 2 * 1e9),
                    "mix": fact.recipe.dataset.captions.name,
                    "filter": fact.recipe.dataset.filter,
                    "data_images": fact.recipe.dataset.max_samples,
                    "concepts": fact.recipe.dataset.max_concepts,
                    "image_noun_pairs": None,
                    "wall_seconds": fact.training_seconds,
                    "hardware": "",
                    "profile": profile,
                }
            )
    return pa.Table.from_pylist(rows, schema=SCALING_OBSERVATIONS)


def _training_seconds(models: Models, digest: str) -> float | None:
    """Seconds of the training that made a model, from its run folder; None when that was cleaned away."""
    from training.run_folder import RunFolder

    for path in models.runs.glob("*/done.json"):
        done = RunFolder(path.parent).read_done()
        if done is not None and done.model_digest == digest:
            return done.train_seconds
    return None
