"""The report's sections on models that were made from others: shipped teachers, few-step students, smaller and pruned models."""

from __future__ import annotations

import json
from typing import Any

from assets.graph.interfaces import Store
from assets.models.comparison import SCORES
from assets.reports.data import Figure, PrunedRow, SmallerRow, StudentRow, StudyRow, TeacherRow
from evaluation.intervals import Interval
from training.recipes.distillation_study import is_study
from training.recipes.pruned_models import is_ablation


def teacher_rows(store: Store) -> list[TeacherRow]:
    """Shipped teachers with the scores that they were packed with, and what bar each score met."""
    from assets.distillation.teacher_scores import ROWS

    rows = []
    for key in store.partitions("teacher_backbone"):
        path = store.local_folder("teacher_backbone", key) / "scores.json"
        scores = json.loads(path.read_text(encoding="utf-8"))
        for name, title in ROWS.items():
            found = scores["teacher"].get(name)
            if found is not None:
                rows.append(
                    TeacherRow(
                        key,
                        title,
                        Interval(found["value"], found["low"], found["high"]),
                        found.get("chance", found.get("floor")),
                        scores["ceilings"]["reconstructed"][name]["value"],
                        scores["ceilings"]["real"][name]["value"],
                        scores["verdict"].get(name, ""),
                    )
                )
    return rows


def student_rows(store: Store) -> list[StudentRow]:
    """Every few-step student beside its teacher, by number of steps."""
    return [
        StudentRow(
            row["recipe"],
            row["teacher"],
            row["model"],
            row["num_steps"],
            Interval(row["judge_cosine"], row["judge_cosine_low"], row["judge_cosine_high"]),
            None
            if row["above_teacher"] is None
            else Interval(row["above_teacher"], row["above_teacher_low"], row["above_teacher_high"]),
        )
        for key in store.partitions("few_step_scores")
        for row in store.read_table("few_step_scores", key).to_pylist()
    ]


def smaller_rows(store: Store) -> list[SmallerRow]:
    """Every smaller model below the one it was made from; studies and pruned models have tables of their own."""
    return [
        SmallerRow(
            row["recipe"],
            row["parent"] if row["model"] == "parent" else row["recipe"],
            row["parameters"],
            row["macs"],
            row["milliseconds"],
            Interval(row["judge_cosine"], row["judge_cosine_low"], row["judge_cosine_high"]),
            None
            if row["relative"] is None
            else Interval(row["relative"], row["relative_low"], row["relative_high"]),
            row["ssim"],
        )
        for key in _taught(store)
        for row in store.read_table(SCORES, key).to_pylist()
    ]


def _taught(store: Store) -> list[str]:
    """Smaller and fine-tuned models that belong to no study and come from no pruned one."""
    elsewhere = {*store.partitions("pruned_backbone"), *_rows_by_recipe(store)}
    return [key for key in store.partitions(SCORES) if not is_study(key) and key not in elsewhere]


def _rows_by_recipe(store: Store) -> dict[str, dict[str, Any]]:
    if store.current("pruning_comparison") is None:
        return {}
    return {row["recipe"]: row for row in store.read_table("pruning_comparison").to_pylist()}


def study_rows(store: Store) -> list[StudyRow]:
    """The contrasts of the distillation study; none before one of its students was made."""
    return [
        StudyRow(
            row["name"],
            row["left"],
            row["right"],
            row["num_seeds"],
            None if row["value"] is None else Interval(row["value"], row["low"], row["high"]),
            row["status"],
        )
        for row in _study(store)
        if row["what"] == "contrast" and row["num_seeds"]
    ]


def study_figures(store: Store) -> list[Figure]:
    """The contrasts as a picture, once one can be told."""
    from assets.distillation.study import study_picture

    png = study_picture(_study(store))
    return [] if png is None else [Figure("Contrasts of the distillation study", png)]


def _study(store: Store) -> list[dict[str, Any]]:
    if store.current("distillation_study") is None:
        return []
    rows: list[dict[str, Any]] = store.read_table("distillation_study").to_pylist()
    return rows


def pruned_rows(store: Store) -> list[PrunedRow]:
    """Every pruned model beside the whole one, and what recovery made of it."""
    return [
        PrunedRow(
            row["recipe"],
            row["model"],
            row["method"],
            row["recovery"],
            row["sparsity"],
            row["parameters_left"],
            row["macs_left"],
            row["speedup"],
            row["peak_memory_left"],
            Interval(row["relative"], row["relative_low"], row["relative_high"]),
            row["ssim"],
            row["scoring_seconds"],
        )
        for row in _rows_by_recipe(store).values()
    ]


def pruned_figures(store: Store) -> list[Figure]:
    """Score over size by method, and what each model with learned masks draws the more of it is gone."""
    from assets.pruning.comparison import comparison_picture

    if not _rows_by_recipe(store):
        return []
    figures = [Figure("Judge score over size", comparison_picture(store.read_table("pruning_comparison")))]
    for key in store.partitions("unit_scores"):
        sheet = store.local_folder("unit_scores", key) / "sparsities.jpg"
        if not is_ablation(key):
            figures.append(
                Figure(f"{key}: whole, and with 10, 20, 30 and 50% of the units removed", sheet.read_bytes())
            )
    return figures


def smaller_figures(store: Store) -> list[Figure]:
    """Pictures of parent and child from the same noise, a sheet a smaller model."""
    return [
        Figure(f"{row['parent']} above, {row['recipe']} below, from the same noise", row["sheet"])
        for key in _taught(store)
        for row in store.read_table(SCORES, key).to_pylist()
        if row["sheet"] is not None
    ]
