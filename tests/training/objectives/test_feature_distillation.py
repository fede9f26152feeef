"""Feature distillation: the three losses against their definition, a teacher left alone, students that stock code loads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.training.conftest import RunMaker
from training.backbones import denoise
from training.conditioning import Condition
from training.diffusion.few_step_schedulers import is_few_step
from training.distillation import build_student
from training.errors import FoundryError, TrainingStopped
from training.model_folders.denoiser import Denoiser, sample
from training.model_folders.parents import load_backbone
from training.model_folders.probe import reload_equals_saved
from training.objectives.feature_distillation import FeatureDistillationObjective
from training.randomness import SampleOrder
from training.recipes.feature_distillation import StudentOptions
from training.recipes.files import load_recipe
from training.run import run

SMALL = {"down": [0], "up": [0, 2], "depth": [1, 2]}


def with_teacher(runs: RunMaker, backbone: str = "SDXL-tiny", **recipe: Any) -> RunMaker:
    settings = {"name": "teacher", "backbone": backbone, "images_total": 8, **recipe}
    folder = runs.prepare("parents", **settings)
    run(folder.path)
    runs.parent = folder.model
    return runs


def student(kept: dict[str, Any], **options: Any) -> dict[str, Any]:
    return {
        "name": "student",
        "objective": "feature_distillation",
        "parent": "teacher",
        "backbone": None,
        "feature_distillation": {"student": kept, **options},
    }


def objective(runs: RunMaker, kept: dict[str, Any], **options: Any) -> FeatureDistillationObjective:
    return FeatureDistillationObjective(runs.spec(**student(kept, **options)), runs.execution(), "cpu")


def first_loss(made: FeatureDistillationObjective) -> tuple[torch.Tensor, dict[str, Any]]:
    draw = SampleOrder(0, made.num_samples).draw(0, 4)
    return made.loss(made.load(draw), draw)


@pytest.mark.parametrize("backbone", ["SDXL-tiny", "PixArt-tiny"])
@pytest.mark.parametrize("prediction", ["flow", "v", "epsilon", "clean"])
def test_a_student_that_is_its_teacher_has_no_loss_but_the_task(
    runs: RunMaker, backbone: str, prediction: str
) -> None:
    made = objective(with_teacher(runs, backbone, diffusion={"prediction": prediction}), {})
    loss, scalars = first_loss(made)
    assert scalars["loss_output"] == 0
    assert scalars["loss_feature"] == 0
    assert loss == scalars["loss_task"] > 0


def reference(made: FeatureDistillationObjective, task: float, out: float, feature: float) -> torch.Tensor:
    """The losses by the paper's formulas: a forward pass a feature, hooked by hand."""
    draw = SampleOrder(0, made.num_samples).draw(0, 4)
    batch = made.load(draw)
    noise, level = torch.from_numpy(draw.normal("noise", (16, 8, 8))), made.draw_levels(draw)
    noisy = made.noising.add_noise(batch.latents, noise, level)
    arguments = (noisy, made.noising.timestep(level), batch.condition)

    def output_of(model: Any, module: str) -> torch.Tensor:
        kept: list[Any] = []
        handle = model.get_submodule(module).register_forward_hook(lambda *call: kept.append(call[2]))
        denoise(model, *arguments)
        handle.remove()
        return kept[0][0] if isinstance(kept[0], tuple) else kept[0]

    student_output = denoise(made.module, *arguments)
    with torch.no_grad():
        teacher_output = denoise(made.teacher, *arguments)
    target = made.noising.target(batch.latents, noise, level)
    total = (
        task * ((student_output - target) ** 2).mean() + out * ((student_output - teacher_output) ** 2).mean()
    )
    for pair in made.pairs:
        taught = output_of(made.teacher, pair.teacher).detach()
        total = total + feature * ((output_of(made.module, pair.student) - taught) ** 2).mean()
    return total


def test_the_loss_and_its_gradient_are_those_of_the_definition(runs: RunMaker) -> None:
    features = [
        {"kind": "SA"},
        {"kind": "LF", "stages": ["DW-1", "UP-last"]},
        {"kind": "Res", "stages": ["Mid"]},
    ]
    made = objective(
        with_teacher(runs), SMALL, task_weight=0.5, output_weight=2.0, feature_weight=3.0, features=features
    )
    loss, scalars = first_loss(made)
    groups = {key: value for key, value in scalars.items() if key.startswith("loss_feature_")}
    assert set(groups) == {
        f"loss_feature_{group}" for group in ("SA_DW-2", "SA_Mid", "SA_UP-1", "LF_DW-1", "LF_UP-2", "Res_Mid")
    }
    torch.testing.assert_close(torch.stack(list(groups.values())).sum(), scalars["loss_feature"])
    gradients = torch.autograd.grad(loss, list(made.module.parameters()), allow_unused=True)
    wanted = reference(made, 0.5, 2.0, 3.0)
    expected = torch.autograd.grad(wanted, list(made.module.parameters()), allow_unused=True)
    torch.testing.assert_close(loss, wanted)
    for found, right in zip(gradients, expected, strict=True):
        assert (found is None) == (right is None)
        if found is not None:
            torch.testing.assert_close(found, right, atol=1e-5, rtol=1e-4)
    assert all(parameter.grad is None for parameter in made.teacher.parameters())


