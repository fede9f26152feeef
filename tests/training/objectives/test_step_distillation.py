"""Step distillation: the mathematics against closed forms, a teacher left alone, and students that stock code samples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn

from tests.training.conftest import RunMaker
from training.diffusion import consistency
from training.diffusion.noise_process import PREDICTION_TYPES, Noising
from training.digests import OUTSIDE_MODEL_DIGEST, folder_digest
from training.errors import TrainingStopped
from training.feed.conditions import alt_texts
from training.model_folders.card import usage_code
from training.model_folders.denoiser import Denoiser, sample, sample_with
from training.model_folders.probe import reload_equals_saved
from training.objectives.step_distillation import StepDistillationObjective
from training.randomness import SampleOrder
from training.run import run
from training.text_encoders import MiniLMEncoder

PREDICTIONS = ["flow", "clean", "epsilon", "v"]
WEIGHTS = "transformer/diffusion_pytorch_model.safetensors"


def with_teacher(runs: RunMaker, backbone: str = "PixArt-tiny", prediction: str = "clean") -> RunMaker:
    folder = runs.prepare(
        "parents", name="teacher", backbone=backbone, images_total=8, diffusion={"prediction": prediction}
    )
    run(folder.path)
    runs.parent = folder.model
    return runs


def student(**options: Any) -> dict[str, Any]:
    return {
        "name": "student",
        "objective": "step_distillation",
        "parent": "teacher",
        "backbone": None,
        "step_distillation": {"intervals": 4, **options},
    }


def objective(runs: RunMaker, **options: Any) -> StepDistillationObjective:
    return StepDistillationObjective(runs.spec(**student(**options)), runs.execution(), "cpu")


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_the_boundary_condition(prediction: str) -> None:
    torch.manual_seed(0)
    noising, x, output = Noising(prediction), torch.randn(4, 2, 3, 3), torch.randn(4, 2, 3, 3)
    assert torch.equal(consistency.consistency_function(noising, x, output, torch.zeros(4)), x)
    level = consistency.level_of_interval(noising, torch.tensor([1, 2, 25, 50]), 50)
    found = consistency.consistency_function(noising, x, output, level)
    torch.testing.assert_close(found, noising.clean(x, output, level), atol=2e-4, rtol=2e-4)


def test_the_grid_is_the_schedulers() -> None:
    index = torch.arange(51)
    ddpm = consistency.level_of_interval(Noising("epsilon"), index, 50)
    assert Noising("epsilon").timestep(ddpm)[1:].tolist() == [20 * n - 1 for n in range(1, 51)]
    assert ddpm[0] == 0
    assert consistency.level_of_interval(Noising("flow"), index, 50).tolist() == pytest.approx(
        [n / 50 for n in range(51)]
    )


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_a_step_of_the_ode_agrees_with_a_stock_solver(prediction: str) -> None:
    torch.manual_seed(0)
    noising, x, output = Noising(prediction), torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    level, lower = (consistency.level_of_interval(noising, torch.full((2,), n), 20) for n in (12, 11))
    ours = consistency.ode_step(noising, x, noising.clean(x, output, level), level, lower)
    if noising.is_flow_path:
        velocity = output if prediction == "flow" else (x - output) / 0.6
        expected = x - 0.05 * velocity
    else:
        ddim = DDIMScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            prediction_type=PREDICTION_TYPES[prediction],
            clip_sample=False,
            timestep_spacing="trailing",
        )
        ddim.set_timesteps(20)
        expected = ddim.step(output, 599, x).prev_sample
    torch.testing.assert_close(ours, expected, atol=2e-4, rtol=2e-4)


class GaussianTeacher(nn.Module):
    """The best denoiser of latents that are standard normal: x_0 = alpha x_t / (alpha^2 + sigma^2)."""

    config = None

    def __init__(self, noising: Noising) -> None:
        super().__init__()
        self.noising = noising

    def scale(self, level: Tensor) -> Tensor:
        alpha, sigma = self.noising.coefficients(level)
        return alpha / (alpha**2 + sigma**2)

    def forward(self, noisy: Tensor, timestep: Tensor, **_: Any) -> tuple[Tensor]:
        level = timestep / 1000 if self.noising.is_flow_path else (timestep + 0.5) / 1000
        return (said(self.noising, noisy, self.scale(level) * noisy, level),)


class ScaleStudent(nn.Module):
    """One scale per grid point: f(x, t_n) = scales[n] x, which holds the exact consistency function."""

    config = None

    def __init__(self, noising: Noising, scales: Tensor) -> None:
        super().__init__()
        self.noising, self.scales = noising, nn.Parameter(scales.clone())

    def forward(self, noisy: Tensor, timestep: Tensor, **_: Any) -> tuple[Tensor]:
        index = torch.round(timestep / 1000 * (len(self.scales) - 1)).long()
        level = consistency.level_of_interval(self.noising, index, len(self.scales) - 1)
        return (said(self.noising, noisy, self.scales[index][:, None, None, None] * noisy, level),)


def said(noising: Noising, noisy: Tensor, clean: Tensor, level: Tensor) -> Tensor:
    """The output by which a network of this prediction says that ``clean`` is the clean latent."""
    alpha, sigma = noising.coefficients(level)
    noise = (noisy - alpha * clean) / sigma.clamp(min=1e-6)
    return noising.target(clean, noise, level)


def exact_scales(noising: Noising, teacher: GaussianTeacher, num_intervals: int) -> Tensor:
    """f of the teacher's own solver: a product of linear steps, from the clean end up."""
    scales, one = [1.0], torch.ones(1, 1, 1, 1)
    for n in range(1, num_intervals + 1):
        level, lower = (
            consistency.level_of_interval(noising, torch.tensor([m]), num_intervals) for m in (n, n - 1)
        )
        step = consistency.ode_step(noising, one, teacher.scale(level) * one, level, lower)
        scales.append(scales[-1] * float(step))
    return torch.tensor(scales)


