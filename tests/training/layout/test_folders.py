"""Branches apart from their base: what is written comes back, and a base that they do not fit is told by name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from diffusers import SD3Transformer2DModel

from tests.training.layout.tiny import MAX_BOXES, PHRASE_DIM, answer, base, placed, randomised
from training.backbones import build_backbone
from training.errors import FoundryError
from training.layout.folders import branch_parameters, freeze_base, grow_branch, load_branch, save_branch
from training.recipes.layout import Kind, LayoutOptions

DIGEST = "a" * 64


def options(kind: Kind = "siam", tokens: int = 1) -> LayoutOptions:
    return LayoutOptions(
        kind=kind, max_boxes=MAX_BOXES, phrase_dim=PHRASE_DIM, tokens_per_entity=tokens, rank=4
    )


@pytest.mark.parametrize("family", ["SD3", "FLUX"])
def test_a_branch_comes_back_on_its_base(family: str, tmp_path: Path) -> None:
    stock = base(family)
    model = randomised(grow_branch(stock, options(tokens=1 if family == "SD3" else 2))).eval()
    save_branch(model, tmp_path, DIGEST)
    size = 4 * sum(parameter.numel() for _, parameter in branch_parameters(model))
    assert size < (tmp_path / "branch.safetensors").stat().st_size < size + 20_000  # and names
    again = load_branch(base(family), tmp_path, DIGEST).eval()
    assert torch.equal(answer(again, placed(again)), answer(model, placed(model)))
    assert torch.equal(answer(again), answer(stock))


def test_a_branch_shares_the_bases_weights_and_is_trained_alone() -> None:
    stock = base()
    model = grow_branch(stock, options())
    own = dict(model.named_parameters())
    assert all(own[name].data_ptr() == given.data_ptr() for name, given in stock.named_parameters())
    freeze_base(model)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained == {name for name, _ in branch_parameters(model)} != set()
    again = dict(grow_branch(stock, options()).named_parameters())
    assert all(torch.equal(again[name], parameter) for name, parameter in own.items())


def test_another_base_is_told_by_name(tmp_path: Path) -> None:
    save_branch(grow_branch(base(), options()), tmp_path, DIGEST)
    with pytest.raises(
        FoundryError, match="was trained on the base aaaaaaaaaaaa…, this one is bbbbbbbbbbbb…"
    ):
        load_branch(base(), tmp_path, "b" * 64)
    with pytest.raises(FoundryError, match="its base has num_layers 3, this one 2"):
        load_branch(base(num_layers=2), tmp_path)
    with pytest.raises(FoundryError, match="its base has in_channels 4, this one 8"):
        load_branch(base(in_channels=8), tmp_path)
    with pytest.raises(FoundryError, match="is for a LayoutSD3Transformer2DModel|its base has in_channels"):
        load_branch(base("FLUX"), tmp_path)
    with pytest.raises(
        FoundryError, match=r"family PixArt; layout branches are there for SD, SDXL, SD3, FLUX"
    ):
        load_branch_on_any(build_backbone("PixArt-tiny", 0), tmp_path)
    with pytest.raises(FoundryError, match="a branch is grown on a stock SD3Transformer2DModel"):
        grow_branch(grow_branch(base(), options()), options())
    with pytest.raises(FoundryError, match="holds no branch.json"):
        load_branch(base(), tmp_path / "none")


def load_branch_on_any(backbone: SD3Transformer2DModel, folder: Path) -> None:
    """With nothing asked of the base but its family."""
    told = json.loads((folder / "branch.json").read_text())
    (folder / "branch.json").write_text(json.dumps({**told, "base": {}}))
    load_branch(backbone, folder)


def test_a_file_that_lacks_a_tensor_is_refused(tmp_path: Path) -> None:
    save_branch(grow_branch(base(), options()), tmp_path, DIGEST)
    told = json.loads((tmp_path / "branch.json").read_text())
    told["layout"]["box_aligned"] = True
    (tmp_path / "branch.json").write_text(json.dumps(told))
    with pytest.raises(FoundryError, match="tensor 'layout_aligned.hidden.bias' is missing"):
        load_branch(base(), tmp_path)
