"""A grid is data: its points, their names and recipes, and what is wrong with a bad one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from training.errors import FoundryError
from training.recipes.grid import (
    Grid,
    check_pairs,
    images_of_budgets,
    load_grid,
    recipe_of,
    scored_counts,
    shared_cells,
)

MACS = {"PixArt-tiny": 150_000, "UNet-tiny": 410_000}


def document(**changes: Any) -> dict[str, Any]:
    """A grid of two sizes with a contrast of mixes, as the YAML file holds it."""
    return {
        "recipe": {"objective": "diffusion", "batch_size": 8, "warmup_images": 16},
        "budgets": {"images": [80, 160]},
        "scored": {"first_images": 8},
        "sizes": {
            "t": {"backbone": "PixArt-tiny", "learning_rate": 0.001},
            "u": {"backbone": "UNet-tiny", "learning_rate": 0.002},
        },
        "data": {"all": {}, "half": {"images": 20}, "few": {"concepts": 3, "filter": "raw"}},
        "slices": [
            {"sizes": ["t"], "data": ["all"], "mixes": ["original", "mixed"], "seeds": [0, 1, 2]},
            {"sizes": ["t", "u"], "data": ["all", "few"], "mixes": ["mixed"], "seeds": [0, 1]},
        ],
        "contrasts": [{"claim": "mixed_captions", "axis": "mix", "left": "mixed", "right": "original"}],
        **changes,
    }


def loaded(folder: Path, **changes: Any) -> Grid:
    path = folder / "grid.yaml"
    path.write_text(yaml.safe_dump(document(**changes)))
    return load_grid(path)


def test_slices_are_a_union_of_products_without_repeats(tmp_path: Path) -> None:
    points = loaded(tmp_path).points
    products = 1 * 1 * 2 * 3 + 2 * 2 * 1 * 2
    assert len(points) == products - 2, "t.all.mixed with seeds 0 and 1 stands in both slices"
    assert list(points)[:2] == ["grid.t.all.original.0", "grid.t.all.original.1"]
    assert all(point.name == name and name == name.lower() for name, point in points.items())
    assert {point.seed for point in points.values() if point.cell == ("t", "all", "mixed")} == {0, 1, 2}


def test_a_point_is_a_recipe(tmp_path: Path) -> None:
    grid = loaded(tmp_path)
    recipe = recipe_of(grid, grid.points["grid.u.few.mixed.1"], MACS.__getitem__)
    assert recipe.name == "grid.u.few.mixed.1"
    assert (recipe.backbone, recipe.learning_rate, recipe.seed) == ("UNet-tiny", 0.002, 1)
    assert (recipe.images_total, recipe.batch_size, recipe.schedule) == (160, 8, "constant")
    assert recipe.dataset.captions.name == "paper"
    assert (recipe.dataset.filter, recipe.dataset.max_concepts, recipe.dataset.max_samples) == (
        "raw",
        3,
        None,
    )


def test_equal_compute_is_equal_within_one_batch(tmp_path: Path) -> None:
    grid = loaded(tmp_path, budgets={"gflops": [0.05, 0.4]})
    for place, gflops in enumerate((0.05, 0.4)):
        for size in ("t", "u"):
            images = images_of_budgets(grid, size, MACS.__getitem__)[place]
            macs = MACS[grid.sizes[size].backbone]
            assert images % 8 == 0
            assert abs(6e-9 * macs * images - gflops) <= 6e-9 * macs * 8
    assert recipe_of(grid, grid.points["grid.u.all.mixed.0"], MACS.__getitem__).images_total == 160


def test_runs_are_scored_at_budgets_and_at_log_spaced_counts(tmp_path: Path) -> None:
    grid = loaded(tmp_path, budgets={"images": [80, 256]})
    counts = scored_counts(grid, grid.points["grid.t.all.mixed.0"], MACS.__getitem__)
    assert counts == (8, 16, 32, 64, 80, 128, 256)


def test_counts_are_whole_batches_and_the_end(tmp_path: Path) -> None:
    grid = loaded(tmp_path, budgets={"images": [250]}, scored={"first_images": 9})
    counts = scored_counts(grid, grid.points["grid.t.all.mixed.0"], MACS.__getitem__)
    assert counts == (16, 24, 40, 72, 136, 250)


def test_too_few_counts_are_refused(tmp_path: Path) -> None:
    grid = loaded(tmp_path, budgets={"images": [80]}, scored={"first_images": 78})
    with pytest.raises(FoundryError, match="gives 1 counts from 78 to 80 images; at least 6"):
        scored_counts(grid, grid.points["grid.t.all.mixed.0"], MACS.__getitem__)


def test_cells_that_differ_in_one_axis_alone_are_found(tmp_path: Path) -> None:
    grid = loaded(tmp_path)
    assert shared_cells(grid, "mix", "mixed", "original") == [
        (("t", "all", "mixed"), ("t", "all", "original"))
    ]
    assert shared_cells(grid, "data", "all", "few") == [
        (("t", "all", "mixed"), ("t", "few", "mixed")),
        (("u", "all", "mixed"), ("u", "few", "mixed")),
    ]


def test_a_pair_of_unequal_sizes_is_refused_with_both_counts(tmp_path: Path) -> None:
    slices = [{"sizes": ["t", "u"], "data": ["all"], "mixes": ["mixed"], "seeds": [0, 1, 2]}]
    pairs = [{"name": "shape", "left": "t", "right": "u"}]
    grid = loaded(tmp_path, slices=slices, pairs=pairs, contrasts=[])
    check_pairs(grid, {"PixArt-tiny": 1000, "UNet-tiny": 1029}.__getitem__)
    with pytest.raises(FoundryError, match="PixArt-tiny with 1,000 parameters and UNet-tiny with 1,031"):
        check_pairs(grid, {"PixArt-tiny": 1000, "UNet-tiny": 1031}.__getitem__)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"slice": []}, "unknown key 'slice'; did you mean 'slices'"),
        ({"sizes": {"t": {"backbone": "PixArt-tiny", "learning_rat": 1}}}, "did you mean 'learning_rate'"),
        ({"data": {"all": {"image": 3}}}, "unknown key 'data.all.image'; did you mean 'images'"),
        ({"sizes": {"T": {"backbone": "PixArt-tiny", "learning_rate": 1}}}, "'T'"),
        ({"recipe": {"batch_sise": 8}}, "unknown key 'batch_sise'; did you mean"),
        ({"recipe": {"schedule": "cosine"}}, "must not depend on where they end: say constant"),
        ({"budgets": {"images": [80], "gflops": [1.0]}}, "give either 'images' or 'gflops'"),
        ({"budgets": {"images": [160, 80]}}, "list them ascending"),
        (
            {"contrasts": [{"claim": "more", "axis": "data", "left": "all", "right": "fev"}]},
            "contrast 'more' names 'fev'; did you mean 'few'",
        ),
        (
            {"contrasts": [{"claim": "more", "axis": "data", "left": "all", "right": "few"}]},
            "contrast 'more': the cell t.few.mixed has 2 seeds; at least 3",
        ),
        (
            {"contrasts": [{"claim": "more", "axis": "data", "left": "all", "right": "half"}]},
            "no slice trains 'all' and 'half' with all else equal",
        ),
        (
            {
                "slices": [{"sizes": ["x"], "data": ["all"], "mixes": ["mixed"], "seeds": [0]}],
                "contrasts": [],
            },
            "slices.0.sizes names 'x'",
        ),
    ],
)
def test_a_bad_grid_says_what_is_wrong(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(FoundryError, match=message.replace("(", r"\(")) as caught:
        loaded(tmp_path, **changes)
    assert "grid.yaml" in str(caught.value)
