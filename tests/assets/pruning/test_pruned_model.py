"""A model cut by its scores: the folder, its checks, and scores of another model."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from assets.graph.versions import GateResult
from assets.pruning.pruned_model import (
    Cut,
    cut_model,
    gate_of_cut,
    gate_of_pruned_score,
    pruned_card,
    units_markdown,
)
from assets.pruning.unit_scores import SCORES_FILE
from evaluation.analysis.backbone import analyze
from evaluation.intervals import Interval
from evaluation.metrics.paired_models import SmallerScore
from training.backbones import build_backbone
from training.diffusion.noise_process import Noising
from training.errors import FoundryError
from training.model_folders.autoencoders import build_autoencoder
from training.model_folders.denoiser import Denoiser
from training.model_folders.export import export_pipeline
from training.pruning import Kind, plan_removal, unit_groups, write_scores
from training.pruning.baselines import random_scores
from training.recipes.autoencoder import AutoencoderOptions
from training.recipes.pruned_models import PrunedRecipe, ScoringRecipe

KINDS: tuple[Kind, ...] = ("heads", "ffn")
LAYERWISE: dict[Kind, Decimal] = {
    "heads": Decimal(0),
    "ffn": Decimal("0.5"),
}  # a tiny UNet has one head a module


@pytest.fixture(params=["PixArt-tiny", "UNet-tiny"])
def whole(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A published model and scores of its units beside it."""
    backbone = build_backbone(request.param, seed=0)
    folder = tmp_path / "whole"
    autoencoder = build_autoencoder(AutoencoderOptions(block_channels=(8, 8, 8, 8)), 64, seed=0)
    autoencoder.save_pretrained(tmp_path / "vae")
    export_pipeline(folder, backbone, tmp_path / "vae", Noising("clean"))
    (tmp_path / "scores").mkdir()
    write_scores(tmp_path / "scores" / SCORES_FILE, random_scores(backbone, KINDS, seed=0))
    return folder


def cut(whole: Path, recipe: PrunedRecipe) -> Cut:
    return cut_model(recipe, whole.parent / "scores", whole, whole.parent / "pruned")


def recipe_of(**settings: object) -> PrunedRecipe:
    return PrunedRecipe.model_validate({"name": "cut", "scores": "random", **settings})


def test_a_cut_is_a_pipeline_with_the_planned_parameters(whole: Path) -> None:
    recipe = recipe_of(sparsity=LAYERWISE, scope="layer")
    found = cut(whole, recipe)
    gates = gate_of_cut(found)
    assert all(gate.passed for gate in gates.values()), gates
    backbone = Denoiser.load(whole).backbone
    plan = plan_removal(backbone, LAYERWISE, KINDS, "layer")
    assert found.parameters == plan.kept < plan.params == found.whole_parameters
    pruned = Denoiser.load(found.folder)
    assert sum(p.numel() for p in pruned.backbone.parameters()) == plan.kept
    index = json.loads((found.folder / "model_index.json").read_text())
    assert [index[part][0] for part in ("transformer", "unet") if part in index] == [
        "training.pruning.saving"
    ]
    assert f"{found.parameters:,}" in pruned_card(
        recipe,
        ScoringRecipe(name="random", parent="whole", method="random"),
        found,
        "",
        "test",
    )
    assert "together" in units_markdown(found)


def test_a_pruned_folder_is_analysed_as_any_other(whole: Path) -> None:
    found = cut(whole, recipe_of(sparsity=Decimal("0.5")))
    analysis = analyze(str(found.folder), runs=1)
    assert sum(cell.parameters for cell in analysis.cells) == found.parameters
    assert analysis.undisturbed_nanoseconds is not None


