"""What the report says of distillation: shipped teachers, few-step students, and the study of its factors."""

from __future__ import annotations

import json
from dataclasses import replace

from assets.distillation.study import CONTRAST_COLUMNS, contrast_rows, study_picture
from assets.distillation.teacher_scores import SCORE_COLUMNS, score_rows
from assets.pages.measures import interval_of
from assets.pages.sections import Figure, Section, Sources
from assets.pages.tables import Column, Entry, Table

STUDENT_COLUMNS = (
    Column("Student"),
    Column("Teacher"),
    Column("Drawn by"),
    Column("Steps", ","),
    Column("Judge score", ",.3f"),
    Column("Above the teacher", ",.3f"),
)


def teachers_section(sources: Sources) -> Section | None:
    """Shipped teachers with the scores that they were packed with, and what bar each score met."""
    rows: list[tuple[Entry, ...]] = []
    for key in sources.store.partitions("teacher_backbone"):
        path = sources.store.local_folder("teacher_backbone", key) / "scores.json"
        scores = json.loads(path.read_text(encoding="utf-8"))
        rows += [(key, *row) for row in score_rows(scores)]
    if not rows:
        return None
    return Section(
        "Shipped teachers",
        "teachers",
        [
            "Trained far longer than a demo and packed with these scores, on held-out scenes of their own data set, "
            "prompted by generated captions. Floor: chance, the same objects sought in pictures of all other prompts, or "
            "colours exchanged at random. Its captions: what other scenes hit whose captions say the same of other things. "
            "A bar that is missed is a miss."
        ],
        [Table((Column("Teacher"), *SCORE_COLUMNS), rows)],
    )


def few_steps_section(sources: Sources) -> Section | None:
    """Every few-step student beside its teacher, by number of steps."""
    rows = [
        (
            row["recipe"],
            row["teacher"],
            row["model"],
            row["num_steps"],
            interval_of(row, "judge_cosine"),
            interval_of(row, "above_teacher"),
        )
        for row in sources.rows_of_all("few_step_scores")
    ]
    if not rows:
        return None
    return Section(
        "Few-step students",
        "students",
        [
            "Distilled with guidance built in, sampled without. The last column is the judge score minus the teacher's in "
            "as many steps, prompt by prompt; ranges are 95 % intervals."
        ],
        [Table(STUDENT_COLUMNS, rows)],
    )


def study_section(sources: Sources) -> Section | None:
    """The contrasts of the distillation study; None before one of its students was made."""
    rows = sources.rows("distillation_study")
    made = [row for row in rows if row["num_seeds"]]
    contrasts = contrast_rows(made)
    if not contrasts:
        return None
    png = study_picture(rows)
    columns = [
        replace(column, form=",.3f") if column.form == "+.4f" else column for column in CONTRAST_COLUMNS
    ]
    return Section(
        "Distillation study",
        "study",
        [
            "Pairs of students that differ in one factor, over seeds and prompts. Left is what the paper says is better; "
            "the difference is left minus right of the judge score, and an interval that holds 0 is inside the noise."
        ],
        [Table(columns, contrasts)],
        [] if png is None else [Figure("Contrasts of the distillation study", png)],
    )