def toy(
    runs: RunMaker, prediction: str, scales: Tensor | None = None, **options: Any
) -> StepDistillationObjective:
    """The real objective around the Gaussian teacher and the student of scales."""
    made = objective(with_teacher(runs, prediction=prediction), **options)
    teacher = GaussianTeacher(made.noising)
    made.teacher = teacher
    if scales is None:
        scales = exact_scales(made.noising, teacher, made.distillation.intervals)
    made.module = made.target = ScaleStudent(made.noising, scales)
    made.average = None
    return made


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_the_loss_of_the_exact_solution_is_zero(runs: RunMaker, prediction: str) -> None:
    made = toy(runs, prediction)
    draw = SampleOrder(0, made.num_samples).draw(0, 10)
    loss, _ = made.loss(made.load(draw), draw)
    assert loss.item() < 1e-6
    with torch.no_grad():
        made.module.scales.mul_(1.1)
    worse, _ = made.loss(made.load(draw), draw)
    assert worse.item() > 1e-4


def test_the_solver_tends_to_the_ode() -> None:
    """The true f of standard normal data on the flow path is x / sqrt((1 - t)^2 + t^2), which is x at t = 1."""
    noising = Noising("flow")
    errors = [abs(float(exact_scales(noising, GaussianTeacher(noising), n)[-1]) - 1.0) for n in (8, 32, 128)]
    assert errors[0] > 3 * errors[1] > 9 * errors[2]
    assert errors[2] < 0.02


def test_a_little_training_beats_the_teachers_single_step(runs: RunMaker) -> None:
    made = toy(runs, "flow", scales=torch.linspace(1.0, 0.0, 9), intervals=8)
    optimizer = torch.optim.Adam(made.module.parameters(), lr=0.05)
    order = SampleOrder(0, made.num_samples)
    for step in range(100):
        draw = order.draw(step * 10, 10)
        loss, _ = made.loss(made.load(draw), draw)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    noise = torch.randn(64, 2, 3, 3, generator=torch.Generator().manual_seed(0))
    solution = noise  # of the ODE from t = 1
    one = torch.ones(64)
    answers = {
        name: made.noising.clean(noise, network(noise, 1000 * one)[0], one)
        for name, network in (("student", made.module), ("teacher", made.teacher))
    }
    errors = {name: (answer - solution).square().mean().item() for name, answer in answers.items()}
    assert errors["student"] < 0.1 * errors["teacher"]


def test_the_teacher_stays_and_the_target_follows(runs: RunMaker) -> None:
    made = objective(with_teacher(runs), target_half_life_images=20)
    assert runs.parent is not None
    kept = load_file(runs.parent / WEIGHTS)
    optimizer = torch.optim.SGD(made.module.parameters(), lr=0.1)
    order = SampleOrder(0, made.num_samples)
    for step in range(3):
        draw = order.draw(step * 4, 4)
        loss, _ = made.loss(made.load(draw), draw)
        loss.backward()
        optimizer.step()
        made.after_step(step * 4 + 4, 4)
    teacher, target, module = (
        dict(network.named_parameters()) for network in (made.teacher, made.target, made.module)
    )
    moved = 0
    for name, value in kept.items():
        if name in teacher:
            assert torch.equal(teacher[name], value)
            assert torch.equal(target[name], made.extra_state()[name])
            moved += not torch.equal(target[name], value) and not torch.equal(target[name], module[name])
    assert moved > 10
    assert all(parameter.grad is None for parameter in made.teacher.parameters())


