"""Claims about sizes: each counted afresh, with the exact integers of the layouts as oracles."""

from __future__ import annotations

import pytest

from evaluation.analysis.sizes import backbone_size
from evaluation.claims.counted import control_parameters, counted_measurements, savings
from evaluation.claims.exact import exact_measurements


def test_all_rows_of_both_tables_are_met() -> None:
    found = counted_measurements()
    assert (found["unet_sizes"].status, found["unet_sizes"].measured) == ("holds", "16 of 16 met")
    assert (found["transformer_sizes"].status, found["transformer_sizes"].num_items) == ("holds", 5)
    assert "with its own 120 it is 142.8" in found["transformer_sizes"].remark


def test_two_attention_cells_fail_as_printed() -> None:
    found = counted_measurements()["unet_attention"]
    assert (found.status, found.measured) == ("fails", "14 of 16 met")
    assert "SDXL: attention is printed as 127" in found.remark
    assert "SDXL-TD4_8: attention is printed as 123" in found.remark


def test_negative_controls_miss() -> None:
    found = counted_measurements()["size_controls"]
    assert found.status == "holds"
    assert "with QK^T and AV 0 of 16, with stock conditioning 0 of 4" in found.measured
    assert control_parameters() == {
        "SDXL with mid depth 1": 2_102_615_044,
        "IF-XL-C512 with attention at 2x, 4x, 8x": 2_173_205_508,
    }


@pytest.mark.parametrize(
    ("latent", "without", "with_products"), [(32, 27.90, 27.43), (64, 26.9, 25.1), (128, 26.6, 20.1)]
)
def test_savings_shrink_with_the_latent(latent: int, without: float, with_products: float) -> None:
    assert 100 * savings(latent, products=False) == pytest.approx(without, abs=0.05)
    assert 100 * savings(latent, products=True) == pytest.approx(with_products, abs=0.05)


def test_multiply_adds_at_larger_latents() -> None:
    """At 64 x 64 and 128 x 128, in billions, without and with attention's products."""
    sizes = [backbone_size(name, side) for side in (64, 128) for name in ("SDXL", "SDXL-TD4_4")]
    found = [(round(size.macs / 1e9, 1), round(size.macs_with_attention / 1e9, 1)) for size in sizes]
    assert found == [(753.7, 781.3), (551.2, 585.3), (2975.5, 3367.5), (2184.1, 2690.9)]


def test_td4_4_savings_claim() -> None:
    found = counted_measurements()["td4_4_savings"]
    assert (found.status, found.measured) == ("holds", "44.73%, 27.90%")
    assert "128 x 128: 26.6%, with QK^T and AV 20.1%" in found.remark


def test_attention_share_rises_with_depth_and_not_with_width() -> None:
    found = counted_measurements()["attention_share"]
    assert found.status == "holds"
    assert found.measured == "over TD 43.7, 51.8, 63.8, 66.0, 67.7 %; over C 65.6, 64.6, 63.8, 63.5 %"


def test_compute_formula_uses_the_counted_model() -> None:
    assert exact_measurements()["compute_formula"].measured == "1.46e+12 GFLOPs"
