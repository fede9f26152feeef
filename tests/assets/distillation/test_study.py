"""What a study says: planted differences are found, noise is called noise, and what is missing is waited for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from assets.distillation.study import study_picture, summarise_study
from assets.graph.versions import Provenance
from assets.models.comparison import SCORES
from evaluation.tables.scores import SMALLER_MODEL_SCORES
from orchestration.resources.store import ManifestStore
from training.recipes.distillation_study import DistillationStudy, StudyContrast, partition_of

PROMPTS = np.random.default_rng(0).normal(0.3, 0.2, 200)


def study() -> DistillationStudy:
    return DistillationStudy(
        recipe={},
        seeds=(0, 1, 2),
        cells={name: {} for name in ("good", "bad", "same", "late")},
        contrasts=(
            StudyContrast(factor="gap", left="good", right="bad"),
            StudyContrast(factor="reversed", left="bad", right="good"),
            StudyContrast(factor="noise", left="good", right="same"),
            StudyContrast(factor="waiting", left="good", right="late"),
        ),
    )


def put(store: ManifestStore, cell: str, seed: int, gain: float) -> None:
    """A student whose prompts score ``gain`` above the common level, with noise of its seed."""
    random = np.random.default_rng([seed, *cell.encode()])
    cosines = PROMPTS + gain + random.normal(0, 0.01) + random.normal(0, 0.05, len(PROMPTS))
    key = partition_of(cell, seed)
    rows = [
        {
            "recipe": key, "parent": "teacher", "model": model, "parameters": parameters, "macs": 1, "milliseconds": 1.0,
            "peak_memory_bytes": 1,
            "judge_cosine": float(cosines.mean()), "judge_cosine_low": 0.0, "judge_cosine_high": 1.0, "relative": None,
            "relative_low": None, "relative_high": None, "ssim": None, "num_steps": 16, "guidance": 3.0,
            "num_prompts": len(cosines), "sheet": None, "prompt_cosines": cosines.tolist(), "model_digest": "d" * 64,
        }
        for model, parameters in (("parent", 200), ("child", 100))
    ]  # fmt: skip
    table = pa.Table.from_pylist(rows, schema=SMALLER_MODEL_SCORES)
    store.write_table(SCORES, table, Provenance("distilled_backbone", 1), key)


def test_contrasts_are_told_over_seeds_and_prompts(tmp_path: Path) -> None:
    store = ManifestStore(tmp_path)
    for seed in range(3):
        for cell, gain in (("good", 0.1), ("bad", 0.0), ("same", 0.1)):
            put(store, cell, seed, gain)
    put(store, "late", 0, 0.0)
    store.write_table(
        SCORES, store.read_table(SCORES, "study.bad.0"), Provenance("distilled_backbone", 1), "no-study"
    )
    found = summarise_study(store, study())
    assert (found.num_made, found.num_planned) == (10, 12)
    rows = {row["name"]: row for row in found.table.to_pylist()}
    assert rows["good"]["num_seeds"] == 3
    assert rows["good"]["parameters"] == 100
    assert rows["late"]["low"] is None  # one seed says nothing about its spread
    assert rows["gap"]["status"] == "holds"
    assert rows["gap"]["low"] < 0.1 < rows["gap"]["high"]
    assert rows["reversed"]["status"] == "fails"
    assert rows["noise"]["status"] == "inside the noise"
    assert rows["waiting"]["value"] is None
    assert rows["waiting"]["status"] == "waits for two seeds a side"
    assert found.markdown.index("| good |") < found.markdown.index("| bad |")
    rows_with_words = found.table.to_pylist()
    assert (study_picture(rows_with_words) or b"").startswith(b"\x89PNG")
    assert study_picture([row for row in rows_with_words if row["name"] in ("good", "waiting")]) is None
    wider = summarise_study(store, study(), level=0.999)
    assert {row["name"]: row for row in wider.table.to_pylist()}["gap"]["low"] < rows["gap"]["low"]


def test_a_profile_without_a_study_has_an_empty_table(tmp_path: Path) -> None:
    found = summarise_study(ManifestStore(tmp_path), None)
    assert found.table.num_rows == 0
    assert found.num_planned == 0
