"""What is saved while the training goes on is the state of one moment, whole, or told to have failed."""

from __future__ import annotations

import resource
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.training.teams import fork
from training.errors import FoundryError
from training.loop.async_checkpointing import Saver
from training.loop.checkpoints import TrainingState, load_checkpoint
from training.loop.processes import Team, join_team
from training.recipes.execution import Execution


def tensors() -> dict[str, dict[str, Tensor]]:
    """Every kind of tensor that a training keeps."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(3, 5, generator=generator)
    return {
        "model": {
            "weight": weight,
            "half": weight.bfloat16(),
            "turned": weight.T,
            "channels": torch.randn(2, 3, 4, 4, generator=generator).to(memory_format=torch.channels_last),
            "flags": weight > 0,
            "bytes": torch.arange(7, dtype=torch.uint8),
            "empty": torch.empty(0, 4),
        },
        "optimizer": {"weight|step": torch.tensor(7.0), "weight|exp_avg": weight.double()},
        "objective": {},
    }


def test_what_is_saved_is_read_again_bit_by_bit(tmp_path: Path) -> None:
    with Saver(tmp_path, 2, Team(), asynchronous=True) as saver:
        saver.save(TrainingState(8, 1.5, tensors()))
    state, notes = load_checkpoint(tmp_path)
    assert state is not None
    assert (state.images_seen, state.train_seconds, notes) == (8, 1.5, [])
    assert state.tensors.keys() == tensors().keys()
    for group, expected in tensors().items():
        assert state.tensors[group].keys() == expected.keys()
        for name, value in expected.items():
            assert state.tensors[group][name].dtype == value.dtype
            assert torch.equal(state.tensors[group][name], value), name
    plain = load_file(tmp_path / f"{8:015d}" / "model.safetensors")
    assert torch.equal(plain["model/turned"], tensors()["model"]["turned"])


def test_a_save_holds_the_moment_it_was_asked_for(tmp_path: Path) -> None:
    moving = {"model": {"weight": torch.zeros(1 << 20)}}
    with Saver(tmp_path, 3, Team(), asynchronous=True) as saver:
        for number in range(1, 6):
            moving["model"]["weight"].fill_(number)
            saver.save(TrainingState(number, 0.0, moving))
            moving["model"]["weight"].fill_(-1)
    assert sorted(int(path.name) for path in tmp_path.iterdir()) == [3, 4, 5]
    for path in tmp_path.iterdir():
        assert set(load_file(path / "model.safetensors")["model/weight"].tolist()) == {float(path.name)}


def test_a_save_that_fails_is_told_at_the_next_occasion(tmp_path: Path) -> None:
    root = tmp_path / "checkpoints"
    root.write_text("a file where the folder should be")
    saver = Saver(root, 2, Team(), asynchronous=True)
    saver.save(TrainingState(8, 0.0, tensors()))
    with pytest.raises(FoundryError, match=r"000000000000008: cannot be written"):
        saver.save(TrainingState(16, 0.0, tensors()))
    with pytest.raises(FoundryError, match=r"000000000000016: cannot be written"), saver:
        saver.save(TrainingState(16, 0.0, tensors()))


def save_with_one_full_disk(rank: int, folder: Path) -> None:
    """Two processes save twice; the second time one of them cannot write its part."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with join_team(Execution()) as team, Saver(folder, 2, team, asynchronous=True) as saver:
        saver.save(TrainingState(8, 0.0, tensors()), at_once=True)
        if rank == 1:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
        with pytest.raises(FoundryError, match="000000000000016: cannot be written"):
            saver.save(TrainingState(16, 0.0, tensors()), at_once=True)
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_all_processes_hear_that_one_could_not_save(tmp_path: Path) -> None:
    fork(save_with_one_full_disk, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ["000000000000008"]
    state, notes = load_checkpoint(tmp_path)
    assert state is not None
    assert notes == []
    assert torch.equal(state.tensors["model"]["weight"], tensors()["model"]["weight"])


def test_a_checkpoint_of_an_older_format_is_passed_over(tmp_path: Path) -> None:
    old = tmp_path / f"{8:015d}"
    old.mkdir()
    (old / "manifest.json").write_text('{"images_seen": 8, "train_seconds": 1.0, "files": {}}')
    state, notes = load_checkpoint(tmp_path)
    assert state is None
    assert notes == [f"{old}: has format 1, this version reads 2; passed over"]
