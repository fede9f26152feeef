"""Where along sampling a pruned network differs from its dense one: does one mask serve all steps equally well?

Reviewers of EcoDiff (arXiv 2412.02852) doubted that a single mask fits every time step. Two curves answer: how far the
pruned network's prediction is off at each step of the *dense* model's path, which no earlier error has moved, and how
far the two models' own states have come apart by then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Float64
from numpy import ndarray
from torch import Tensor

from evaluation.intervals import Interval, mean_interval
from evaluation.tables.scores import PRUNING_STEP_ERRORS
from training.conditioning import Condition
from training.errors import FoundryError
from training.sampling.denoising_loop import Sampled, Start, denoising_steps, start_sampling

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BATCH = 16
"""Prompts that are sampled together."""


@dataclass(frozen=True)
class StepErrors:
    """Errors of a pruned model by sampling step and prompt; the first step is the one from pure noise.

    ``timesteps``: the scheduler's, at most 1000, noise first. ``prediction``: ||p - d||^2 / ||d||^2 of the guided
    predictions p (pruned) and d (dense), both for the dense model's own state x_i. ``state``: mean squared difference
    of the two models' own states x_{i+1}, which step i ends in, from the same noise x_0; the last is that of the final
    latents, which mask learning reduces (sheet, section 3).
    """

    timesteps: Float64[ndarray, " steps"]
    prediction: Float64[ndarray, "prompts steps"]
    state: Float64[ndarray, "prompts steps"]

    @property
    def relative_errors(self) -> list[Interval]:
        """Mean of ``prediction`` over prompts for each step, with its 95 % bootstrap interval."""
        return [mean_interval(step) for step in self.prediction.T]

    @property
    def state_distances(self) -> Float64[ndarray, " steps"]:
        """Mean of ``state`` over prompts for each step."""
        return self.state.mean(axis=0)


def step_errors(
    dense: Sampled,
    pruned: Sampled,
    prompts: Condition,
    seeds: Sequence[int],
    steps: int,
    guidance: float,
    latent_size: tuple[int, int] | None = None,
) -> StepErrors:
    """Sample with both models from the same noise and compare them step by step; one seed a prompt.

    Three predictions a step: the dense model's, and the pruned one's for the dense state and for its own. Arguments are
    those of :func:`training.sampling.denoising_loop.sample_latents`; a scheduler that adds noise adds the same to both.

    Raises FoundryError when seeds and prompts differ in number, the models are not sampled alike, or the dense one
    predicts nothing but zeros, of which no error can be a share.
    """
    if len(seeds) != len(prompts) or not seeds:
        raise FoundryError(
            f"step errors: {len(prompts)} prompts and {len(seeds)} seeds; give one seed a prompt, one at least"
        )
    parts = []
    for first in range(0, len(seeds), BATCH):
        some = prompts.part(first, first + BATCH), seeds[first : first + BATCH]
        starts = [_start(model, *some, steps, guidance, latent_size) for model in (dense, pruned)]
        parts.append(_compare(starts[0], starts[1]))
    timesteps = parts[0].timesteps
    prediction, state = (
        np.concatenate([getattr(p, name) for p in parts]) for name in ("prediction", "state")
    )
    return StepErrors(timesteps, prediction, state)


def _start(model: Sampled, *arguments: Any) -> Start:
    """Where sampling begins, latents in float32 at least; the backbone keeps its own precision."""
    start = start_sampling(model, *arguments)
    dtype = next(model.backbone.parameters()).dtype
    latents = start.latents.to(torch.promote_types(torch.float32, dtype))
    return Start(latents, start.predict.to(dtype), start.scheduler, start.generators)


@torch.inference_mode()
def _compare(dense: Start, pruned: Start) -> StepErrors:
    _check_alike(dense, pruned)
    num_steps = len(dense.scheduler.timesteps)
    prediction, state = [], []
    both = zip(denoising_steps(dense), denoising_steps(pruned), strict=True)
    for index, (whole, own) in enumerate(both):
        wanted = whole.output
        found = pruned.predict(whole.scaled, whole.timestep, index, num_steps)
        prediction.append(_share(_squares(found - wanted), _squares(wanted), float(whole.timestep)))
        state.append(_squares(own.latents - whole.latents) / whole.latents[0].numel())
    timesteps = dense.scheduler.timesteps.double().cpu().numpy()
    return StepErrors(timesteps, np.stack(prediction, axis=1), np.stack(state, axis=1))


def _squares(values: Tensor) -> Float64[ndarray, " prompts"]:
    return values.double().square().flatten(1).sum(dim=1).cpu().numpy()


def _share(
    error: Float64[ndarray, " prompts"], whole: Float64[ndarray, " prompts"], timestep: float
) -> Float64[ndarray, " prompts"]:
    if not (whole > 0).all():
        raise FoundryError(
            f"step errors: at timestep {timestep:g} the dense model predicts zeros for {int((whole <= 0).sum())} of "
            f"{len(whole)} prompts; an error is told as a share of its prediction, train it first"
        )
    return error / whole


def _check_alike(dense: Start, pruned: Start) -> None:
    """What one predicts must be what the other predicts, at the same steps."""
    about = [
        {
            "timesteps": start.scheduler.timesteps.tolist(),
            "prediction_type": start.scheduler.config.get("prediction_type"),
            "scheduler": type(start.scheduler).__name__,
            "latents": list(start.latents.shape),
            "classifier-free guidance": start.predict.doubled,
        }
        for start in (dense, pruned)
    ]
    for name, value in about[0].items():
        if about[1][name] != value:
            raise FoundryError(
                f"step errors: '{name}' is {value} for the dense model and {about[1][name]} for the pruned one; "
                "compare a model with the one it was pruned from, sampled alike"
            )


def step_errors_table(recipe: str, errors: StepErrors) -> pa.Table:
    """Rows of :data:`evaluation.tables.scores.PRUNING_STEP_ERRORS`, one a step; ``recipe`` names the pruned model."""
    means = errors.relative_errors
    return pa.table(
        {
            "recipe": [recipe] * len(means),
            "step": list(range(1, len(means) + 1)),
            "timestep": errors.timesteps,
            "relative_error": [mean.value for mean in means],
            "relative_error_low": [mean.low for mean in means],
            "relative_error_high": [mean.high for mean in means],
            "state_distance": errors.state_distances,
        },
        schema=PRUNING_STEP_ERRORS,
    )


def step_errors_picture(
    models: Mapping[str, StepErrors], title: str = "Error of pruning by sampling step"
) -> Figure:
    """Relative errors with their intervals, and distances of states, of several models over the timestep.

    Noise is on the left, so that sampling runs from left to right whatever the number of steps.
    Raises FoundryError for no models.
    """
    if not models:
        raise FoundryError("step errors: found no models to draw; measure at least one")
    from evaluation.plots.basic import COLORS, legend_label, row_of_axes

    figure, (left, right) = row_of_axes(9.6, 3.9, 2)
    for number, (name, errors) in enumerate(models.items()):
        color = COLORS[number % len(COLORS)]
        look: dict[str, Any] = {
            "color": color,
            "marker": "os^Dv"[number % 5],
            "markersize": 4,
            "linewidth": 1.6,
        }
        _draw_errors(left, errors, look, color)
        right.plot(errors.timesteps, errors.state_distances, **look, label=legend_label(name))
    left.set_ylabel("||pruned - dense||² / ||dense||²")
    left.set_title("prediction, on the dense model's path", loc="left", fontsize=10)
    right.set_ylabel("mean squared difference of latents")
    right.set_title("own states after the step", loc="left", fontsize=10)
    for axes in (left, right):
        axes.set_xlabel("timestep (noise left, picture right)")
        axes.invert_xaxis()
        _scale(axes)
    figure.suptitle(title, fontweight="bold")
    handles, labels = right.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(len(models), 4), frameon=False)
    return figure


def _draw_errors(axes: Axes, errors: StepErrors, look: Mapping[str, Any], color: str) -> None:
    means = errors.relative_errors
    values = [mean.value for mean in means]
    axes.plot(errors.timesteps, values, **look)
    ends = np.array([(mean.low, mean.high) for mean in means])
    if np.isfinite(ends).all():  # one prompt has no interval
        low, high = np.maximum(ends[:, 0], 0.0), ends[:, 1]
        axes.fill_between(errors.timesteps, low, high, color=color, alpha=0.15, linewidth=0)
        axes.vlines(errors.timesteps, low, high, color=color, linewidth=1)


def _scale(axes: Axes) -> None:
    """A logarithmic axis where values span more than a decade and none is zero; from zero on otherwise."""
    values = np.concatenate([np.asarray(line.get_ydata(), dtype=float) for line in axes.lines])
    if values.min() > 0 and values.max() > 10 * values.min():
        axes.set_yscale("log")
        axes.set_ylim(bottom=0.5 * float(values.min()))
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    else:
        axes.set_ylim(bottom=0)
