"""The page of an analysis: totals that are whole, and the blocks that do least."""

from __future__ import annotations

from dataclasses import replace

from assets.backbones.analysis import analysis_markdown
from evaluation.analysis.backbone import analyze
from evaluation.analysis.similarity import BlockSimilarity


def test_the_page_names_totals_and_the_blocks_that_change_least() -> None:
    found = analyze("UNet-tiny")
    text = analysis_markdown(found)
    assert "| all | 77,808 | 100.0% |" in text
    assert "Blocks that change" not in text  # no data were looked at
    looked = [BlockSimilarity(0.5, place, f"block {place}", 0.9 - place / 10, ()) for place in range(5)]
    text = analysis_markdown(replace(found, similarities=looked))
    assert text.endswith(": `block 0` 0.900, `block 1` 0.800, `block 2` 0.700")
