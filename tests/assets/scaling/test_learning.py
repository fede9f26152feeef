"""What made-up scores with a known answer are taken to say."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from assets.scaling.learning import curves_by_cell, efficiency_of, efficiency_table, grid_claims
from assets.scaling.points import macs_of
from assets.scaling.tables import observations_of
from evaluation.tables.scaling import SCALING_EFFICIENCY, SCALING_OBSERVATIONS
from tests.assets.scaling.makers import COUNTS, made_up_scores, small_grid
from training.recipes.grid import GridPoint

GRID = small_grid()


def falling(point: GridPoint, images: int) -> float:
    """A line over log images: mixed captions need half the images for the same error; seeds differ a little."""
    lead = 0.1 * (point.mix == "mixed")
    return 1.0 - 0.1 * np.log2(images) - lead + (0.0, 0.001, 0.003)[point.seed]


def test_a_claim_holds_when_its_runs_say_so() -> None:
    found = grid_claims(made_up_scores(GRID, falling), GRID, "smoke")
    claim = found["mixed_captions"]
    assert claim.status == "holds"
    assert claim.interval is not None
    assert claim.interval.value == pytest.approx(0.1, abs=1e-6)
    assert claim.num_seeds == 6
    assert "at 96 images" in claim.measured


def test_a_claim_is_not_run_while_one_of_its_runs_is_missing() -> None:
    keys = [key for key in GRID.points if key != "grid.tiny.all.mixed.2"]
    assert grid_claims(made_up_scores(GRID, falling, keys), GRID, "smoke") == {}
    assert grid_claims(made_up_scores(GRID, falling).slice(0, 0), GRID, "smoke") == {}


def test_at_budgets_of_compute_each_side_counts_where_its_own_run_ends() -> None:
    sizes = {
        "tiny": {"backbone": "PixArt-tiny", "learning_rate": 0.001},
        "unet": {"backbone": "UNet-tiny", "learning_rate": 0.001},
    }
    grid = small_grid(
        budgets={"gflops": [0.4]},
        sizes=sizes,
        slices=[{"sizes": ["tiny", "unet"], "data": ["all"], "mixes": ["mixed"], "seeds": [0, 1, 2]}],
        contrasts=[],
        pairs=[{"name": "shape", "claim": "depth_beats_width", "left": "tiny", "right": "unet"}],
    )
    scores = made_up_scores(grid, falling)
    keep = [row["size"] == "tiny" or row["images_seen"] <= 40 for row in scores.to_pylist()]
    claim = grid_claims(scores.filter(pa.array(keep)), grid, "smoke")["depth_beats_width"]
    assert "at equal compute" in claim.measured
    assert claim.interval is not None
    assert claim.interval.value == pytest.approx(0.1 * np.log2(96 / 40), abs=1e-6)


def test_efficiency_says_how_many_images_and_how_much_compute() -> None:
    scores = made_up_scores(GRID, falling)
    found = efficiency_of(scores, GRID)
    worst = np.mean([falling(GRID.points[f"grid.tiny.all.original.{seed}"], 96) for seed in (0, 1, 2)])
    original, mixed = found[("tiny", "all", "original")][0], found[("tiny", "all", "mixed")][0]
    assert original.target == pytest.approx(worst, abs=1e-6)
    assert original.reached == 2, "the seed that ends above the mean does not get there"
    assert original.images is None
    assert mixed.images is not None
    assert mixed.images.value == pytest.approx(48, rel=0.01)
    assert mixed.gflops is not None
    assert mixed.gflops.value == pytest.approx(48 * 6e-9 * macs_of("PixArt-tiny"), rel=0.01)
    table = efficiency_table(found)
    assert table.schema.equals(SCALING_EFFICIENCY)
    assert table.num_rows == 4


def test_curves_stand_by_cell_and_seed() -> None:
    curves = curves_by_cell(made_up_scores(GRID, falling))
    assert list(curves) == [("tiny", "all", "mixed"), ("tiny", "all", "original")]
    assert list(curves[("tiny", "all", "mixed")]) == [0, 1, 2]
    assert curves[("tiny", "all", "mixed")][1].images_seen.tolist() == list(COUNTS)


def test_observations_carry_what_a_score_cost() -> None:
    table = observations_of(made_up_scores(GRID, falling))
    assert table.schema.equals(SCALING_OBSERVATIONS)
    row = table.slice(5, 1).to_pylist()[0]
    assert (row["images_seen"], row["image_noun_pairs"], row["profile"]) == (96, 105, "smoke")
    assert row["training_gflops"] == pytest.approx(3 * 2 * row["macs"] * 96 / 1e9)
