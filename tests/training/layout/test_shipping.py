"""Layout branches that ship: packed without their base, they come back grown on it, and on no other."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from training.backbones import build_backbone
from training.diffusion.noise_process import Noising
from training.digests import folder_digest
from training.errors import FoundryError
from training.layout import shipping
from training.layout.folders import (
    branch_parameters,
    count_parameters,
    grow_branch,
    is_of_branch,
    save_branch,
)
from training.layout.shipping import (
    Base,
    assemble_layout_model,
    base_of,
    grow_pipeline,
    pack_layout_model,
    round_branch,
)
from training.model_folders.export import export_pipeline
from training.model_folders.parents import load_backbone
from training.model_folders.probe import reload_equals_saved
from training.model_folders.teachers import BESIDE, read_scores
from training.packaged_models import SHIPPED_AUTOENCODER, layout_model_digests, teacher_digests
from training.recipes.layout import BRANCH, LayoutOptions

BASE = Base("small-teacher", "a" * 64)


@pytest.fixture
def teacher(tmp_path: Path) -> Path:
    """A pipeline folder with random weights, which a branch is for."""
    folder = tmp_path / "teacher"
    export_pipeline(folder, build_backbone("SD3-tiny", 3), SHIPPED_AUTOENCODER, Noising("clean"))
    return folder


@pytest.fixture
def packed(teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of packed layout models that holds one as ``small``, none of whose weights is zero."""
    monkeypatch.setattr(shipping, "teacher_digests", lambda: {BASE.name: BASE.digest})
    options = LayoutOptions(kind="siam", max_boxes=3, box_aligned=True, phrase_dim=384)
    model = grow_branch(load_backbone(teacher), options, seed=1)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for _, parameter in branch_parameters(model):
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / 20)
    save_branch(model, tmp_path / "branch", "the digest of the run's own parent")
    rounded = round_branch(tmp_path / "branch", BASE, tmp_path / "rounded")
    whole = grow_pipeline(rounded, teacher, BASE.digest, tmp_path / "whole")
    (whole / "lineage.json").write_text("[]")
    into = tmp_path / "packed" / "small"
    pack_layout_model(rounded, whole, into, {"images_seen": 8}, "# small", {"samples.jpg": b"jpeg"})
    return into.parent


def test_a_packed_branch_comes_back_grown_on_its_teacher(packed: Path, teacher: Path, tmp_path: Path) -> None:
    assert sorted(path.name for path in (packed / "small").iterdir()) == [
        "branch.json", "branch.safetensors", "lineage.json", "model_card.md", "probe.safetensors", "samples.jpg", "scores.json",
    ]  # fmt: skip
    assert read_scores("small", packed) == {"images_seen": 8}
    assert base_of("small", packed) == BASE.name
    back = assemble_layout_model("small", teacher, tmp_path / "back", packed)
    assert reload_equals_saved(back) < 1e-6
    found, base = load_backbone(back).state_dict(), load_backbone(teacher).state_dict()
    branch = load_file(tmp_path / "branch" / BRANCH)
    for name, value in found.items():
        wanted = branch[name].half().float() if is_of_branch(name) else base[name]
        assert torch.equal(value, wanted), name
    stored = load_file(packed / "small" / BRANCH)
    assert {value.dtype for value in stored.values()} == {torch.float16}
    assert count_parameters(packed / "small") == sum(value.numel() for value in branch.values())


def test_a_teacher_of_other_weights_is_refused(
    packed: Path, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shipping, "teacher_digests", lambda: {BASE.name: "b" * 64})
    with pytest.raises(
        FoundryError, match=r"was trained on the base aaaaaaaaaaaa…, this one is bbbbbbbbbbbb…"
    ):
        assemble_layout_model("small", teacher, tmp_path / "back", packed)


def test_an_unknown_name_is_told_with_those_there_are(packed: Path, teacher: Path, tmp_path: Path) -> None:
    with pytest.raises(FoundryError, match=r"no 'smal' is among the packed.*the names are: small"):
        assemble_layout_model("smal", teacher, tmp_path / "back", packed)


@pytest.mark.parametrize("name", sorted(layout_model_digests()))
def test_what_ships_is_small_whole_and_for_a_teacher_that_ships(name: str) -> None:
    folder = shipping.LAYOUT_MODELS / name
    assert folder_digest(folder, BESIDE) == layout_model_digests()[name]
    assert json.loads((folder / "branch.json").read_text())["base_digest"] == teacher_digests()[base_of(name)]
    assert sum(path.stat().st_size for path in folder.iterdir()) < 12e6
    assert (
        json.loads((folder / "lineage.json").read_text())[0]["spec_hash"]
        == read_scores(name, folder.parent)["spec_hash"]
    )
