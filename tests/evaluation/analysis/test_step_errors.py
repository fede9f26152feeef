"""Errors along sampling against a loop written out, equal models, and a table and a picture of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from evaluation.analysis import step_errors as module
from evaluation.analysis.step_errors import StepErrors, step_errors, step_errors_picture, step_errors_table
from evaluation.plots.basic import png_bytes
from evaluation.tables.scores import PRUNING_STEP_ERRORS
from tests.training.pruning.stand_ins import SCHEDULERS, FakeDenoiser, frozen, prompts_for
from training.backbones import denoise
from training.conditioning import Condition
from training.errors import FoundryError
from training.pruning import prune, unit_groups

pytestmark = pytest.mark.filterwarnings("ignore:__array:DeprecationWarning")
STEPS, SEEDS, SIZE = 4, [3, 4, 5], (8, 8)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def pair(
    name: str = "PixArt-tiny", scheduler: str = "flow DPM-Solver++ 2"
) -> tuple[FakeDenoiser, FakeDenoiser]:
    """A dense model and the same with half of its neurons."""
    dense = frozen(name, torch.float32)
    keep = {g.key: torch.arange(g.num_units) % 2 == 0 for g in unit_groups(dense, ("ffn",))}
    make = SCHEDULERS[scheduler]
    return FakeDenoiser(dense, make), FakeDenoiser(prune(dense, keep), make)


def guided(backbone: Any, prompts: Condition, latents: Tensor, timestep: Tensor, guidance: float) -> Tensor:
    """Two passes, one with the empty text."""
    count, null = len(latents), prompts.null
    assert null is not None
    empty = Condition(null.states.repeat(count, 1, 1), null.mask.repeat(count, 1))
    without, given = (denoise(backbone, latents, timestep.expand(count), texts) for texts in (empty, prompts))
    return without + guidance * (given - without)


def scaled(scheduler: Any, latents: Tensor, timestep: Tensor) -> Tensor:
    found: Tensor = scheduler.scale_model_input(latents, timestep)
    return found


def by_hand(
    dense: FakeDenoiser, pruned: FakeDenoiser, prompts: Condition, guidance: float
) -> tuple[list[float], list[list[float]], list[list[float]]]:
    """One prompt at a time: the dense path first, then the pruned one's, then what they differ in."""
    prediction, state = [], []
    for row, seed in enumerate(SEEDS):
        one, paths, outputs = prompts.part(row, row + 1), [], []
        for model in (dense, pruned):
            scheduler, generator = model.fresh_scheduler(), torch.Generator().manual_seed(seed)
            latents = torch.randn(1, 16, *SIZE, generator=generator)
            scheduler.set_timesteps(STEPS)
            latents, states = latents * scheduler.init_noise_sigma, []
            for timestep in scheduler.timesteps:
                given = scaled(scheduler, latents, timestep)
                output = guided(model.backbone, one, given, timestep, guidance)
                if model is dense:
                    outputs.append((output, guided(pruned.backbone, one, given, timestep, guidance)))
                noise = (
                    {} if "generator" not in scheduler.step.__code__.co_varnames else {"generator": generator}
                )
                latents = scheduler.step(output, timestep, latents, **noise).prev_sample
                states.append(latents)
            paths.append(states)
        prediction.append([float((p - d).square().sum() / d.square().sum()) for d, p in outputs])
        state.append([float((a - b).square().mean()) for a, b in zip(*paths, strict=True)])
    return scheduler.timesteps.tolist(), prediction, state


@pytest.mark.parametrize("scheduler", ["flow DPM-Solver++ 2", "Euler", "LCM"])
@torch.no_grad()
def test_a_loop_written_out(scheduler: str, monkeypatch: pytest.MonkeyPatch) -> None:
    dense, pruned = pair(scheduler=scheduler)
    prompts = prompts_for(dense.backbone, 3)
    monkeypatch.setattr(module, "BATCH", 2)
    found = step_errors(dense, pruned, prompts, SEEDS, STEPS, 3.0, SIZE)
    timesteps, prediction, state = by_hand(dense, pruned, prompts, 3.0)
    assert found.timesteps.tolist() == timesteps
    np.testing.assert_allclose(found.prediction, prediction, rtol=1e-3)
    np.testing.assert_allclose(found.state, state, rtol=1e-3)
    assert found.prediction.min() > 1e-5
    assert found.state.min() > 0


