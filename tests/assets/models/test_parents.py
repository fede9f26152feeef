"""Which version a child reads: its parent's alone, by partition mapping, provenance and lineage alike."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import dagster as dg
import pyarrow as pa
import pytest

from assets.graph.lineage import as_records, trace
from assets.graph.model_kinds import ModelRecipes
from assets.graph.steps import STEPS, provenance_of
from assets.graph.versions import Provenance
from assets.models.kinds import MODEL_KINDS
from assets.models.parents import named_versions, parent_version
from assets.models.partitions import model_partitions
from assets.models.recipe_files import check_no_parents
from orchestration.resources.store import ManifestStore
from training.errors import FoundryError
from training.recipes.files import load_recipe
from training.recipes.pruned_models import PrunedRecipe, ScoringRecipe
from training.recipes.specification import Recipe

STUDENTS = {"small-fast": "small", "small-faster": "small", "large-fast": "large"}


def recipe(name: str, **settings: object) -> Recipe:
    return load_recipe({"name": name, "images_total": 8, "learning_rate": 1e-3, **settings})


def recipes(students: Mapping[str, str], **others: Mapping[str, object]) -> ModelRecipes:
    backbones = {name: recipe(name, backbone="PixArt-tiny") for name in ("small", "large", "childless")}
    step_distilled = {
        name: recipe(name, objective="step_distillation", parent=parent) for name, parent in students.items()
    }
    made = {"backbone": backbones, "step_distilled_backbone": step_distilled, **others}
    return ModelRecipes("test", MODEL_KINDS, made)


def test_the_partition_mapping_is_built_from_the_recipes_parents() -> None:
    partitions = model_partitions(recipes(STUDENTS))
    students, backbones = partitions["step_distilled_backbone"], partitions["backbone"].keys
    assert set(students.parents) == set(STEPS["step_distilled_backbone"].parents)
    mapping = students.parents["backbone"]
    for child, parent in STUDENTS.items():
        found = mapping.get_upstream_mapped_partitions_result_for_partitions(
            students.keys.subset_with_partition_keys([child]),
            students.keys,
            backbones,
        )
        assert set(found.partitions_subset.get_partition_keys()) == {parent}
    fed = mapping.get_downstream_partitions_for_partitions(
        backbones.subset_with_partition_keys(["small", "childless"]),
        backbones,
        students.keys,
    )
    assert set(fed.get_partition_keys()) == {"small-fast", "small-faster"}


def test_a_profile_without_students_has_an_empty_partitioning() -> None:
    partitions = model_partitions(recipes({}))["step_distilled_backbone"]
    assert list(partitions.keys.get_partition_keys()) == []
    assert isinstance(partitions.parents["backbone"], dg.StaticPartitionMapping)


def test_an_unknown_parent_is_named_with_those_there_are() -> None:
    with pytest.raises(
        FoundryError,
        match=r"profile test: recipe 'x' of step_distilled_backbone has parent 'smal'; name one of: small \(backbone\)",
    ):
        model_partitions(recipes({"x": "smal"}))


def test_models_from_scratch_take_no_parent() -> None:
    with pytest.raises(FoundryError, match=r"recipes\.yaml, recipe 'b': 'parent' is 'a'"):
        check_no_parents({"b": recipe("b", backbone="PixArt-tiny", parent="a")}, "recipes.yaml")


def test_provenance_and_lineage_walk_to_the_teacher_and_no_further_sideways(tmp_path: Path) -> None:
    store, made = ManifestStore(tmp_path), recipes(STUDENTS)
    rows = pa.table({"value": [1]})
    shards = store.write_table("training_shards", rows, Provenance("training_shards", 1))
    for name in ("autoencoder", "judge_clip"):
        store.write_table(name, rows, Provenance(name, 1))
    inputs = {"training_shards": shards.digest}
    for key, value in (("small", 2), ("large", 3)):
        store.write_table(
            "backbone", pa.table({"value": [value]}), Provenance("backbone", 1, {}, inputs), key
        )
    step, child = STEPS["step_distilled_backbone"], made.of("step_distilled_backbone")["small-fast"]
    parent = parent_version(made, step.name, child)
    provenance = provenance_of(store, step, "small-fast", {}, {}, [parent])
    assert sorted(provenance.inputs) == ["autoencoder", "backbone@small", "judge_clip", "training_shards"]
    store.write_table(step.name, rows, provenance, "small-fast")
    walked = [record["version"] for record in as_records(trace(store, step.name, "small-fast"))]
    assert walked[0] == "step_distilled_backbone@small-fast"
    assert "backbone@small" in walked
    assert "backbone@large" not in walked
    assert "training_shards" in walked


def test_a_pruned_model_reads_its_scores_and_the_model_they_are_of() -> None:
    made = recipes(
        STUDENTS,
        unit_scores={"worth": ScoringRecipe(name="worth", parent="large", method="random")},
        pruned_backbone={
            "cut": PrunedRecipe.model_validate({"name": "cut", "scores": "worth", "sparsity": 0.2})
        },
        fine_tuned_backbone={
            "recovered": recipe("recovered", parent="cut"),
            "tuned": recipe("tuned", parent="small"),
        },
    )
    assert named_versions(made, "unit_scores", "worth") == [("backbone", "large")]
    assert named_versions(made, "pruned_backbone", "cut") == [("unit_scores", "worth"), ("backbone", "large")]
    # recovery is held beside the whole model, so it reads that too
    assert named_versions(made, "fine_tuned_backbone", "recovered") == [
        ("pruned_backbone", "cut"),
        ("backbone", "large"),
    ]
    assert named_versions(made, "fine_tuned_backbone", "tuned") == [("backbone", "small")]
    assert named_versions(made, "backbone", "small") == []
