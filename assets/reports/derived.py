"""The report's sections on models that were made from others: shipped teachers, few-step students, smaller models."""

from __future__ import annotations

import json

from assets.interfaces import Store
from assets.models.smaller import SCORES
from assets.reports.data import Figure, SmallerRow, StudentRow, TeacherRow
from evaluation.intervals import Interval
from training.distillation_study import is_study


def teacher_rows(store: Store) -> list[TeacherRow]:
    """Shipped teachers with the scores that they were packed with, and what bar each score met."""
    from assets.models.teachers import ROWS

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
    """Every smaller model below the one it was made from; trainings of a study have a table of their own."""
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
        for key in store.partitions(SCORES)
        if not is_study(key)
        for row in store.read_table(SCORES, key).to_pylist()
    ]


def smaller_figures(store: Store) -> list[Figure]:
    """Pictures of parent and child from the same noise, a sheet a smaller model."""
    return [
        Figure(f"{row['parent']} above, {row['recipe']} below, from the same noise", row["sheet"])
        for key in store.partitions(SCORES)
        if not is_study(key)
        for row in store.read_table(SCORES, key).to_pylist()
        if row["sheet"] is not None
    ]