def test_guidance_is_built_in(runs: RunMaker) -> None:
    """Guidance 1 asks the teacher once; above it, the guided answer of the two passes is taken."""
    made = objective(with_teacher(runs), guidance_min=1.0, guidance_max=4.0)
    draw = SampleOrder(0, made.num_samples).draw(0, 6)
    batch = made.load(draw)
    assert (batch.captions >= 0).all()  # the empty text is the teacher's business
    level = torch.full((6,), 0.5)
    once, twice, thrice = (
        made.teacher_clean(batch, batch.latents, level, torch.full((6,), g)) for g in (1.0, 2.0, 3.0)
    )
    torch.testing.assert_close(thrice - once, 2 * (twice - once), atol=1e-4, rtol=1e-3)
    assert (twice - once).abs().max() > 1e-4
    scale = made._guidance(draw)
    assert 1 <= float(scale.min()) < float(scale.max()) <= 4


def test_an_interrupted_student_ends_bit_equal(runs: RunMaker) -> None:
    recipe = {**student(target_half_life_images=16), "images_total": 40, "ema_half_life_images": 8}
    with_teacher(runs)
    whole, broken = runs.prepare("whole", **recipe), runs.prepare("broken", **recipe)
    run(whole.path)
    asked = iter([False] * 6 + [True])
    with pytest.raises(TrainingStopped):
        run(broken.path, lambda: next(asked))
    checkpoint = max(broken.checkpoints.glob("[0-9]*"))
    assert (checkpoint / "objective.safetensors").is_file()
    run(broken.path)
    assert broken.read_done().model_digest == whole.read_done().model_digest  # type: ignore[union-attr]
    raw = "raw/diffusion_pytorch_model.safetensors"
    expected, found = load_file(whole.model / raw), load_file(broken.model / raw)
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_a_student_may_be_its_own_target(runs: RunMaker) -> None:
    recipe = {**student(target_half_life_images=None, huber=0.1), "images_total": 24}
    with_teacher(runs)
    folder = runs.prepare(**recipe)
    asked = iter([False, False, True])
    with pytest.raises(TrainingStopped):
        run(folder.path, lambda: next(asked))
    run(folder.path)
    assert folder.read_done() is not None


def test_samples_while_training_are_drawn_as_a_student_is(runs: RunMaker, tmp_path: Path) -> None:
    made = objective(with_teacher(runs))
    made.write_samples(tmp_path / "sheet.png", runs.execution(sample_count=2))
    drawn = np.asarray(Image.open(tmp_path / "sheet.png"))
    rows = made.rows[:2]
    prompts = alt_texts(made.shards, rows)
    denoiser = Denoiser.from_parts(made.module, runs.autoencoder, made.noising, few_step=True)
    expected = sample_with(denoiser, prompts, [0, 1], steps=4, guidance=1.0)
    assert np.array_equal(drawn, np.concatenate(list(expected), axis=1))
    plain = Denoiser.from_parts(made.module, runs.autoencoder, made.noising)
    assert not np.array_equal(expected, sample_with(plain, prompts, [0, 1], steps=4, guidance=1.0))


@pytest.mark.parametrize(
    ("backbone", "prediction"),
    [("PixArt-tiny", "clean"), ("UNet-tiny", "epsilon")],
)
@pytest.mark.filterwarnings("ignore")
def test_stock_pipelines_draw_our_samplers_pictures(runs: RunMaker, backbone: str, prediction: str) -> None:
    folder = with_teacher(runs, backbone, prediction).prepare(**student(), images_total=8)
    run(folder.path)
    assert reload_equals_saved(folder.model) == pytest.approx(0, abs=1e-6)
    assert Denoiser.load(folder.model).few_step
    code = usage_code(folder.model, "a red apple")
    assert "num_inference_steps=4" in code
    assert "guidance_scale=1.0" in code
    load, call = code.split("images = ")
    names: dict[str, Any] = {"folder": folder.model}
    exec(compile(load, "model_card", "exec"), names)
    for steps in (1, 2, 4):
        exec(compile("images = " + call.replace("steps=4", f"steps={steps}"), "model_card", "exec"), names)
        stock = np.asarray(names["images"][0]).astype(int)
        ours = sample(folder.model, MiniLMEncoder().prompts(["a red apple"]), [0], steps=steps, guidance=1.0)
        difference = np.abs(stock - ours[0].astype(int))
        assert difference.max() <= 2
        assert difference.mean() < 0.1
        assert stock.std() > 1


def test_the_parents_folder_is_read_only_to_the_student(runs: RunMaker) -> None:
    with_teacher(runs)
    assert runs.parent is not None
    before = folder_digest(runs.parent, OUTSIDE_MODEL_DIGEST)
    run(runs.prepare(**student(), images_total=8).path)
    assert folder_digest(runs.parent, OUTSIDE_MODEL_DIGEST) == before