def test_changed_weights_and_lost_parameters_fail_their_gates(whole: Path) -> None:
    found = cut(whole, recipe_of(sparsity=Decimal("0.25")))
    (path,) = (
        p for p in found.folder.glob("*/diffusion_pytorch_model.safetensors") if p.parent.name != "vae"
    )
    tensors = load_file(path)
    name = next(name for name, value in tensors.items() if value.ndim == 2)
    tensors[name] = tensors[name] + 1
    save_file(tensors, path, metadata={"format": "pt"})
    assert not gate_of_cut(found)["reloads"].passed
    assert not gate_of_cut(Cut(**{**vars(found), "changed": [name]}))["no_weight_changed"].passed
    assert not gate_of_cut(Cut(**{**vars(found), "parameters": 1}))["parameters_as_planned"].passed


@pytest.mark.parametrize(
    ("settings", "method", "loss", "passed"),
    [
        ({"sparsity": Decimal("0.2")}, "ecodiff", -0.05, True),
        ({"sparsity": Decimal("0.2")}, "ecodiff", -0.11, True),  # its interval reaches into the margin
        ({"sparsity": Decimal("0.2")}, "ecodiff", -0.2, False),
        ({"sparsity": Decimal("0.2")}, "random", -0.2, True),  # there to be compared with
        ({"sparsity": Decimal("0.3")}, "ecodiff", -0.2, True),  # larger cuts report
        ({"sparsity": {"heads": Decimal("0.1"), "ffn": Decimal("0.3")}}, "ecodiff", -0.2, True),
        ({"thresholds": {"heads": 0.0}}, "ecodiff", -0.2, True),  # how much goes is not known before
    ],
)
def test_small_cuts_by_learned_masks_must_keep_the_score(
    settings: dict[str, object], method: str, loss: float, *, passed: bool
) -> None:
    whole = Interval(0.3, 0.29, 0.31, 0.95, 96)
    score = SmallerScore(whole, whole, Interval(loss, loss - 0.05, loss + 0.05, 0.95, 96), whole)
    scoring = ScoringRecipe.model_validate({"name": "scores", "parent": "whole", "method": method})
    assert gate_of_pruned_score(recipe_of(**settings), scoring, score).passed == passed


def test_gates_together_pass_where_each_does() -> None:
    good, bad = GateResult(True, {"a": 1}), GateResult(False, {"b": 2})
    assert GateResult.all_of([good, bad]) == GateResult(False, {"a": 1, "b": 2})
    assert GateResult.all_of(iter([good])) == good


def test_a_threshold_keeps_what_is_above_it(whole: Path) -> None:
    found = cut(whole, recipe_of(thresholds={"heads": 0.0, "ffn": 0.5}))
    for key, keep in found.keep.items():
        assert torch.equal(keep, found.scores[key] > {"heads": 0.0, "ffn": 0.5}[key[0]])


@pytest.mark.parametrize("per", ["parameter", "millisecond"])
def test_costs_change_which_units_go_but_not_how_many(whole: Path, per: str) -> None:
    plain = cut(whole, recipe_of(sparsity=Decimal("0.5")))
    costly = cut(whole, recipe_of(sparsity=Decimal("0.5"), score_per=per))
    counts = [sum(int(keep.sum()) for keep in found.keep.values()) for found in (plain, costly)]
    assert counts[0] == counts[1]


def test_scores_of_another_model_are_refused_before_anything_is_written(whole: Path) -> None:
    groups = unit_groups(Denoiser.load(whole).backbone, KINDS)
    wrong = {group.key: torch.zeros(group.num_units + 1) for group in groups}
    write_scores(whole.parent / "scores" / SCORES_FILE, wrong)
    with pytest.raises(FoundryError, match="write the scores of this backbone"):
        cut(whole, recipe_of(sparsity=Decimal("0.5")))
    assert not (whole.parent / "pruned").exists()


def test_a_cut_that_empties_a_kind_is_refused(whole: Path) -> None:
    with pytest.raises(FoundryError, match="keeping 0.001 of"):
        cut(whole, recipe_of(sparsity=Decimal("0.999")))
    assert not (whole.parent / "pruned").exists()
