from __future__ import annotations

import io

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from assets.entities.distributions import MOST_SHOWN, distribution_figures, entities_per_image, shares

ROWS = [
    ("a", True, "", 0.05, 0.9),
    ("a", True, "", 0.5, 0.8),
    ("a", False, "too_small", 0.001, 0.7),
    ("b", False, "low_score", 0.2, 0.1),
    *((f"c{number // 12}", True, "", 1.0, 1.0) for number in range(24)),
]
TABLE = pa.table(
    [list(column) for column in zip(*ROWS, strict=True)],
    names=["sample_id", "keep", "dropped_because", "area_fraction", "score"],
)


def test_images_are_counted_by_kept_entities() -> None:
    counts = entities_per_image(TABLE)
    assert len(counts) == MOST_SHOWN + 1
    assert {number: count for number, count in enumerate(counts) if count} == {0: 1, 2: 1, MOST_SHOWN: 2}


def test_shares_add_up_and_ends_belong() -> None:
    values = np.array([0.0, 0.05, 0.1, 0.95, 1.0, 1.2, -0.1])
    found = shares(values)
    assert sum(found) == pytest.approx(1.0)
    assert found[0] == pytest.approx(3 / 7)
    assert found[-1] == pytest.approx(3 / 7)
    assert shares(np.array([])) == [0.0] * 10


def test_figures_are_pictures_and_none_without_rows() -> None:
    figures = distribution_figures(TABLE)
    assert set(figures) == {"entities_per_image.png", "area_and_score.png", "dropped_because.png"}
    for data in figures.values():
        assert Image.open(io.BytesIO(data)).size[0] > 300
    assert distribution_figures(TABLE.slice(0, 0)) == {}
