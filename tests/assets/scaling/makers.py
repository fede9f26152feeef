"""A grid and made-up scores of its points, for tests of what is concluded from them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa

from assets.scaling.points import Planned
from assets.scaling.scoring import SCORES
from assets.scaling.tables import RunFacts, scores_table
from training.recipes.grid import Grid, GridPoint, recipe_of

COUNTS = (8, 16, 24, 40, 64, 96)
NUM_SAMPLES = 12


def small_grid(**changes: Any) -> Grid:
    """One tiny size with original and mixed captions, three seeds each, and the claim that mixed does better."""
    values = {
        "recipe": {"batch_size": 8, "warmup_images": 16},
        "budgets": {"images": [96]},
        "scored": {"first_images": 8},
        "sizes": {"tiny": {"backbone": "PixArt-tiny", "learning_rate": 0.001}},
        "data": {"all": {}},
        "slices": [{"sizes": ["tiny"], "data": ["all"], "mixes": ["original", "mixed"], "seeds": [0, 1, 2]}],
        "contrasts": [{"claim": "mixed_captions", "axis": "mix", "left": "mixed", "right": "original"}],
        **changes,
    }
    return Grid.model_validate(values)


def plan_of(grid: Grid, key: str) -> Planned:
    """A point of the grid as it is trained."""
    point = grid.points[key]
    return Planned(point, recipe_of(grid, point, lambda _: 1), COUNTS)


def made_up_scores(
    grid: Grid, error: Callable[[GridPoint, int], float], keys: list[str] | None = None
) -> pa.Table:
    """Rows of SCALING_SCORES in which a point's error after so many images is what ``error`` says."""
    samples = np.random.default_rng(0).normal(0, 0.01, NUM_SAMPLES)
    samples -= samples.mean()
    tables = []
    for key in keys or list(grid.points):
        plan = plan_of(grid, key)
        rows = [
            {"images_seen": n, "metric": "denoising_error", "by_sample": error(plan.point, n) + samples}
            for n in COUNTS
        ]
        facts = RunFacts(54, 105, "a processor, 1 thread", "smoke", "d" * 64, dict.fromkeys(COUNTS, 1.0))
        tables.append(scores_table(plan, pa.Table.from_pylist(rows, schema=SCORES), facts, 1))
    return pa.concat_tables(tables)