def test_weights_switch_losses_off(runs: RunMaker) -> None:
    made = objective(with_teacher(runs), SMALL, output_weight=0.0, feature_weight=0.0)
    loss, scalars = first_loss(made)
    assert loss == scalars["loss_task"]
    assert scalars["loss_output"] > 0  # logged all the same
    assert not any(module._forward_hooks for module in made.teacher.modules())


@pytest.mark.parametrize("execution", [{"activation_checkpointing": True}, {}])
@pytest.mark.parametrize("memory", ["device", "host"])
def test_saving_memory_changes_nothing(runs: RunMaker, execution: dict[str, Any], memory: str) -> None:
    with_teacher(runs)
    losses, gradients = [], []
    for settings, place in (({}, "device"), (execution, memory)):
        spec = runs.spec(**student(SMALL, feature_memory=place))
        made = FeatureDistillationObjective(spec, runs.execution(**settings), "cpu")
        loss, _ = first_loss(made)
        loss.backward()
        losses.append(loss.detach())
        gradients.append([p.grad for p in made.module.parameters() if p.grad is not None])
    assert torch.equal(losses[0], losses[1])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_a_run_gives_a_smaller_pipeline_and_leaves_the_teacher_alone(runs: RunMaker) -> None:
    with_teacher(runs)
    assert runs.parent is not None
    path = runs.parent / "unet" / "diffusion_pytorch_model.safetensors"
    before = load_file(path)
    folder = runs.prepare(**student(SMALL), images_total=16)
    run(folder.path)
    after = load_file(path)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert reload_equals_saved(folder.model) == pytest.approx(0, abs=1e-6)
    done, teacher = folder.read_done(), Denoiser.load(runs.parent).backbone
    assert done is not None
    own = Denoiser.load(folder.model).backbone
    assert done.num_parameters == sum(p.numel() for p in own.parameters())
    assert done.num_parameters < 0.6 * sum(p.numel() for p in teacher.parameters())
    columns = set(folder.read_metrics().column_names)
    assert {"loss_task", "loss_output", "loss_feature", "loss_feature_SA_UP-1"} <= columns
    states = torch.randn(2, 12, 384, generator=torch.Generator().manual_seed(0))
    prompts = Condition(states, torch.ones(2, 12, dtype=torch.bool))
    assert sample(folder.model, prompts, [0, 1], steps=2, guidance=1.0).shape == (2, 64, 64, 3)


def test_an_interrupted_student_ends_bit_equal(runs: RunMaker) -> None:
    with_teacher(runs)
    recipe = {**student(SMALL), "images_total": 24}
    whole, broken = runs.prepare("whole", **recipe), runs.prepare("broken", **recipe)
    run(whole.path)
    asked = iter([False, False, True])
    with pytest.raises(TrainingStopped):
        run(broken.path, lambda: next(asked))
    run(broken.path)
    assert broken.read_done().model_digest == whole.read_done().model_digest  # type: ignore[union-attr]


def test_training_brings_the_student_nearer_to_its_teacher(runs: RunMaker) -> None:
    with_teacher(runs, images_total=160, learning_rate=3e-3)
    folder = runs.prepare(**student(SMALL), images_total=400, learning_rate=3e-3, ema_half_life_images=40)
    run(folder.path)
    rows = folder.read_metrics().to_pylist()
    for name in ("loss_output", "loss_feature"):
        early = sum(row[name] for row in rows[:5])
        late = sum(row[name] for row in rows[-5:])
        assert late < 0.7 * early, name


def test_a_few_step_teacher_has_few_step_students(runs: RunMaker) -> None:
    with_teacher(runs)
    few = runs.prepare(
        "few", name="few", objective="step_distillation", parent="teacher", backbone=None, images_total=8,
        step_distillation={"intervals": 4},
    )  # fmt: skip
    run(few.path)
    runs.parent = few.model
    folder = runs.prepare(**student(SMALL), images_total=8)
    run(folder.path)
    assert is_few_step(folder.model)


def test_named_students_are_checked(runs: RunMaker) -> None:
    with_teacher(runs)
    with pytest.raises(FoundryError, match=r"'backbone' is 'UNet-tiny' with .* its student 'teacher' has"):
        FeatureDistillationObjective(
            runs.spec(**{**student(SMALL), "backbone": "UNet-tiny"}), runs.execution(), "cpu"
        )
    with pytest.raises(FoundryError, match="needs parent, the model that it starts from"):
        load_recipe(
            {
                "name": "x",
                "objective": "feature_distillation",
                "images_total": 8,
                "learning_rate": 1e-3,
                "backbone": "UNet-tiny",
            }
        )
    with pytest.raises(FoundryError, match="are all 0; give one a weight"):
        runs.spec(**student({}, task_weight=0, output_weight=0, feature_weight=0))


def test_a_student_starts_at_its_teacher(runs: RunMaker) -> None:
    made = objective(with_teacher(runs), SMALL)
    teacher = load_backbone(Path(str(runs.parent)))
    expected = build_student(teacher, StudentOptions(down=(0,), up=(0, 2), depth=(1, 2))).backbone
    found = made.module.state_dict()
    assert all(torch.equal(found[name], value) for name, value in expected.state_dict().items())
