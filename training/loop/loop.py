"""The one training loop: it counts images, and runs every objective.

EMA, precision, accumulation, clipping, checkpoints, resume, metrics and samples are the loop's alone. A resumed
run ends bit-equal to an uninterrupted one: weights, optimiser state and average are in the checkpoint, and all
randomness is a function of (seed, purpose, epoch, sample). So is a run of several processes equal to one, to rounding:
each takes its part of every batch, and the first one alone writes.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence

import torch

from training.averages.ema import WeightAverage, build_averages, power_group
from training.averages.power_ema import write_snapshot
from training.errors import TrainingFailed, TrainingStopped
from training.feed.order import Order
from training.loop.async_checkpointing import Saver
from training.loop.checkpoints import TrainingState, load_checkpoint, optimizer_tensors, restore_optimizer
from training.loop.metrics import Interval, MetricsLog
from training.loop.optimizer import build_optimizer, learning_rate_at, rates_of, set_learning_rate
from training.loop.parallelism import distribute
from training.loop.precision import Precision, slow_format_note
from training.loop.processes import Span, Team, Wishes
from training.loop.trained_weights import restore_trained, trained_tensors
from training.objectives import HasHiddenMatrices, LooksAhead, Objective, Ordered, StatefulObjective
from training.randomness import Draw, SampleOrder, stream_key
from training.recipes.execution import Execution
from training.recipes.specification import Recipe
from training.run_folder import Progress, RunFolder, State, replace_folder

SECONDS_BETWEEN_WRITES = 1.0  # bound on how often progress and metrics go to disk
MOST_SAVING = 0.01  # share of the time that a training may stand still to save


class Loop:
    """One run: built, resumed from its last whole checkpoint, then :meth:`train` to the end."""

    def __init__(
        self,
        folder: RunFolder,
        recipe: Recipe,
        execution: Execution,
        objective: Objective,
        team: Team | None = None,
    ) -> None:
        self.folder = folder
        self.recipe = recipe
        self.execution = execution
        self.objective = objective
        self.team = team or Team()
        self.module = objective.module.train()
        self.shares = distribute(objective, execution, self.team, recipe.objective)
        self.parameters = [parameter for parameter in self.module.parameters() if parameter.requires_grad]
        self.device_type = self.parameters[0].device.type
        self.optimizer = build_optimizer(recipe, self.module, self._hidden_matrices())
        self.averages = build_averages(recipe, self.module)
        self.precision = Precision(recipe.precision, self.device_type)
        self.order = self._build_order()
        self.metrics = MetricsLog(folder.metrics)
        self.saver = Saver(
            folder.checkpoints,
            execution.keep_checkpoints,
            self.team,
            asynchronous=execution.asynchronous_saving,
        )
        self.interval = Interval()
        self.images_seen = 0
        self.train_seconds = 0.0
        self.last_row: dict[str, float] = {}
        self.notes = slow_format_note(self.precision.format, self.device_type)
        self._resume()
        if isinstance(objective, LooksAhead):
            objective.look_ahead(self._upcoming(self._build_order(), self.images_seen))

    @property
    def average(self) -> WeightAverage | None:
        """The average whose weights are the model; None where the recipe asks for none."""
        return next(iter(self.averages.values()), None)

    def _hidden_matrices(self) -> Sequence[torch.nn.Parameter]:
        options = self.recipe.optimizer
        if options.name != "muon" or not isinstance(self.objective, HasHiddenMatrices):
            return ()
        return self.objective.hidden_matrices(convolutions=options.convolutions)

    def train(self, should_stop: Callable[[], bool]) -> None:
        """Train to ``images_total``; the last checkpoint is on disk when this returns or raises TrainingStopped.

        Raises TrainingFailed for a bad loss, FoundryError when a checkpoint cannot be written.
        """
        with self.saver:
            self._train(should_stop)

    def _train(self, should_stop: Callable[[], bool]) -> None:
        started = written = checkpointed = time.monotonic()
        before = self.train_seconds
        while self.images_seen < self.recipe.images_total:
            wishes = self._consult(should_stop, time.monotonic() - checkpointed)
            previous = self.images_seen
            self._step()
            self._keep_weights(previous)
            now = time.monotonic()
            self.train_seconds = before + now - started
            ended = self.images_seen >= self.recipe.images_total
            if ended or _crossed(previous, self.images_seen, self.execution.log_every_images):
                self._close_interval()
            if now - written >= SECONDS_BETWEEN_WRITES:
                self._write_progress("running")
                written = now
            by_images = _crossed(previous, self.images_seen, self.execution.checkpoint_every_images)
            if ended or wishes.save or by_images:
                self._checkpoint(at_once=ended)
                checkpointed = time.monotonic()
            if _crossed(previous, self.images_seen, self.execution.sample_every_images):
                self._write_samples()
        self._write_progress("running")

    def _consult(self, should_stop: Callable[[], bool], seconds: float) -> Wishes:
        """What all processes do at this moment, ``seconds`` after the last checkpoint; stops when one has to."""
        least = max(self.execution.checkpoint_every_seconds, self.saver.stall_seconds / MOST_SAVING)
        due = seconds >= least and not self.saver.is_writing
        wishes = self.team.consult(Wishes(should_stop(), due, self.saver.has_failed))
        if wishes.failed:
            self.saver.finish()
        if wishes.stop:
            self._stop()
        return wishes

    def _step(self) -> None:
        """One optimiser step over one batch, the last one cut to end exactly at ``images_total``."""
        count = min(self.recipe.batch_size, self.recipe.images_total - self.images_seen)
        spans, parts = self._parts(self.order, self.images_seen, count)
        set_learning_rate(self.optimizer, learning_rate_at(self.recipe, self.images_seen + count / 2))
        self._seed_torch()
        for part, span in zip(parts, spans, strict=True):
            with self.shares.passing(last=span is spans[-1]), self.precision.attention():
                self._backward(part, span, count)
        self.precision.unscale(self.optimizer)
        norm = self.shares.clip(self.parameters, self.recipe.clip_norm or math.inf)
        self.precision.step(self.optimizer)
        self.optimizer.zero_grad(set_to_none=True)
        self.images_seen += count
        if self.team.is_lead:  # all have the same norm
            self.interval.add(count, self.precision.norm_scalars(norm))
        for average in self.averages.values():
            average.update(self.images_seen, count)
        if isinstance(self.objective, StatefulObjective):
            self.objective.after_step(self.images_seen, count)

    def _parts(self, order: Order, images_seen: int, count: int) -> tuple[Sequence[Span], list[Draw]]:
        """What this process loads of the batch after ``images_seen``, in its order."""
        draw = order.draw(images_seen, count)
        spans = self.team.spans(count, self.recipe.micro_batches)
        return spans, [draw.part(span.start, span.stop) for span in spans]

    def _upcoming(self, order: Order, images_seen: int) -> Iterator[Draw]:
        """All that this process will load from here on."""
        while images_seen < self.recipe.images_total:
            count = min(self.recipe.batch_size, self.recipe.images_total - images_seen)
            yield from self._parts(order, images_seen, count)[1]
            images_seen += count

    def _build_order(self) -> Order:
        if isinstance(self.objective, Ordered):
            return self.objective.build_order()
        return SampleOrder(self.recipe.seed, self.objective.num_samples)

    def _seed_torch(self) -> None:
        """Seed what modules may draw themselves (dropout); torch.manual_seed asks every backend, half a ms a step."""
        first, _ = self.team.share(self.recipe.batch_size)
        seed = stream_key(self.recipe.seed, "step", self.images_seen + first)[0] >> 1
        torch.default_generator.manual_seed(seed)
        if self.device_type == "cuda":
            torch.cuda.manual_seed(seed)

    def _backward(self, draw: Draw, span: Span, batch_images: int) -> None:
        with self.precision.autocast():
            loss, scalars = self.shares.loss(self.objective.load(draw), draw)
        self.precision.scaled(loss * self.shares.weight(span, batch_images)).backward()
        if span.images:
            self.interval.images += span.images
            self.interval.add(span.images, {"loss": loss.detach(), **scalars})

    def _close_interval(self) -> None:
        """Make a row of the batches since the last one. Raises TrainingFailed when loss or gradient is not finite."""
        self.interval = self.interval.total(self.team)
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
            **rates_of(self.optimizer),
            "images_per_second": self.interval.images / elapsed,
            "seconds": seconds,
        }
        if self.team.is_lead:
            self.metrics.add(row)
        self.last_row = row
        self.interval = Interval()

    def _checkpoint(self, *, at_once: bool) -> None:
        self._close_interval()
        self.metrics.flush()
        tensors = {
            "model": trained_tensors(self.module),
            "optimizer": optimizer_tensors(self.optimizer, self.module),
        }
        tensors |= {group: average.tensors() for group, average in self.averages.items()}
        tensors |= self.precision.state()
        if isinstance(self.objective, StatefulObjective):
            tensors["objective"] = self.objective.extra_state()
        state = TrainingState(self.images_seen, self.train_seconds, tensors)
        self.saver.save(state, at_once=at_once)

    def _resume(self) -> None:
        like = {**dict(self.module.named_parameters()), **dict(self.module.named_buffers())}
        state, passed_over = load_checkpoint(self.folder.checkpoints, like, self.team)
        self.notes.extend(passed_over)
        images_seen = state.images_seen if state else 0
        self.last_row = self.team.lead(lambda: self._last_row_before(images_seen))
        if state is None:
            return
        restore_trained(self.module, state.tensors["model"])
        restore_optimizer(self.optimizer, self.module, state.tensors["optimizer"])
        for group, average in self.averages.items():
            average.restore(state.tensors[group])
        self.precision.restore(state.tensors)
        if isinstance(self.objective, StatefulObjective):
            self.objective.restore_extra_state(state.tensors["objective"])
        self.images_seen = self.saver.newest = state.images_seen
        self.train_seconds = state.train_seconds

    def _last_row_before(self, images_seen: int) -> dict[str, float]:
        """Forget the metrics after so many images, which will be seen again; returns the last row that stays."""
        self.metrics.forget_after(images_seen)
        rows: list[dict[str, float]] = self.folder.read_metrics().to_pylist()
        return rows[-1] if rows else {}

    def _stop(self) -> None:
        self._checkpoint(at_once=True)
        self._write_progress("stopped")
        raise TrainingStopped(
            f"{self.folder.path}: stopped at image {self.images_seen} of {self.recipe.images_total}; "
            "launch again to go on from there."
        )

    def _write_progress(self, state: State) -> None:
        if not self.team.is_lead:
            return
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

    def _keep_weights(self, previous: int) -> None:
        """Write the snapshots and averages that are due after this step, before any checkpoint counts it."""
        if any(previous < count <= self.images_seen for count in self.execution.snapshot_images):
            self._write_snapshot()
        ended = self.images_seen >= self.recipe.images_total
        every = self.recipe.power_ema_every_images
        if every and (ended or _crossed(previous, self.images_seen, every)):
            for sigma_rel in self.recipe.power_ema_sigma_rels:
                group = power_group(sigma_rel)
                tensors = self.shares.whole(self.averages[group].tensors())
                if self.team.is_lead:
                    write_snapshot(self.folder, self.images_seen, group, sigma_rel, tensors)

    def _write_snapshot(self) -> None:
        with self.shares.presented(self.average) as is_lead:
            if is_lead:
                place = self.folder.snapshots / f"{self.images_seen:015d}"
                replace_folder(place, self.objective.export_weights)

    def _write_samples(self) -> None:
        self.module.eval()
        with self.shares.presented(self.average) as is_lead:
            if is_lead:
                place = self.folder.samples / f"{self.images_seen:015d}.png"
                self.objective.write_samples(place, self.execution)
        self.module.train()


def _crossed(previous: int, now: int, every: int | None) -> bool:
    """Whether a multiple of ``every`` lies in (previous, now]."""
    return every is not None and previous // every != now // every
