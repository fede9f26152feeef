"""The registry against the paper's tables: exact integers as oracles, and where print cannot be met."""

from __future__ import annotations

import pytest

from evaluation.analysis.printed import PRINTED_SIZES
from evaluation.analysis.sizes import backbone_size, in_transformer, size_rows
from training.errors import FoundryError

ANCHORS = {  # parameters, multiply-adds without and with QK^T and AV
    "SD2": (865_910_724, 86_272_573_440, 90_545_233_920),
    "SDXL-C128": (423_971_332, 34_880_880_640, 35_871_784_960),
    "SDXL": (2_391_824_644, 198_289_653_760, 200_766_914_560),
    "SDXL-TD4_4": (1_321_930_244, 142_958_919_680, 145_695_703_040),
}


@pytest.mark.parametrize("name", sorted(ANCHORS))
def test_anchors(name: str) -> None:
    size = backbone_size(name)
    assert (size.params, size.macs, size.macs_with_attention) == ANCHORS[name]


def test_every_printed_row_is_met_but_two_cells() -> None:
    rows = size_rows(list(PRINTED_SIZES))
    missed = {(row["name"], figure) for row in rows for figure, met in row["agrees"].items() if not met}
    assert missed == {("SDXL", "attention_gmacs"), ("SDXL-TD4_8", "attention_gmacs")}
    assert missed == {(name, "attention_gmacs") for name, row in PRINTED_SIZES.items() if row.wrong_cell}
    by_name = {row["name"]: row for row in rows}
    assert by_name["SDXL"]["difference"]["attention_gmacs"] == pytest.approx(-0.555, abs=1e-3)
    assert "1.2B" in by_name["SDXL-TD4_4"]["remark"]
    assert round(by_name["SDXL-TD4_4"]["attention_share"], 3) == 0.585


def test_released_conditioning_is_not_the_papers() -> None:
    (row,) = size_rows(["SDXL"], conditioning="stock")
    assert row["params"] == 2_567_463_684
    assert row["agrees"]["params_b"] is False
    assert row["difference"]["params_b"] == pytest.approx(0.177463684)


def test_other_latents_are_not_compared_with_print() -> None:
    (row,) = size_rows(["SDXL-C128"], latent=16)
    assert row["difference"]["gmacs"] is None
    assert row["agrees"] == {"params_b": True}
    assert row["macs"] == 12_658_671_616  # the text is as long at any size


def test_what_counts_as_attention() -> None:
    layer = "mid_block.attentions.0.transformer_blocks.0.ff.net.2"
    assert in_transformer(layer, "SD2")
    assert not in_transformer(layer, "SDXL")
    assert not in_transformer("down_blocks.1.resnets.0.conv1", "SDXL")


@pytest.mark.parametrize(
    ("names", "latent", "message"),
    [
        (["SDXL-TD4_5"], 32, "'SDXL-TD4_5', which is not registered; did you mean 'SDXL-TD4_"),
        (["SD2"], 20, "latent is 20; allowed are multiples of 8"),
    ],
)
def test_mistakes(names: list[str], latent: int, message: str) -> None:
    with pytest.raises(FoundryError, match=message):
        size_rows(names, latent)
