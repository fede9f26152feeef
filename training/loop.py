"""The one training loop: it counts images, and runs every objective.

EMA, precision, accumulation, clipping, checkpoints, resume, metrics and samples are the loop's alone. A resumed
run ends bit-equal to an uninterrupted one: weights, optimiser state and average are in the checkpoint, and all
randomness is a function of (seed, purpose, epoch, sample).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext

import torch

from training.checkpoints import (
    TrainingState,
    load_checkpoint,
    optimizer_tensors,
    restore_optimizer,
    save_checkpoint,
)
from training.errors import TrainingFailed, TrainingStopped
from training.feed.order import Order
from training.metrics_log import Interval, MetricsLog
from training.objectives import LooksAhead, Objective, Ordered
from training.optimization import WeightAverage, build_optimizer, learning_rate_at, set_learning_rate
from training.randomness import Draw, SampleOrder, stream_key
from training.run_folder import Progress, RunFolder, State
from training.spec import Execution, Recipe

SECONDS_BETWEEN_WRITES = 1.0  # bound on how often progress and metrics go to disk


class Loop:
    """One run: built, resumed from its last whole checkpoint, then :meth:`train` to the end."""

    def __init__(self, folder: RunFolder, recipe: Recipe, execution: Execution, objective: Objective) -> None:
        self.folder = folder
        self.recipe = recipe
        self.execution = execution
        self.objective = objective
        self.module = objective.module.train()
        self.parameters = [parameter for parameter in self.module.parameters() if parameter.requires_grad]
        self.device_type = self.parameters[0].device.type
        self.optimizer = build_optimizer(recipe, self.module)
        half_life = recipe.ema_half_life_images
        self.average = WeightAverage(self.module, half_life) if half_life else None
        self.order = self._build_order()
        self.metrics = MetricsLog(folder.metrics)
        self.interval = Interval()
        self.images_seen = 0
        self.train_seconds = 0.0
        self.last_row: dict[str, float] = {}
        self.notes: list[str] = []
        self._resume()
        if isinstance(objective, LooksAhead):
            objective.look_ahead(self._upcoming(self._build_order(), self.images_seen))

    def train(self, should_stop: Callable[[], bool]) -> None:
        """Train to ``images_total``. Raises TrainingStopped after a checkpoint, TrainingFailed for a bad loss."""
        started = written = checkpointed = time.monotonic()
        before = self.train_seconds
        while self.images_seen < self.recipe.images_total:
            if should_stop():
                self._stop()
            previous = self.images_seen
            self._step()
            now = time.monotonic()
            self.train_seconds = before + now - started
            ended = self.images_seen >= self.recipe.images_total
            if ended or _crossed(previous, self.images_seen, self.execution.log_every_images):
                self._close_interval()
            if now - written >= SECONDS_BETWEEN_WRITES:
                self._write_progress("running")
                written = now
            if ended or self._checkpoint_due(previous, now - checkpointed):
                self._checkpoint()
                checkpointed = time.monotonic()
            if _crossed(previous, self.images_seen, self.execution.sample_every_images):
                self._write_samples()
        self._write_progress("running")

    def _step(self) -> None:
        """One optimiser step over one batch, the last one cut to end exactly at ``images_total``."""
        count = min(self.recipe.batch_size, self.recipe.images_total - self.images_seen)
        parts = self._parts(self.order, self.images_seen, count)
        set_learning_rate(self.optimizer, learning_rate_at(self.recipe, self.images_seen + count / 2))
        self._seed_torch()
        for part in parts:
            self._backward(part, count)
        limit = self.recipe.clip_norm or math.inf
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, limit, foreach=True)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.images_seen += count
        self.interval.images += count
        self.interval.add(count, {"grad_norm": norm})
        if self.average:
            self.average.update(self.images_seen, count)

    def _parts(self, order: Order, images_seen: int, count: int) -> list[Draw]:
        """What this process loads of the batch after ``images_seen``, in its order."""
        draw = order.draw(images_seen, count)
        part = math.ceil(count / self.recipe.micro_batches)
        return [draw.part(start, min(start + part, count)) for start in range(0, count, part)]

    def _upcoming(self, order: Order, images_seen: int) -> Iterator[Draw]:
        """All that this process will load from here on."""
        while images_seen < self.recipe.images_total:
            count = min(self.recipe.batch_size, self.recipe.images_total - images_seen)
            yield from self._parts(order, images_seen, count)
            images_seen += count

    def _build_order(self) -> Order:
        if isinstance(self.objective, Ordered):
            return self.objective.build_order()
        return SampleOrder(self.recipe.seed, self.objective.num_samples)

    def _seed_torch(self) -> None:
        """Seed what modules may draw themselves (dropout); torch.manual_seed asks every backend, half a ms a step."""
        seed = stream_key(self.recipe.seed, "step", self.images_seen)[0] >> 1
        torch.default_generator.manual_seed(seed)
        if self.device_type == "cuda":
            torch.cuda.manual_seed(seed)

    def _backward(self, draw: Draw, batch_images: int) -> None:
        images = len(draw.rows)
        with self._precision():
            loss, scalars = self.objective.loss(self.objective.load(draw), draw)
        (loss * (images / batch_images)).backward()
        self.interval.add(images, {"loss": loss.detach(), **scalars})

    def _precision(self) -> AbstractContextManager[object]:
        if self.recipe.precision == "bf16":
            return torch.autocast(self.device_type, dtype=torch.bfloat16)
        return nullcontext()

    def _close_interval(self) -> None:
        """Make a row of the batches since the last one. Raises TrainingFailed when loss or gradient is not finite."""
        if not self.interval.images:
            return
        row = self.interval.row()
        for name in ("loss", "grad_norm"):
            if not math.isfinite(row[name]):
                raise TrainingFailed(
                    f"{self.folder.path}: {name} is {row[name]} within {self.interval.images} images before image "
                    f"{self.images_seen}; the last checkpoint is kept. Lower learning_rate, clip_norm or check the data."
                )
        seconds = self.train_seconds
        elapsed = max(seconds - self.last_row.get("seconds", 0.0), 1e-9)
        row |= {
            "images_seen": self.images_seen,
            "epoch": self.images_seen / self.objective.num_samples,
            "learning_rate": self.optimizer.param_groups[0]["lr"],
            "images_per_second": self.interval.images / elapsed,
            "seconds": seconds,
        }
        self.metrics.add(row)
        self.last_row = row
        self.interval = Interval()

    def _checkpoint_due(self, previous: int, seconds: float) -> bool:
        by_images = _crossed(previous, self.images_seen, self.execution.checkpoint_every_images)
        return by_images or seconds >= self.execution.checkpoint_every_seconds

    def _checkpoint(self) -> None:
        self._close_interval()
        self.metrics.flush()
        tensors = {
            "model": dict(self.module.state_dict()),
            "optimizer": optimizer_tensors(self.optimizer, self.module),
        }
        if self.average:
            tensors["ema"] = self.average.tensors()
        state = TrainingState(self.images_seen, self.train_seconds, tensors)
        save_checkpoint(self.folder.checkpoints, state, self.execution.keep_checkpoints)

    def _resume(self) -> None:
        state, self.notes = load_checkpoint(self.folder.checkpoints)
        self.metrics.forget_after(state.images_seen if state else 0)
        if state is None:
            return
        self.module.load_state_dict(dict(state.tensors["model"]))
        restore_optimizer(self.optimizer, self.module, state.tensors["optimizer"])
        if self.average:
            self.average.restore(dict(state.tensors["ema"]))
        self.images_seen = state.images_seen
        self.train_seconds = state.train_seconds
        rows = self.folder.read_metrics().to_pylist()
        self.last_row = rows[-1] if rows else {}

    def _stop(self) -> None:
        self._checkpoint()
        self._write_progress("stopped")
        raise TrainingStopped(
            f"{self.folder.path}: stopped at image {self.images_seen} of {self.recipe.images_total}; "
            "launch again to go on from there."
        )

    def _write_progress(self, state: State) -> None:
        self.metrics.flush()
        speed = self.last_row.get("images_per_second")
        left = self.recipe.images_total - self.images_seen
        self.folder.write_progress(
            Progress(
                state=state,
                images_seen=self.images_seen,
                images_total=self.recipe.images_total,
                images_per_second=speed,
                loss=self.last_row.get("loss"),
                seconds_left=left / speed if speed else None,
            )
        )

    def _write_samples(self) -> None:
        self.module.eval()
        with self.average.swapped_in() if self.average else nullcontext():
            self.objective.write_samples(self.folder.samples / f"{self.images_seen:015d}.png", self.execution)
        self.module.train()


def _crossed(previous: int, now: int, every: int | None) -> bool:
    """Whether a multiple of ``every`` lies in (previous, now]."""
    return every is not None and previous // every != now // every
