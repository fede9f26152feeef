"""Saving while the training goes on: a step pays for copying its tensors to host memory, a thread does the rest."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from training.errors import FoundryError, write_error
from training.loop.checkpoints import Part, Piece, TrainingState, commit, temporary_folder
from training.loop.processes import Team


class Saver:
    """Writes the checkpoints of one run, at most one at a time.

    ``with Saver(...)`` waits at the end for the one that is being written. ``newest`` counts the images of the last one
    saved or resumed from, which is not saved again.
    """

    def __init__(self, root: Path, keep: int, team: Team, *, asynchronous: bool) -> None:
        self.root, self.keep, self.team, self.asynchronous = root, keep, team, asynchronous
        self._host: dict[str, Tensor] = {}
        self._thread = ThreadPoolExecutor(1, "checkpoint")
        self._saving: Future[None] | None = None
        self.newest = -1
        self.stall_seconds = 0.0

    def save(self, state: TrainingState, *, at_once: bool = False) -> None:
        """Save the state of this moment; ``at_once`` returns when it is on disk.

        How long the training stood still for it is in ``stall_seconds`` afterwards. A save that is still being written is waited for first. Raises FoundryError when one cannot be written (disk
        full); older checkpoints survive.
        """
        begun = time.monotonic()
        self.finish()
        if state.images_seen != self.newest:
            part, copied = self._stage(state)
            self._saving = self._thread.submit(self._write, part, copied)
            self.newest = state.images_seen
        if at_once or not self.asynchronous:
            self.finish()
        self.stall_seconds = time.monotonic() - begun

    def finish(self) -> None:
        """Wait for the save that is being written. Raises FoundryError when it failed."""
        saving, self._saving = self._saving, None
        if saving is not None:
            saving.result()

    @property
    def is_writing(self) -> bool:
        """Whether a save is being written."""
        return self._saving is not None and not self._saving.done()

    @property
    def has_failed(self) -> bool:
        """Whether the last save failed; :meth:`finish` then says why."""
        return self._saving is not None and self._saving.done() and self._saving.exception() is not None

    def __enter__(self) -> Saver:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.finish()
        elif self._saving is not None:  # whatever ends the run is told; the save may still succeed
            wait([self._saving])
        self._thread.shutdown()

    def _stage(self, state: TrainingState) -> tuple[Part, Callable[[], None]]:
        """Copies of the tensors that this process writes, and a function that waits until they are copied."""
        pieces: dict[str, list[Piece]] = {}
        on_accelerator = False
        for group, tensors in state.tensors.items():
            pieces[group] = []
            for name, local, offsets in self._own(tensors):
                on_accelerator |= local.is_cuda
                pieces[group].append(Piece(name, self._copy(f"{group}/{name}", local), offsets))
        if not on_accelerator:
            return Part(state.images_seen, state.train_seconds, pieces), lambda: None
        copied = torch.cuda.Event()
        copied.record()
        return Part(state.images_seen, state.train_seconds, pieces), copied.synchronize

    def _own(self, tensors: Mapping[str, Tensor]) -> list[tuple[str, Tensor, tuple[int, ...]]]:
        """Name, values and offsets of what this process writes: its shards, and its part of what all hold."""
        own: list[tuple[str, Tensor, tuple[int, ...]]] = []
        common = {}
        for name, tensor in tensors.items():
            if isinstance(tensor, DTensor):
                local = tensor.to_local().detach()
                chunks: Any = tensor.__create_chunk_list__()  # torch.distributed.checkpoint's protocol
                if local.numel():
                    own.append((name, local, tuple(chunks[0].offsets)))
            else:
                common[name] = tensor.detach()
        names = list(common)
        mine = self.team.owned([common[name].nbytes for name in names])
        return own + [
            (names[index], common[names[index]], (0,) * common[names[index]].ndim) for index in mine
        ]

    def _copy(self, key: str, values: Tensor) -> Tensor:
        """A copy in host memory that is used again for the next save."""
        host = self._host.get(key)
        if host is None or host.shape != values.shape or host.dtype != values.dtype:
            host = torch.empty(values.shape, dtype=values.dtype, pin_memory=values.is_cuda)
            self._host[key] = host
        return host.copy_(values, non_blocking=True)

    def _write(self, part: Part, copied: Callable[[], None]) -> None:
        """Write this process's files; the lead makes a checkpoint of all when every process has written."""
        copied()
        temporary = temporary_folder(self.root, part.images_seen)
        report: dict[str, Any]
        try:
            report = {"files": part.write(temporary, self.team.rank, self.team.size)}
        except OSError as error:
            report = {"error": str(write_error(self.root / f"{part.images_seen:015d}", error))}
        reports = self.team.gather_while_saving(report)
        outcome = self._conclude(part, reports) if self.team.is_lead else None
        told = self.team.gather_while_saving(outcome)[0]
        if told is not None:
            raise FoundryError(told)

    def _conclude(self, part: Part, reports: list[dict[str, Any]]) -> str | None:
        """Commit, or clear away what was written; returns the sentence that says why."""
        errors = [report["error"] for report in reports if "error" in report]
        try:
            if not errors:
                digests = {name: digest for report in reports for name, digest in report["files"].items()}
                commit(self.root, part, digests, self.keep)
        except OSError as error:
            errors = [str(write_error(self.root / f"{part.images_seen:015d}", error))]
        except FoundryError as error:
            errors = [str(error)]
        shutil.rmtree(temporary_folder(self.root, part.images_seen), ignore_errors=True)
        return errors[0] if errors else None
