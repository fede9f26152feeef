"""A few-step student beside its teacher: the same prompts and noise, scored by the judge and shown."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from assets.graph.interfaces import Store
from assets.models.drawing import DrawingPlace, draw_model, pictures_of, stored_prompts
from assets.pages.markdown import markdown_table
from assets.pages.measures import interval_of
from assets.pages.sheets import sheet_jpeg
from assets.pages.tables import Column, Table
from evaluation.tables.scores import FEW_STEP_SCORES
from training.recipes.specification import Recipe
from training.recipes.step_distillation import StepDistillationOptions

if TYPE_CHECKING:
    from evaluation.metrics.few_steps import FewStepScore

STUDENT_STEPS = (1, 2, 4)
TEACHER_STEPS = (1, 2, 4, 16)
PROMPTS_SHOWN = 4


@dataclass(frozen=True)
class Comparison:
    """Scores by model and number of steps, and a small JPEG: a row a prompt, the teacher's pictures, the student's.

    ``by_student``: its pictures in most steps, rows of :func:`assets.models.drawing.draw_held_out`.
    """

    table: pa.Table
    sheet: bytes
    by_student: pa.Table


def compare_with_teacher(
    store: Store,
    place: DrawingPlace,
    teacher: Path,
    student: Path,
    recipe: Recipe,
    student_digest: str,
    prompts_per_split: int,
) -> Comparison:
    """Draw held-out prompts with both models, the teacher guided as it was distilled, the student not at all.

    Raises FoundryError when there is no judge that passed its gate or no held-out prompt.
    """
    from evaluation.judge import Judge
    from evaluation.metrics.few_steps import few_step_scores

    judge = Judge.load(store.local_folder("judge_clip", require_gate=True))
    chosen = stored_prompts(store, prompts_per_split)
    prompts = chosen["prompt"].to_pylist()
    guidance = built_in_guidance(recipe)
    drawn = {
        "teacher": draw_model(place, teacher, chosen, *((steps, guidance) for steps in TEACHER_STEPS)),
        "student": draw_model(place, student, chosen, *((steps, 1.0) for steps in STUDENT_STEPS)),
    }
    images = {
        "teacher": _by_steps(drawn["teacher"], TEACHER_STEPS),
        "student": _by_steps(drawn["student"], STUDENT_STEPS),
    }
    texts = judge.embed_texts(prompts)
    cosines = {
        model: {
            steps: (judge.embed_images(pictures) * texts).sum(axis=1).astype(np.float64)
            for steps, pictures in drawn.items()
        }
        for model, drawn in images.items()
    }
    scores = few_step_scores(cosines, images)
    most = drawn["student"].filter(pc.equal(drawn["student"]["num_steps"], max(STUDENT_STEPS)))
    return Comparison(
        score_table(scores, recipe, student_digest, len(prompts)), _sheet(images, prompts), most
    )


def built_in_guidance(recipe: Recipe) -> float:
    """The teacher's guidance that the student has learned: the middle of the range it was drawn from."""
    options = recipe.options_of(StepDistillationOptions)
    return (options.guidance_min + options.guidance_max) / 2


def score_table(scores: list[FewStepScore], recipe: Recipe, digest: str, num_prompts: int) -> pa.Table:
    """Rows of :data:`evaluation.tables.scores.FEW_STEP_SCORES`."""
    rows = [
        {
            "recipe": recipe.name,
            "teacher": recipe.parent,
            "model": score.model,
            "num_steps": score.steps,
            "judge_cosine": score.cosine.value,
            "judge_cosine_low": score.cosine.low,
            "judge_cosine_high": score.cosine.high,
            "above_teacher": score.above_teacher.value if score.above_teacher else None,
            "above_teacher_low": score.above_teacher.low if score.above_teacher else None,
            "above_teacher_high": score.above_teacher.high if score.above_teacher else None,
            "path_error": score.path_error,
            "num_prompts": num_prompts,
            "model_digest": digest,
        }
        for score in scores
    ]
    return pa.Table.from_pylist(rows, schema=FEW_STEP_SCORES)


SCORE_COLUMNS = (
    Column("model"),
    Column("steps", ","),
    Column("judge cosine", ".3f"),
    Column("above the teacher in as many steps", "+.3f"),
    Column("distance to the teacher's 16 steps", ".1f"),
)


def scores_markdown(table: pa.Table) -> str:
    """The comparison in Markdown, for the asset page and the card."""
    rows = [
        (
            row["model"],
            row["num_steps"],
            interval_of(row, "judge_cosine"),
            interval_of(row, "above_teacher"),
            row["path_error"],
        )
        for row in table.to_pylist()
    ]
    return markdown_table(Table(SCORE_COLUMNS, rows))


def _by_steps(drawn: pa.Table, steps: tuple[int, ...]) -> dict[int, np.ndarray]:
    """Pictures [n, h, w, 3] by number of steps, in which they were drawn one after the other."""
    return dict(zip(steps, np.split(pictures_of(drawn), len(steps)), strict=True))


def _sheet(images: dict[str, dict[int, np.ndarray]], prompts: list[str]) -> bytes:
    from assets.corpus.image_io import encode_png

    columns = [(model, steps) for model, drawn in images.items() for steps in sorted(drawn)]
    tiles, labels = [], []
    for row in range(min(PROMPTS_SHOWN, len(prompts))):
        for model, steps in columns:
            tiles.append(encode_png(images[model][steps][row]))
            labels.append(f"{model} {steps}")
    return sheet_jpeg(tiles, labels, columns=len(columns))
