"""The table of all scores in a finished workspace: every kind of model, the figures of the other tables, nothing drawn twice."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from assets.evaluation.held_out import ScoringSettings
from assets.evaluation.model_scores import score_models
from assets.evaluation.published_models import Published
from assets.graph.step_table import LAYOUT_MODELS, SCORED_MODELS, STEPS
from assets.models.drawing import PICTURES, drawing_place, drawing_resources
from evaluation.metrics.alignment import JUDGE_COSINE
from evaluation.metrics.held_out_errors import DENOISING_ERROR
from evaluation.metrics.registry import METRICS
from orchestration.definitions import surroundings_of
from orchestration.profile import load_profile
from orchestration.resources.compute import InlineCompute
from orchestration.resources.store import ManifestStore
from orchestration.workspace import Workspace
from tests.end_to_end.conftest import copy_of, foundry

Key = tuple[str, str, str, str]


@pytest.fixture(scope="module")
def scores(store: ManifestStore) -> dict[Key, dict[str, Any]]:
    rows = store.read_table("model_scores").to_pylist()
    return {(row["kind"], row["recipe"], row["metric"], row["split"]): row for row in rows}


def test_every_published_model_of_every_kind_is_there(
    store: ManifestStore, scores: dict[Key, dict[str, Any]]
) -> None:
    wanted = {(kind, key) for kind in (*SCORED_MODELS, *LAYOUT_MODELS) for key in store.partitions(kind)}
    wanted |= {("scaling_run", key) for key in store.partitions("scaling_scores")}
    assert {(kind, recipe) for kind, recipe, *_ in scores} == wanted
    of_swept = {"written_f1", "located_f1"}  # which the demo's path has none of here
    assert {metric for _, _, metric, _ in scores} == set(METRICS) - of_swept
    for row in scores.values():
        assert row["low"] <= row["value"] <= row["high"], row
        assert row["n"] == len(row["by_unit"] or []) or row["by_unit"] is None


def test_it_tells_what_the_evaluation_table_tells(
    store: ManifestStore, scores: dict[Key, dict[str, Any]]
) -> None:
    for row in store.read_table("evaluation_table").to_pylist():
        for metric in ("denoising_error", "judge_cosine", "judge_floor", "judge_top1_of_k", "kid_efflite0"):
            if row[metric] is None:
                continue
            found = scores["backbone", row["recipe"], metric, row["split"]]
            assert found["value"] == pytest.approx(row[metric], abs=1e-6), metric
            assert found["model_digest"] == row["model_digest"]


def test_it_tells_what_comparisons_tell(store: ManifestStore, scores: dict[Key, dict[str, Any]]) -> None:
    for kind in ("distilled_backbone", "pruned_backbone", "fine_tuned_backbone"):
        for key in store.partitions(kind):
            child = store.read_table("smaller_model_scores", key).to_pylist()[1]
            for metric in ("judge_cosine", "ssim"):
                found = scores[kind, key, metric, "held_out"]
                assert found["value"] == pytest.approx(child[metric], abs=1e-6)


def test_what_comparisons_drew_is_not_drawn_again(store: ManifestStore) -> None:
    kept = {key: store.require(PICTURES, key) for key in store.partitions(PICTURES)}
    children = [kind for kind in SCORED_MODELS if "judge_clip" in STEPS[kind].reads]
    made = {f"{kind}.{key}": kind for kind in children for key in store.partitions(kind)}
    assert made.items() <= {key: manifest.provenance.asset for key, manifest in kept.items()}.items()
    assert "model_scores" not in {manifest.provenance.asset for manifest in kept.values()}


def test_models_of_one_protocol_are_ranked_by_a_query(smoke: Workspace) -> None:
    query = (
        "SELECT kind, count(DISTINCT protocol_digest) AS protocols FROM model_scores "
        "WHERE metric = 'judge_cosine' AND kind <> 'scaling_run' GROUP BY kind ORDER BY kind"
    )
    rows = foundry(smoke, "sql", query, "--json").rows()
    assert {row["protocols"] for row in rows} == {1}
    assert "pruned_backbone" in {row["kind"] for row in rows}


def test_a_model_whose_pictures_are_other_ones_draws(smoke: Workspace, tmp_path: Path) -> None:
    profile = load_profile("smoke")
    store = ManifestStore(copy_of(smoke, tmp_path).store)
    surroundings = surroundings_of(smoke, profile)
    models, perception = replace(surroundings.models, runs=tmp_path / "runs"), surroundings.perception
    place = drawing_place(store, InlineCompute(), drawing_resources(models.resources), print)
    wanted = ScoringSettings(
        prompts_per_split=2, samples_per_split=3, num_steps=2, guidance=2.0, seed=1, distractors=2
    )
    provenance = store.require("model_scores").provenance
    published = Published(store, models, place, wanted, provenance, perception)
    (pruned,) = (model for model in published.scored() if model.kind == "pruned_backbone")
    table = score_models([pruned], [DENOISING_ERROR, JUDGE_COSINE], None, print)
    by_metric = {row["metric"]: row for row in table.to_pylist() if row["split"] == "held_out"}
    assert (by_metric["denoising_error"]["n"], by_metric["judge_cosine"]["n"]) == (6, 4)
    drawn = store.read_table(PICTURES, f"pruned_backbone.{pruned.recipe}")
    assert set(drawn["num_steps"].to_pylist()) == {2}
    assert set(drawn["model_digest"].to_pylist()) == {pruned.digest}
    again = Published(store, models, replace(place, compute=Refusing()), wanted, provenance, perception)
    (stored,) = (model for model in again.scored() if model.kind == "pruned_backbone")
    assert score_models([stored], [JUDGE_COSINE], None, print).num_rows == 3


class Refusing(InlineCompute):
    """A compute that is never to be asked."""

    def map_shards(self, *arguments: Any) -> Iterator[pa.Table]:
        raise AssertionError("what is stored was drawn again")