@pytest.mark.parametrize(
    ("name", "scheduler", "guidance"),
    [("UNet-tiny", "LCM", 1.0), ("SDXL-tiny", "Euler ancestral", 3.0), ("FLUX-tiny", "flow Euler", 3.5)],
)
def test_equal_models_do_not_differ(name: str, scheduler: str, guidance: float) -> None:
    dense = FakeDenoiser(frozen(name, torch.float32), SCHEDULERS[scheduler])
    copy = prune(dense.backbone, {}).requires_grad_(
        False
    )  # torch multiplies otherwise where weights are trainable
    same = FakeDenoiser(copy, SCHEDULERS[scheduler])
    prompts = prompts_for(dense.backbone, 3)
    found = step_errors(dense, same, prompts, SEEDS, STEPS, guidance, SIZE)
    assert found.prediction.shape == found.state.shape == (3, STEPS)
    assert not found.prediction.any()
    assert not found.state.any()
    assert png_bytes(step_errors_picture({"same": found})).startswith(b"\x89PNG")


def test_a_backbone_in_half_precision_keeps_its_latents_whole() -> None:
    dense, pruned = pair()
    for model in (dense, pruned):
        model.backbone.to(torch.bfloat16)
    found = step_errors(dense, pruned, prompts_for(dense.backbone, 3), SEEDS, 2, 3.0, SIZE)
    assert np.isfinite(found.prediction).all()
    assert found.state[:, -1].min() > 0


def errors(scale: float, prompts: int = 4) -> StepErrors:
    random = np.random.default_rng(0)
    steps = np.linspace(999.0, 50.0, 8)
    prediction = scale * np.exp(-steps / 300) * random.uniform(0.5, 1.5, (prompts, 8))
    return StepErrors(steps, prediction, prediction.cumsum(axis=1))


def test_the_table() -> None:
    table = step_errors_table("half", errors(0.1))
    assert table.schema.equals(PRUNING_STEP_ERRORS, check_metadata=True)
    rows = table.to_pylist()
    assert [row["step"] for row in rows] == list(range(1, 9))
    assert rows[0]["recipe"] == "half"
    assert rows[0]["timestep"] == 999.0
    for row, step, state in zip(rows, errors(0.1).prediction.T, errors(0.1).state.T, strict=True):
        assert row["relative_error"] == pytest.approx(step.mean())
        assert row["relative_error_low"] < row["relative_error"] < row["relative_error_high"]
        assert row["state_distance"] == pytest.approx(state.mean())


def test_the_picture_shows_every_model() -> None:
    figure = step_errors_picture({"20 %": errors(0.1), "50 %": errors(0.4), "one prompt": errors(0.2, 1)})
    left, right = figure.axes
    assert [len(axes.lines) for axes in (left, right)] == [3, 3]
    assert left.get_yscale() == "log"
    assert left.xaxis_inverted()
    assert all(axes.get_xlabel() and axes.get_ylabel() for axes in (left, right))
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["20 %", "50 %", "one prompt"]


def test_mistakes_are_told() -> None:
    dense, pruned = pair()
    prompts = prompts_for(dense.backbone, 3)
    with pytest.raises(FoundryError, match="3 prompts and 2 seeds"):
        step_errors(dense, pruned, prompts, [0, 1], 2, 1.0, SIZE)
    other = FakeDenoiser(pruned.backbone, SCHEDULERS["DPM-Solver++ 2"])
    with pytest.raises(FoundryError, match="'timesteps' is .* for the dense model"):
        step_errors(dense, other, prompts, SEEDS, 2, 1.0, SIZE)
    with torch.no_grad():
        for parameter in dense.backbone.parameters():
            parameter.zero_()
    with pytest.raises(FoundryError, match="predicts zeros for 3 of 3 prompts"):
        step_errors(dense, pruned, prompts, SEEDS, 2, 1.0, SIZE)
    with pytest.raises(FoundryError, match="found no models"):
        step_errors_picture({})
