"""A student beside its teacher: paired differences, and distances only where the same noise makes the same picture."""

from __future__ import annotations

import numpy as np
import pytest

from evaluation.metrics.few_steps import few_step_scores
from training.errors import FoundryError


def _pictures(level: int) -> np.ndarray:
    return np.full((3, 2, 2, 3), level, np.uint8)


def test_rows_compare_the_student_with_as_many_steps_of_the_teacher() -> None:
    cosines = {
        "teacher": {16: np.array([0.5, 0.6, 0.7]), 1: np.array([0.1, 0.2, 0.3])},
        "student": {1: np.array([0.2, 0.3, 0.4]), 16: np.array([0.4, 0.6, 0.7])},
    }
    images = {
        "teacher": {1: _pictures(90), 16: _pictures(100)},
        "student": {1: _pictures(97), 16: _pictures(100)},
    }
    rows = {(row.model, row.steps): row for row in few_step_scores(cosines, images)}
    assert list(rows) == [("teacher", 1), ("teacher", 16), ("student", 1), ("student", 16)]
    one = rows["student", 1]
    assert one.above_teacher is not None
    assert one.above_teacher.value == pytest.approx(0.1)
    assert one.above_teacher.low == pytest.approx(0.1)  # every prompt gained as much
    assert one.cosine.value == pytest.approx(0.3)
    assert [row.path_error for row in rows.values()] == [10.0, 0.0, 3.0, None]
    assert rows["teacher", 1].above_teacher is None


def test_a_teacher_not_drawn_in_as_many_steps_is_named() -> None:
    cosines = {"teacher": {16: np.ones(3)}, "student": {2: np.ones(3)}}
    with pytest.raises(FoundryError, match=r"drawn in 2 steps, the teacher in \[16\]"):
        few_step_scores(cosines, {"teacher": {16: _pictures(0)}, "student": {2: _pictures(0)}})
