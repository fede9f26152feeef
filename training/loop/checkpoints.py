"""Checkpoints that are whole or not there: written beside, flushed, renamed; verified by digest when read.

A checkpoint is a folder of safetensors files, one per group of tensors and process, and ``manifest.json`` with the
sha256 of each. Every process writes the shards that it holds; where they lie in the whole tensor stands in the file's
header, in the form of torch.distributed.checkpoint's HuggingFace storage, whose reader puts them together again for
any number of processes and any strategy. Its default storage keeps a pickle (``.metadata``) and its HuggingFace
writer joins all tensors of a file in memory while holding Python's lock, which would stall the training that goes on
meanwhile. So the files are written here, tensor by tensor, hashed on the way. Reading parses JSON and raw numbers
only; nothing is ever unpickled.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader
from torch.distributed.checkpoint.state_dict_loader import load as load_shards
from torch.distributed.tensor import DTensor

from training.digests import sha256_file
from training.loop.processes import Team
from training.run_folder import sync_folder, write_text_atomic

MANIFEST = "manifest.json"
FORMAT = 2
BLOCK_BYTES = 1 << 24

_DTYPES = {
    torch.float64: "F64",
    torch.int64: "I64",
    torch.float32: "F32",
    torch.int32: "I32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


@dataclass(frozen=True)
class TrainingState:
    """All that a run needs to go on bit-equal: ``tensors`` by group (model, optimizer, ema), and counters.

    Under FSDP the tensors are DTensors, of which each process holds its shard.
    """

    images_seen: int
    train_seconds: float
    tensors: Mapping[str, Mapping[str, Tensor]]


@dataclass(frozen=True)
class Piece:
    """A tensor, or a shard that begins at ``offsets`` of one, in this process's ordinary memory."""

    name: str
    values: Tensor
    offsets: Sequence[int]


@dataclass(frozen=True)
class Part:
    """What one process writes of a checkpoint: its pieces by group, and the file each group goes to."""

    images_seen: int
    train_seconds: float
    pieces: Mapping[str, Sequence[Piece]] = field(default_factory=dict)

    def write(self, folder: Path, rank: int, size: int) -> dict[str, str]:
        """Write the files into a folder and flush them to disk; returns the sha256 of each by name."""
        folder.mkdir(parents=True, exist_ok=True)
        digests = {}
        for group, pieces in self.pieces.items():
            if not pieces:
                continue
            name = (
                f"{group}.safetensors" if size == 1 else f"{group}-{rank + 1:05d}-of-{size:05d}.safetensors"
            )
            digests[name] = _write_file(folder / name, group, pieces)
        return digests


def temporary_folder(root: Path, images_seen: int) -> Path:
    """Where a checkpoint is written before it is whole."""
    return root / f".{images_seen:015d}.tmp"


def commit(root: Path, part: Part, digests: Mapping[str, str], keep: int) -> Path:
    """Make a checkpoint of files that all processes have written; remove all but the newest ``keep``."""
    temporary = temporary_folder(root, part.images_seen)
    final = root / f"{part.images_seen:015d}"
    manifest = {
        "format": FORMAT,
        "images_seen": part.images_seen,
        "train_seconds": part.train_seconds,
        "groups": sorted(part.pieces),
        "files": dict(sorted(digests.items())),
    }
    write_text_atomic(temporary / MANIFEST, json.dumps(manifest, indent=1))
    sync_folder(temporary)
    if final.exists():  # a damaged one that was passed over
        shutil.rmtree(final)
    temporary.rename(final)
    sync_folder(root)
    for old in _checkpoints(root)[keep:]:
        shutil.rmtree(old)
    return final


def load_checkpoint(
    root: Path, like: Mapping[str, Tensor] | None = None, team: Team | None = None
) -> tuple[TrainingState | None, list[str]]:
    """The newest checkpoint that is whole, and a sentence for each damaged one passed over.

    ``like`` holds the module's tensors by name: where one is sharded, what belongs to it is loaded sharded alike,
    whoever wrote it. The lead of the team looks which one is whole, all read their parts of it.
    """
    found, passed_over = (team or Team()).lead(lambda: _newest_whole(root))
    if found is None:
        return None, passed_over
    path = root / found
    manifest = json.loads((path / MANIFEST).read_text())
    empty: dict[str, dict[str, Tensor]] = {group: {} for group in manifest["groups"]}
    tensors = empty | _read(path, like or {})
    return TrainingState(manifest["images_seen"], manifest["train_seconds"], tensors), passed_over


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
        # A moment has its parameter's shape and memory order; counters and 8-bit codes are kept as they are.
        is_moment = value.is_floating_point() and value.shape == parameter.shape
        restored = torch.empty_like(parameter).copy_(value) if is_moment else value.clone()
        optimizer.state[parameter][field] = restored.to(parameter.device)


