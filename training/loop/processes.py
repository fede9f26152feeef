"""The processes that train one run together, and the few words they exchange besides gradients.

Words travel as JSON over gloo groups of their own, so that they neither wait for the accelerator nor get between
the gradients; nothing is pickled.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from training.errors import FoundryError
from training.recipes.execution import Execution

SECONDS_BETWEEN_CONSULTATIONS = 0.2
MOST_STEPS_BETWEEN_CONSULTATIONS = 64
PATIENCE = timedelta(minutes=30)  # how long a process waits for the others, who may be writing samples

Json = Any


@dataclass(frozen=True)
class Wishes:
    """What a process would like to do before the next step: stop, save, or tell that a save failed."""

    stop: bool = False
    save: bool = False
    failed: bool = False


@dataclass(frozen=True)
class Span:
    """Samples ``start`` to ``stop`` of a batch for one backward pass; their loss counts as ``images`` images.

    A process without images in a pass takes one sample that counts as none, because all have to pass together.
    """

    start: int
    stop: int
    images: int


class Team:
    """Who takes part: this process's ``rank`` of ``size``. A team of one talks to nobody."""

    def __init__(
        self,
        rank: int = 0,
        size: int = 1,
        control: dist.ProcessGroup | None = None,
        saving: dist.ProcessGroup | None = None,
    ) -> None:
        self.rank, self.size = rank, size
        self.is_lead = rank == 0
        self._control, self._saving = control, saving
        self._steps_left = 0
        self._consulted, self._steps = time.monotonic(), 1

    def gather(self, value: Json) -> list[Json]:
        """What every process says, in order of rank."""
        return _gather(value, self.size, self._control)

    def gather_while_saving(self, value: Json) -> list[Json]:
        """Like :meth:`gather`, from the thread that saves: it must not get between the words of the training."""
        return _gather(value, self.size, self._saving)

    def together(self, act: Callable[[], Json]) -> list[Json]:
        """All act; returns what each found. A FoundryError of one is raised in all, the lowest rank's first."""
        if self.size == 1:
            return [act()]
        try:
            answer = {"found": act()}
        except FoundryError as error:
            answer = {"error": str(error)}
        answers = self.gather(answer)
        for each in answers:
            if "error" in each:
                raise FoundryError(each["error"])
        return [each["found"] for each in answers]

    def lead(self, act: Callable[[], Json]) -> Json:
        """The first process acts; all get what it found, or its FoundryError."""
        return self.together(lambda: act() if self.is_lead else None)[0]

    def consult(self, wishes: Wishes) -> Wishes:
        """What any process wishes, agreed on by all at the same step; asked for about five times a second."""
        if self.size == 1:
            return wishes
        self._steps_left -= 1
        if self._steps_left > 0:
            return Wishes()
        words = torch.tensor([wishes.stop, wishes.save, wishes.failed, self._next_steps()], dtype=torch.int64)
        dist.all_reduce(words, dist.ReduceOp.MAX, group=self._control)
        stop, save, failed, self._steps_left = words.tolist()
        self._steps = self._steps_left
        return Wishes(bool(stop), bool(save), bool(failed))

    def _next_steps(self) -> int:
        """Steps until the next consultation at the present pace: the first process's word counts."""
        now = time.monotonic()
        pace = (now - self._consulted) / self._steps
        self._consulted = now
        steps = int(SECONDS_BETWEEN_CONSULTATIONS / max(pace, 1e-9))
        return max(1, min(steps, MOST_STEPS_BETWEEN_CONSULTATIONS)) if self.is_lead else 0

    def spans(self, count: int, micro_batches: int) -> list[Span]:
        """This process's passes over a batch of ``count``: as many as every other process makes.

        Shares differ by at most one image; a share is cut into ``micro_batches`` parts of equal size but the last.
        """
        first, end = self.share(count)
        largest = -(-count // self.size)
        part = -(-largest // micro_batches)
        spans = []
        for offset in range(0, largest, part):
            start, stop = first + offset, min(first + offset + part, end)
            spans.append(Span(start, stop, stop - start) if start < stop else Span(0, 1, 0))
        return spans

    def share(self, count: int) -> tuple[int, int]:
        """Bounds of this process's part of ``count`` images."""
        return count * self.rank // self.size, count * (self.rank + 1) // self.size

    def owned(self, sizes: Sequence[int]) -> list[int]:
        """Indices of the equal things that this process writes for all: about the same bytes each."""
        written = [0] * self.size
        mine = []
        for index, size in enumerate(sizes):
            owner = written.index(min(written))
            written[owner] += size
            if owner == self.rank:
                mine.append(index)
        return mine


@contextmanager
def join_team(execution: Execution) -> Iterator[Team]:
    """Adopt the process group that the dispatcher made, or make one from torchrun's variables, or be alone.

    Raises FoundryError when ``world_size`` asks for more processes than there are.
    """
    made = not dist.is_initialized() and int(os.environ.get("WORLD_SIZE", "1")) > 1
    if made:
        dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    size = dist.get_world_size() if dist.is_initialized() else 1
    if execution.world_size not in (1, size):
        raise FoundryError(
            f"execution.json: 'world_size' is {execution.world_size}, but {size} process(es) came to train; start "
            f"{execution.world_size} (`python -m torch.distributed.run --nproc-per-node {execution.world_size} "
            "-m training.run RUN_FOLDER`), or set world_size to 1, which takes as many as come"
        )
    if size == 1:
        yield Team()
        return
    groups: list[Any] = [dist.new_group(backend="gloo", timeout=PATIENCE) for _ in range(2)]
    yield Team(dist.get_rank(), size, *groups)
    if made:  # not after an error: the others may never come to say goodbye
        dist.destroy_process_group()


def local_device(kind: str) -> str:
    """The accelerator of this process among those that it sees; makes it the present one."""
    if kind != "cuda" or torch.cuda.device_count() == 1:
        return kind
    index = int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count()
    torch.cuda.set_device(index)
    return f"cuda:{index}"


def is_first_of_machine() -> bool:
    """Whether this process does what needs doing once a machine."""
    return int(os.environ.get("LOCAL_RANK", "0")) == 0


def _gather(value: Json, size: int, group: dist.ProcessGroup | None) -> list[Json]:
    if size == 1:
        return [value]
    data = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)
    lengths = [torch.zeros(1, dtype=torch.int64) for _ in range(size)]
    dist.all_gather(lengths, torch.tensor([len(data)]), group=group)
    longest = max(int(length) for length in lengths)
    parts = [torch.empty(longest, dtype=torch.uint8) for _ in range(size)]
    dist.all_gather(parts, torch.nn.functional.pad(data, (0, longest - len(data))), group=group)
    return [
        json.loads(part[: int(length)].numpy().tobytes()) for part, length in zip(parts, lengths, strict=True)
    ]
