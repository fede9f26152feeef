"""The table of all scores in a finished workspace: every kind of model, the figures of the other tables, nothing drawn twice."""

from __future__ import annotations

from typing import Any

import pytest

from assets.evaluation.published_models import PICTURES
from assets.graph.steps import SCORED_MODELS
from evaluation.metrics.registry import METRICS
from orchestration.resources.store import ManifestStore
from orchestration.workspace import Workspace
from tests.end_to_end.conftest import foundry

Key = tuple[str, str, str, str]


@pytest.fixture(scope="module")
def scores(store: ManifestStore) -> dict[Key, dict[str, Any]]:
    rows = store.read_table("model_scores").to_pylist()
    return {(row["kind"], row["recipe"], row["metric"], row["split"]): row for row in rows}


def test_every_published_model_of_every_kind_is_there(
    store: ManifestStore, scores: dict[Key, dict[str, Any]]
) -> None:
    wanted = {(kind, key) for kind in SCORED_MODELS for key in store.partitions(kind)}
    wanted |= {("scaling_run", key) for key in store.partitions("scaling_scores")}
    assert {(kind, recipe) for kind, recipe, *_ in scores} == wanted
    assert {metric for _, _, metric, _ in scores} == set(METRICS)
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


def test_only_models_without_pictures_drew(store: ManifestStore) -> None:
    others = [kind for kind in SCORED_MODELS if kind != "backbone"]
    assert store.partitions(PICTURES) == sorted(
        f"{kind}.{key}" for kind in others for key in store.partitions(kind)
    )


def test_models_of_one_protocol_are_ranked_by_a_query(smoke: Workspace) -> None:
    query = (
        "SELECT kind, count(DISTINCT protocol_digest) AS protocols FROM model_scores "
        "WHERE metric = 'judge_cosine' AND kind <> 'scaling_run' GROUP BY kind ORDER BY kind"
    )
    rows = foundry(smoke, "sql", query, "--json").rows()
    assert {row["protocols"] for row in rows} == {1}
    assert "fine_tuned_backbone" in {row["kind"] for row in rows}
