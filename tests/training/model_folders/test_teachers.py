"""Teachers that ship: what is packed comes back as a pipeline, and nothing else is taken for one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from training.backbones import build_backbone
from training.diffusion.noise_process import Noising
from training.digests import folder_digest, folder_size_bytes
from training.errors import FoundryError
from training.model_folders import teachers
from training.model_folders.export import export_pipeline
from training.model_folders.parents import load_backbone
from training.model_folders.probe import reload_equals_saved
from training.model_folders.teachers import (
    TEACHERS,
    assemble_teacher,
    content_digest,
    pack_teacher,
    read_scores,
    round_weights,
    write_digest,
)
from training.packaged_models import SHIPPED_AUTOENCODER, teacher_digests

SCORES = {"num_parameters": 1, "images_seen": 8}


@pytest.fixture
def packed(tmp_path: Path) -> tuple[Path, Path]:
    """A published pipeline with random weights, and the folder of packed teachers that holds it as ``small``."""
    model = tmp_path / "model"
    export_pipeline(model, build_backbone("PixArt-tiny", 3), SHIPPED_AUTOENCODER, Noising("clean"))
    (model / "lineage.json").write_text("[]")
    rounded = round_weights(model, tmp_path / "rounded")
    pack_teacher(rounded, tmp_path / "packed" / "small", SCORES, "# small", {teachers.SHEET: b"jpeg"})
    return model, tmp_path / "packed"


def test_a_packed_teacher_comes_back_as_a_pipeline(packed: tuple[Path, Path], tmp_path: Path) -> None:
    model, folder = packed
    assert not (folder / "small" / "vae").exists()
    assert "_name_or_path" not in json.loads((folder / "small" / "transformer" / "config.json").read_text())
    assert read_scores("small", folder) == SCORES
    back = assemble_teacher("small", SHIPPED_AUTOENCODER, tmp_path / "back", folder)
    assert reload_equals_saved(back) < 1e-6
    first, second = load_backbone(model).state_dict(), load_backbone(back).state_dict()
    assert list(first) == list(second)
    for name, value in first.items():
        assert second[name].dtype == torch.float32
        assert torch.equal(second[name], value.half().float()), name
    stored = load_file(back / "transformer" / "diffusion_pytorch_model.safetensors")
    assert {value.dtype for value in stored.values()} == {torch.float16}


def test_what_is_said_about_a_teacher_does_not_count_as_content(packed: tuple[Path, Path]) -> None:
    _, folder = packed
    digest = content_digest(folder / "small")
    (folder / "small" / "model_card.md").write_text("another card")
    assert content_digest(folder / "small") == digest
    (folder / "small" / "model_index.json").write_text("{}")
    assert content_digest(folder / "small") != digest


def test_packing_again_replaces_the_folder(packed: tuple[Path, Path], tmp_path: Path) -> None:
    _, folder = packed
    (folder / "small" / "left.over").write_text("x")
    pack_teacher(tmp_path / "rounded", folder / "small", SCORES, "# small", {teachers.SHEET: b"jpeg"})
    assert not (folder / "small" / "left.over").exists()
    assert [path.name for path in folder.iterdir()] == ["small"]


def test_an_unknown_teacher_is_named_with_those_there_are(packed: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(FoundryError, match=r"no 'smal' is among the packed.*the names are: small"):
        assemble_teacher("smal", SHIPPED_AUTOENCODER, tmp_path / "x", packed[1])


def test_another_autoencoder_is_refused(packed: tuple[Path, Path], tmp_path: Path) -> None:
    other = shutil.copytree(SHIPPED_AUTOENCODER, tmp_path / "other")
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**config, "scaling_factor": 2.0}))
    with pytest.raises(
        FoundryError, match=r"teacher 'small' paints in the latents of the shipped autoencoder"
    ):
        assemble_teacher("small", other, tmp_path / "x", packed[1])
    assert not (tmp_path / "x").exists()


def test_a_damaged_teacher_is_refused(
    packed: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(teachers, "digests_below", lambda folder: {"small": "0" * 64})
    monkeypatch.setattr(teachers, "SHIPPED", packed[1].parent)
    with pytest.raises(FoundryError, match=r"small: its digest is not 000000000000… as shipped; restore"):
        assemble_teacher("small", SHIPPED_AUTOENCODER, tmp_path / "x", packed[1])


def test_digests_are_kept_by_folder(tmp_path: Path) -> None:
    write_digest("b", "2", tmp_path)
    write_digest("teachers/a", "1", tmp_path)
    assert json.loads((tmp_path / "digests.json").read_text()) == {"b": "2", "teachers/a": "1"}


@pytest.mark.parametrize("name", sorted(teacher_digests()))
def test_a_shipped_teacher_is_whole(name: str, tmp_path: Path) -> None:
    folder = assemble_teacher(name, SHIPPED_AUTOENCODER, tmp_path / name)
    assert reload_equals_saved(folder) < 1e-4
    lineage: list[dict[str, Any]] = json.loads((folder / "lineage.json").read_text())
    assert lineage[0]["spec_hash"] == read_scores(name)["spec_hash"]
    assert {"training_shards", "autoencoder"} <= {record["version"] for record in lineage}


def test_shipped_teachers_are_three_and_small() -> None:
    assert sorted(teacher_digests()) == ["teacher-mmdit", "teacher-transformer", "teacher-unet"]
    parts = {
        part
        for name in teacher_digests()
        for part in ("unet", "transformer")
        if (TEACHERS / name / part).is_dir()
    }
    assert parts == {"unet", "transformer"}
    assert sum(folder_size_bytes(TEACHERS / name) for name in teacher_digests()) < 35e6
    assert folder_digest(TEACHERS / "teacher-unet", teachers.BESIDE) == teacher_digests()["teacher-unet"]
