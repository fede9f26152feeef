"""Heat maps of unit scores: what stands where, and pictures of bounded size for 4 to 210 modules."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from evaluation.analysis.mask_pictures import MOST_COLUMNS, mask_heat_map, short_name
from evaluation.plots.basic import png_bytes
from training.backbones import blueprint
from training.errors import FoundryError
from training.pruning import keep_best, unit_groups


def scores_of(model: str, *kinds: str) -> dict[Any, Tensor]:
    random = torch.Generator().manual_seed(0)
    groups = unit_groups(blueprint(model), kinds or ("heads", "ffn"))
    return {group.key: torch.randn(group.num_units, generator=random) for group in groups}


def drawn(axes: Any) -> Any:
    """The numbers of a heat map; masked where a module has no unit."""
    return axes.images[0].get_array()


def labels(axes: Any) -> list[str]:
    return [text.get_text() for text in axes.get_yticklabels()]


def test_narrow_modules_show_each_unit_at_its_place() -> None:
    scores: dict[Any, Tensor] = {
        ("heads", "transformer_blocks.0.attn1"): torch.tensor([1.0, 5.0, 3.0]),
        ("heads", "transformer_blocks.0.attn2"): torch.tensor([4.0, 2.0]),
    }
    keep: dict[Any, Tensor] = {("heads", "transformer_blocks.0.attn1"): torch.tensor([False, True, False])}
    heat, _, share = mask_heat_map(scores, keep).axes
    np.testing.assert_array_equal(drawn(heat).filled(-1), [[1, 5, 3], [4, 2, -1]])
    assert labels(heat) == ["block/0/attn1", "block/0/attn2"]
    hatched = [path.get_extents().bounds for path in heat.collections[0].get_paths()]
    np.testing.assert_allclose(hatched, [(-0.5, -0.5, 1, 1), (1.5, -0.5, 1, 1)])
    assert not heat.collections[1].get_paths()
    shown = [text.get_text() for text in share.texts]
    assert shown == ["33", "100"]  # what keep leaves out stays whole


def test_wide_modules_are_sorted_and_binned() -> None:
    scores: dict[Any, Tensor] = {
        ("ffn", "transformer_blocks.0.ff"): torch.arange(2.0 * MOST_COLUMNS),
        ("ffn", "transformer_blocks.1.ff"): torch.arange(float(MOST_COLUMNS // 2)),
    }
    keep = {key: value >= len(value) // 4 for key, value in scores.items()}
    heat, _, share = mask_heat_map(scores, keep).axes
    first, second = drawn(heat)
    np.testing.assert_allclose(first, 2 * MOST_COLUMNS - 1.5 - 2 * np.arange(MOST_COLUMNS))
    np.testing.assert_allclose(second, np.repeat(np.arange(MOST_COLUMNS // 2)[::-1], 2))
    for row in range(2):  # the worst quarter, on the right
        (path,) = heat.collections[row].get_paths()
        np.testing.assert_allclose(path.get_extents().bounds, (75, row - 0.5, 25, 1))
    assert [text.get_text() for text in share.texts] == ["75", "75"]
    assert "best first" in heat.get_xlabel()


def test_odd_widths_lose_no_unit() -> None:
    key: Any = ("ffn", "transformer_blocks.0.ff")
    heat, _ = mask_heat_map({key: torch.linspace(3, -7, 301)}, None).axes
    (row,) = drawn(heat)
    assert len(row) == MOST_COLUMNS
    assert (np.diff(row) < 0).all()
    assert row.mean() == pytest.approx(-2, abs=0.02)


@pytest.mark.parametrize(
    ("model", "kinds", "panels", "modules"),
    [
        ("PixArt-tiny", ("heads",), 1, None),
        ("PixArt-demo-h64-d4", (), 2, 12),
        pytest.param("SDXL-stock", (), 2, 210, marks=pytest.mark.slow),
        ("FLUX.1-dev", ("heads", "ffn", "norm"), 3, 209),
    ],
)
def test_pictures_stay_readable(model: str, kinds: tuple[str, ...], panels: int, modules: int | None) -> None:
    scores = scores_of(model, *kinds)
    keep = keep_best(scores, dict.fromkeys({key[0] for key in scores}, "0.8"), "global")
    figure = mask_heat_map(scores, keep, "a name")
    width, height = figure.get_size_inches()
    assert width == 9
    assert height < 19
    heats = figure.axes[::3]
    assert len(heats) == panels
    assert sum(len(labels(heat)) for heat in heats) == len(scores) == (modules or len(scores))
    assert all(float(text.get_fontsize()) > 4 for heat in heats for text in heat.get_yticklabels())
    assert len({name for heat in heats for name in labels(heat)}) == len(scores)
    assert png_bytes(figure).startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("down_blocks.1.attentions.0.transformer_blocks.1.attn2", "down1/0.1/attn2"),
        ("mid_block.attentions.0.transformer_blocks.9.ff", "mid/0.9/ff"),
        ("transformer_blocks.3.norm1_context", "block/3/norm1_context"),
        ("single_transformer_blocks.12.act_mlp", "single/12/act_mlp"),
        ("attn", "attn"),
        ("encoder_of_some_kind.layers.3.self_attention", "…_some_kind/3/self_attention"),
    ],
)
def test_short_names(name: str, short: str) -> None:
    assert short_name(name) == short
    assert len(short) <= 28


def test_mistakes_are_told() -> None:
    key: Any = ("heads", "transformer_blocks.0.attn1")
    with pytest.raises(FoundryError, match="found no scores"):
        mask_heat_map({}, None)
    with pytest.raises(FoundryError, match="one finite number a unit"):
        mask_heat_map({key: torch.tensor([1.0, float("nan")])}, None)
    with pytest.raises(FoundryError, match=r"torch.bool of shape \[3\]; torch.bool is needed .* \[2\]"):
        mask_heat_map({key: torch.ones(2)}, {key: torch.ones(3, dtype=torch.bool)})