def _write_file(path: Path, group: str, pieces: Sequence[Piece]) -> str:
    """Write one safetensors file, flushed to disk; returns its sha256. Raises OSError when the disk is full."""
    largest_first = sorted(pieces, key=lambda piece: -piece.values.element_size())  # keeps numbers aligned
    digest = hashlib.sha256()
    with path.open("wb", buffering=0) as file:
        _write(file, _header(group, largest_first), digest)
        for piece in largest_first:
            _write(file, piece.values.reshape(-1).view(torch.uint8).numpy().data, digest)
        os.fsync(file.fileno())
    return digest.hexdigest()


def _write(file: BinaryIO, data: bytes | memoryview, digest: Any) -> None:
    """Write and hash block by block; both let other threads run meanwhile."""
    view = memoryview(data)
    while len(view):
        written = file.write(view[:BLOCK_BYTES])
        digest.update(view[:written])
        view = view[written:]


def _header(group: str, pieces: Sequence[Piece]) -> bytes:
    """Length and JSON of a safetensors header, with the offsets of shards as torch's reader looks for them."""
    entries: dict[str, Any] = {}
    offsets = {}
    end = 0
    for piece in pieces:
        start, end = end, end + piece.values.numel() * piece.values.element_size()
        name = f"{group}/{piece.name}"
        entries[name] = {
            "dtype": _DTYPES[piece.values.dtype],
            "shape": list(piece.values.shape),
            "data_offsets": [start, end],
        }
        offsets[name] = {"saved_offsets": list(piece.offsets)}
    about = {"format": "pt", "DCP_VERSION": "1.0", "DCP_SHARDING_INFO": json.dumps(offsets)}
    text = json.dumps({"__metadata__": about, **entries}).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _newest_whole(root: Path) -> tuple[str | None, list[str]]:
    """Name of the newest whole checkpoint; half-written ones are removed, damaged ones told."""
    for leftover in root.glob(".*.tmp"):
        shutil.rmtree(leftover, ignore_errors=True)
    passed_over: list[str] = []
    for path in _checkpoints(root):
        fault = _fault(path)
        if fault is None:
            return path.name, passed_over
        passed_over.append(f"{path}: {fault}; passed over")
    return None, passed_over


def _fault(path: Path) -> str | None:
    """What is wrong with a checkpoint, None when it is whole."""
    try:
        manifest = json.loads((path / MANIFEST).read_text())
        files = dict(manifest["files"])
    except (OSError, ValueError, KeyError, TypeError):
        return "has no readable manifest"
    if manifest.get("format") != FORMAT:
        return f"has format {manifest.get('format', 1)}, this version reads {FORMAT}"
    for name, digest in files.items():
        if not (path / name).is_file():
            return f"lacks {name}"
        if sha256_file(path / name) != digest:
            return f"{name} is damaged"
    return None


def _read(path: Path, like: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """All tensors by group; each process reads what it needs and asks nobody."""
    reader = HuggingFaceStorageReader(str(path))
    described: Mapping[str, Any] = reader.read_metadata().state_dict_metadata
    tensors = {
        name: _room_for(name, about.size, about.properties.dtype, like) for name, about in described.items()
    }
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        load_shards(tensors, storage_reader=reader, no_dist=True)
    groups: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        group, _, own = name.partition("/")
        groups.setdefault(group, {})[own] = tensor
    return groups


def _room_for(name: str, shape: torch.Size, dtype: torch.dtype, like: Mapping[str, Tensor]) -> Tensor:
    """An empty tensor, sharded like the parameter that ``group/parameter`` or ``group/parameter|field`` belongs to."""
    own = name.partition("/")[2]
    model = like.get(own, like.get(own.rpartition("|")[0]))
    if isinstance(model, DTensor) and model.shape == shape:
        return torch.empty_like(model, dtype=dtype, requires_grad=False)
    return torch.empty(shape, dtype=dtype)


def _checkpoints(root: Path) -> list[Path]:
    """Checkpoint folders, newest first."""
    return sorted((path for path in root.glob("[0-9]*") if path.is_dir()), reverse=True)
