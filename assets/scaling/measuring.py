"""Scores of a published run, with what is known of it, out of the store."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pyarrow as pa

from assets.evaluation.held_out import ScoringSettings
from assets.graph.interfaces import Compute, Models, Store
from assets.scaling.nouns import image_noun_pairs, training_rows
from assets.scaling.points import Planned, planned
from assets.scaling.runs import read_cost
from assets.scaling.scoring import ScoredFolders, score_counts
from assets.scaling.summary import read_scores
from assets.scaling.tables import RunFacts, observations_of, scores_table


def measure_point(
    store: Store,
    compute: Compute,
    models: Models,
    key: str,
    settings: Mapping[str, Any],
    function_version: int,
    log: Callable[[str], None],
) -> pa.Table:
    """Rows of SCALING_SCORES of a point's newest run. Raises FoundryError where it failed its gate or is missing."""
    manifest = store.require("scaling_run", key, require_gate=True)
    plan = planned(models, key, {"learning_rate": manifest.provenance.config["learning_rate"]})
    folders = ScoredFolders(
        model=store.local_folder("scaling_run", key),
        snapshots=store.local_folder("scaling_snapshots", key),
        shards=store.local_folder("training_shards", require_gate=True),
        judge=store.local_folder("judge_clip", require_gate=True),
    )
    scores = score_counts(folders, plan.counts, ScoringSettings(**settings), compute, models.resources, log)
    facts = _facts(store, models.profile, plan, manifest.digest, folders)
    return scores_table(plan, scores, facts, function_version)


def observations(store: Store, models: Models, *, with_grid: bool) -> pa.Table:
    """Rows of SCALING_OBSERVATIONS: of the recipes' models, and of the grid's points."""
    tables = [store.read_table("model_observations")]
    if with_grid and models.grid is not None:
        tables.append(observations_of(read_scores(store, models)))
    return pa.concat_tables(tables)


def _facts(store: Store, profile: str, plan: Planned, digest: str, folders: ScoredFolders) -> RunFacts:
    from training.shards import TrainingShards

    shards = TrainingShards.open(folders.shards)
    nouns = store.read_all("caption_nouns", ["text_id", "nouns"])
    cost = read_cost(folders.snapshots)
    return RunFacts(
        data_images=len(training_rows(shards, plan.recipe)),
        image_noun_pairs=image_noun_pairs(shards, plan.recipe, nouns),
        hardware=cost.hardware,
        profile=profile,
        model_digest=digest,
        seconds_at=cost.seconds_at,
    )
