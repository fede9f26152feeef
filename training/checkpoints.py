"""Checkpoints that are whole or not there: written beside, flushed, renamed; verified by digest when read."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import safetensors
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from training.digests import sha256_file
from training.errors import FoundryError
from training.run_folder import sync_folder, write_error, write_text_atomic

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class TrainingState:
    """All that a run needs to go on bit-equal: ``tensors`` by group (model, optimizer, ema), and counters."""

    images_seen: int
    train_seconds: float
    tensors: Mapping[str, Mapping[str, Tensor]]


def save_checkpoint(root: Path, state: TrainingState, keep: int) -> Path:
    """Write a checkpoint below ``root`` and remove all but the newest ``keep``.

    Raises FoundryError when it cannot be written (disk full); older checkpoints survive.
    """
    final = root / f"{state.images_seen:015d}"
    temporary = root / f".{final.name}.{os.getpid()}.tmp"
    try:
        temporary.mkdir(parents=True)
        _write_parts(temporary, state)
        if final.exists():
            shutil.rmtree(final)
        temporary.rename(final)
        sync_folder(root)
    except OSError as error:
        raise write_error(final, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    for old in _checkpoints(root)[keep:]:
        shutil.rmtree(old)
    return final


def load_checkpoint(root: Path) -> tuple[TrainingState | None, list[str]]:
    """The newest checkpoint that is whole, and a sentence for each damaged one passed over."""
    for leftover in root.glob(".*.tmp"):
        shutil.rmtree(leftover, ignore_errors=True)
    passed_over: list[str] = []
    for path in _checkpoints(root):
        fault = _fault(path)
        if fault is None:
            return _read(path), passed_over
        passed_over.append(f"{path}: {fault}; passed over")
    return None, passed_over


def optimizer_tensors(optimizer: torch.optim.Optimizer, module: nn.Module) -> dict[str, Tensor]:
    """AdamW's moments and step counts under the names of the parameters."""
    tensors = {}
    for name, parameter in module.named_parameters():
        for key, value in optimizer.state.get(parameter, {}).items():
            tensors[f"{name}|{key}"] = value
    return tensors


def restore_optimizer(
    optimizer: torch.optim.Optimizer, module: nn.Module, tensors: Mapping[str, Tensor]
) -> None:
    """Put saved moments back; the inverse of :func:`optimizer_tensors`."""
    parameters = dict(module.named_parameters())
    for key, value in tensors.items():
        name, _, field = key.rpartition("|")
        parameter = parameters[name]
        restored = value.clone() if field == "step" else torch.empty_like(parameter).copy_(value)
        optimizer.state[parameter][field] = restored.to(parameter.device)


def _write_parts(folder: Path, state: TrainingState) -> None:
    digests = {}
    for group, tensors in state.tensors.items():
        path = folder / f"{group}.safetensors"
        try:
            save_file({name: tensor.detach().contiguous().cpu() for name, tensor in tensors.items()}, path)
        except safetensors.SafetensorError as error:
            raise FoundryError(
                f"{path}: cannot be written ({error}); free disk space and launch again"
            ) from error
        with path.open("rb+") as file:
            os.fsync(file.fileno())
        digests[path.name] = sha256_file(path)
    manifest = {"images_seen": state.images_seen, "train_seconds": state.train_seconds, "files": digests}
    write_text_atomic(folder / MANIFEST, json.dumps(manifest, indent=1))
    sync_folder(folder)


def _fault(path: Path) -> str | None:
    """What is wrong with a checkpoint, None when it is whole."""
    try:
        files = json.loads((path / MANIFEST).read_text())["files"]
    except (OSError, ValueError, KeyError):
        return "has no readable manifest"
    for name, digest in files.items():
        if not (path / name).is_file():
            return f"lacks {name}"
        if sha256_file(path / name) != digest:
            return f"{name} is damaged"
    return None


def _read(path: Path) -> TrainingState:
    manifest = json.loads((path / MANIFEST).read_text())
    tensors = {name.removesuffix(".safetensors"): load_file(path / name) for name in manifest["files"]}
    return TrainingState(manifest["images_seen"], manifest["train_seconds"], tensors)


def _checkpoints(root: Path) -> list[Path]:
    """Checkpoint folders, newest first."""
    return sorted((path for path in root.glob("[0-9]*") if path.is_dir()), reverse=True)
