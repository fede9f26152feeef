"""``foundry prune-plan``: the published removals, folders and mask files; one sentence for a mistake."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from orchestration.command.main import app
from tests.training.pretrained_pipelines import save_pipeline
from training.backbones import blueprint
from training.errors import FoundryError
from training.model_folders.denoiser import Denoiser
from training.pruning.removal import prune
from training.pruning.units import unit_groups


def prune_plan(*arguments: str) -> dict[str, Any]:
    found = CliRunner().invoke(app, ["prune-plan", *arguments, "--json"], catch_exceptions=False)
    (row,) = json.loads(found.stdout)
    return dict(row)


def test_the_published_removal_of_sdxl() -> None:
    row = prune_plan("SDXL-stock", "--sparsity", "0.2")
    assert (row["params"], row["removed"], row["kept"]) == (2_567_463_684, 436_930_560, 2_130_533_124)
    heads, neurons = row["kinds"]
    assert (heads["kind"], heads["units"], heads["removed_units"], heads["modules"]) == (
        "heads",
        2_600,
        520,
        140,
    )
    assert neurons["unit_sparsity"] == pytest.approx(0.2)
    assert heads["removed_parameters"] + neurons["removed_parameters"] == row["removed"]
    assert len(row["layers"]) == 210
    assert sum(layer["removed_parameters"] for layer in row["layers"]) == row["removed"]
    assert row["layers"][0] == {
        "kind": "heads",
        "name": "down_blocks.1.attentions.0.transformer_blocks.0.attn1",
        "units": 10,
        "kept_units": 8,
        "removed_units": 2,
        "parameters_per_unit": 163_840,
        "removed_parameters": 327_680,
    }
    text = CliRunner().invoke(app, ["prune-plan", "SDXL-stock", "--sparsity", "0.2"]).stdout
    assert "436,930,560 removed (17.018%), 2,130,533,124 kept; 20.000% of the units" in text


def test_flux_with_every_kind_and_its_legacy_choice() -> None:
    arguments = ("FLUX.1-schnell", "--sparsity", "0.1", "--kinds", "heads,ffn,norm")
    assert prune_plan(*arguments)["removed"] == 1_255_665_008
    assert prune_plan(*arguments, "--legacy")["removed"] == 753_349_962


def test_each_kind_may_have_its_own_sparsity() -> None:
    row = prune_plan("PixArt-demo-h64-d4", "--sparsity", "heads=0.5, ffn=0")
    assert [kind["removed_units"] for kind in row["kinds"]] == [8, 0]


def test_a_global_plan_reads_a_mask_file(tmp_path: Path) -> None:
    groups = unit_groups(blueprint("PixArt-demo-h64-d4"))
    scores = {f"{g.kind}/{g.name}": torch.full((g.num_units,), float(i)) for i, g in enumerate(groups)}
    path = tmp_path / "scores.safetensors"
    save_file(scores, path)
    arguments = ("PixArt-demo-h64-d4", "--sparsity", "0.25", "--scope", "global", "--scores", str(path))
    row = prune_plan(*arguments)
    heads = [layer["kept_units"] for layer in row["layers"] if layer["kind"] == "heads"]
    assert heads == [0, 0, 2, 2, 2, 2, 2, 2]
    costly = prune_plan(*arguments, "--per-parameter")
    assert [kind["removed_units"] for kind in costly["kinds"]] == [4, 256]


def test_a_folder_may_hold_a_pruned_model(tmp_path: Path) -> None:
    folder = save_pipeline("pixart", tmp_path / "pixart")
    whole = prune_plan(str(folder), "--sparsity", "0.5")
    backbone = Denoiser.load(folder).backbone
    keep: dict[Any, torch.Tensor] = {
        group.key: torch.arange(group.num_units) % 2 == 0 for group in unit_groups(backbone)
    }
    prune(backbone, keep).save_pretrained(folder / "transformer")
    left = prune_plan(str(folder), "--sparsity", "0")
    assert left["params"] == whole["kept"]
    assert left["removed"] == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (
            ["SDXL-stok", "--sparsity", "0.2"],
            "'SDXL-stok' is no folder and no registered backbone; did you mean",
        ),
        (["SDXL-tiny", "--sparsity", "1.2"], "sparsity: 1.2 found, allowed is 0 to less than 1"),
        (["SDXL-tiny", "--sparsity", "most"], "sparsity: 'most' is no finite number"),
        (
            ["SDXL-tiny", "--sparsity", "heads=0.2"],
            "kinds are heads, ffn; write one number, or heads=0.2,ffn=0.2",
        ),
        (["SDXL-tiny", "--sparsity", "0.2"], "heads: keeping 0.8 of 1 units leaves none in any module"),
        (["SDXL-tiny", "--sparsity", "0.2", "--kinds", "head"], "kinds: 'head' found, allowed are heads"),
        (["SDXL-tiny", "--sparsity", "0.2", "--kinds", "ffn,norm"], "only FLUX has adaLN channels"),
        (["SDXL-tiny", "--sparsity", "0.2", "--scope", "block"], "scope: 'block' found"),
        (["SDXL-tiny", "--sparsity", "0.2", "--scope", "global"], "give the scores of a mask file"),
        (["SDXL-tiny", "--sparsity", "0.2", "--per-parameter"], "give --scope global with them"),
        (["SDXL-tiny", "--sparsity", "0.2", "--legacy"], "only FLUX has a legacy choice"),
        (["IF-XL-demo-c32", "--sparsity", "0.2"], "lies outside of the transformer blocks that are known"),
    ],
)
def test_a_mistake_is_told(arguments: list[str], says: str) -> None:
    found = CliRunner().invoke(app, ["prune-plan", *arguments])
    assert isinstance(found.exception, FoundryError)
    assert says in str(found.exception)


def test_a_folder_or_mask_file_that_does_not_fit_is_told(tmp_path: Path) -> None:
    found = CliRunner().invoke(app, ["prune-plan", str(tmp_path), "--sparsity", "0.2"])
    assert "holds neither transformer/ nor unet/" in str(found.exception)
    path = tmp_path / "scores.safetensors"
    save_file({"heads/conv_in": torch.zeros(1)}, path)
    command = ["prune-plan", "SDXL-tiny", "--sparsity", "0.2", "--scope", "global", "--scores", str(path)]
    found = CliRunner().invoke(app, command)
    assert isinstance(found.exception, FoundryError)
    assert "is missing, 1 numbers are needed" in str(found.exception)
