"""The measuring command works whole on the smallest models, goes on where it was, and names what it does not know."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from training.backbones import blueprint, build_backbone, count_parameters
from training.distillation import student_config
from training.errors import FoundryError
from training.hardware import hardware_name
from training.measuring import __main__ as command
from training.measuring.__main__ import EXIT_UNFINISHED, main
from training.measuring.cases import measurements
from training.measuring.devices import time_calls
from training.measuring.distilling import KEPT, SMOKE_KEPT, distillation_loop, floor_step
from training.measuring.mask_learning import build_learner, whole_graph_gradients
from training.measuring.models import kept_at_random, random_model
from training.measuring.rows import largest_that_fits
from training.measuring.sampling import guided_step
from training.measuring.steps import ExampleStep, fixed_batch
from training.measuring.synthetic import Case, build_loop
from training.objectives.feature_distillation import FeatureDistillationObjective
from training.pruning import plan_of_kept, plan_removal
from training.recipes.feature_distillation import StudentOptions


@pytest.fixture(autouse=True)
def _threads() -> None:
    torch.set_num_threads(1)


SOME = (
    "steps.SD2",
    "sampling.SDXL-stock.pruned-20",
    "sampling.FLUX.1-schnell.pruned-20",
    "distillation.KOALA-1B.host",
    "masks.SDXL-stock.T=4.whole-graph",
)
"""One measurement of each kind; all of them together take half a minute."""


def test_smoke_form_measures_and_resumes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    some = ["--only", *SOME]
    assert main([str(tmp_path), "--smoke", "--minutes", "0", *some]) == EXIT_UNFINISHED
    assert "still to measure: call again" in capsys.readouterr().out
    assert main([str(tmp_path), "--smoke", *some]) == 0
    results = {path.name: json.loads(path.read_text()) for path in tmp_path.glob("smoke.*.json")}
    assert {row["name"] for row in results.values()} == set(SOME)
    assert all(row["milliseconds"] > 0 for row in results.values())
    _check_pruned(results["smoke.sampling.SDXL-stock.pruned-20.json"], "UNet-demo-c48-l2", 0.2)
    _check_pruned(results["smoke.sampling.FLUX.1-schnell.pruned-20.json"], "FLUX-demo-h64-d2-s4", 0.2)
    taught = results["smoke.distillation.KOALA-1B.host.json"]
    assert taught["ratio"] == pytest.approx(taught["milliseconds"] / taught["floor_milliseconds"])
    whole = results["smoke.masks.SDXL-stock.T=4.whole-graph.json"]
    assert whole["ratio"] == pytest.approx(whole["checkpointed_milliseconds"] / whole["milliseconds"])
    assert {row["device"] for row in results.values()} == {hardware_name("cpu", torch.get_num_threads())}
    written = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert main([str(tmp_path), "--smoke", *some]) == 0
    assert written == {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}


@pytest.mark.slow
def test_smoke_form_measures_everything(tmp_path: Path) -> None:
    assert main([str(tmp_path), "--smoke"]) == 0
    names = {json.loads(path.read_text())["name"] for path in tmp_path.glob("smoke.*.json")}
    assert names == set(measurements())


def _check_pruned(row: dict[str, Any], backbone: str, sparsity: float) -> None:
    plan = plan_removal(blueprint(backbone), sparsity)
    assert (row["dense"]["parameters"], row["parameters"]) == (plan.params, plan.kept)
    assert row["unit_sparsity"] == sparsity
    assert row["parameter_share"] == pytest.approx(plan.kept / plan.params)
    assert row["parameter_ratio"] == pytest.approx(plan.params / plan.kept)
    assert row["speedup"] == pytest.approx(row["dense"]["milliseconds"] / row["milliseconds"])


@pytest.mark.parametrize(
    ("name", "percent", "left"),
    [
        ("SDXL-stock", 10, 2_348_998_404),
        ("SDXL-stock", 20, 2_130_533_124),
        ("FLUX.1-schnell", 20, 10_145_409_160),
    ],
)
def test_models_are_pruned_to_the_published_counts(name: str, percent: int, left: int) -> None:
    backbone = blueprint(name)
    assert plan_of_kept(backbone, kept_at_random(backbone, percent)).kept == left


def test_what_does_not_fit_is_told_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_device: str, _smoke: bool) -> dict[str, Any]:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 90 GiB\nmore")

    monkeypatch.setattr(command, "measurements", lambda: {"masks.whole-graph": fails})
    assert main([str(tmp_path), "--smoke"]) == 0
    row = json.loads((tmp_path / "smoke.masks.whole-graph.json").read_text())
    assert row["name"] == "masks.whole-graph"
    assert row["error"] == "does not fit: CUDA out of memory. Tried to allocate 90 GiB"


def test_largest_batch_that_fits() -> None:
    tried: list[int] = []

    def measure(batch_size: int) -> dict[str, Any]:
        tried.append(batch_size)
        if batch_size > 1:
            raise torch.OutOfMemoryError("too large")
        return {"batch_size": batch_size}

    assert largest_that_fits(measure, (4, 2, 1)) == {"batch_size": 1}
    assert tried == [4, 2, 1]
    with pytest.raises(torch.OutOfMemoryError):
        largest_that_fits(measure, (4, 2))


@pytest.mark.parametrize(("backbone", "latents"), [("UNet-demo-c48-l2", 6), ("FLUX-demo-h64-d2-s4", 3)])
def test_guided_step_of_a_random_model(backbone: str, latents: int) -> None:
    """FLUX is asked once an image, the others with and without text; numbers stay finite in the formats measured."""
    with torch.inference_mode():
        answer = guided_step(random_model(backbone, "cpu", torch.bfloat16), 3, smoke=True)()
    assert answer.shape[0] == latents
    assert answer.dtype == torch.bfloat16
    assert bool(torch.isfinite(answer).all())
    assert float(answer.float().std()) > 0


def test_a_model_with_buffers_has_their_values() -> None:
    model, built = random_model("PixArt-tiny", "cpu", torch.float32), build_backbone("PixArt-tiny", 0)
    for (name, buffer), (_, wanted) in zip(model.named_buffers(), built.named_buffers(), strict=True):
        torch.testing.assert_close(buffer, wanted, msg=name)


def test_the_student_measured_is_koala_s() -> None:
    teacher = blueprint("SDXL-stock")
    config = student_config(teacher, StudentOptions.model_validate(KEPT))
    with torch.device("meta"):
        student = type(teacher).from_config(config)
    assert sum(parameter.numel() for parameter in student.parameters()) == count_parameters("KOALA-1B")


@pytest.mark.parametrize("memory", ["device", "host"])
def test_distillation_step_and_its_floor_train_the_student_alone(memory: Any, tmp_path: Path) -> None:
    case = Case("UNet-demo-c48-l2", 2, ema=False)
    loop = distillation_loop(case, SMOKE_KEPT, tmp_path, "cpu", memory)
    objective = loop.objective
    assert isinstance(objective, FeatureDistillationObjective)
    assert objective.distillation.feature_memory == memory
    teacher = {name: value.clone() for name, value in objective.teacher.state_dict().items()}
    for step in (loop._step, floor_step(loop, case)):
        before = [parameter.detach().clone() for parameter in loop.module.parameters()]
        step()
        changed = [not torch.equal(a, b) for a, b in zip(before, loop.module.parameters(), strict=True)]
        assert any(changed)
    torch.testing.assert_close(dict(objective.teacher.state_dict()), teacher, rtol=0, atol=0)
    loop._close_interval()
    assert math.isfinite(loop.last_row["loss_feature"])


@pytest.mark.parametrize("name", ["SDXL-stock", "FLUX.1-schnell"])
def test_the_whole_graph_has_the_gradients_of_the_checkpointed_chain(name: str) -> None:
    learner = build_learner(name, 4, "cpu", smoke=True)
    _, found = learner.distance_gradients(0, 0)
    wanted = whole_graph_gradients(learner, 0, 0)
    assert sum(float(gradient.abs().sum()) for gradient in wanted) > 0
    for own, whole in zip(found, wanted, strict=True):
        torch.testing.assert_close(own, whole, rtol=1e-4, atol=1e-7 * float(whole.abs().max()))


def test_unknown_measurement(tmp_path: Path) -> None:
    with pytest.raises(FoundryError, match=r"--only names 'mfu.SDX'; allowed are mfu.DiT"):
        main([str(tmp_path), "--only", "mfu.SDX"])


def test_it_needs_training_alone() -> None:
    code = (
        "import sys, training.measuring.__main__;"
        "print(sorted({'dagster', 'ray', 'assets', 'evaluation', 'orchestration'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_median_of_calls() -> None:
    calls: list[int] = []
    timing = time_calls(lambda: calls.append(1), "cpu", warmup=2, calls=5)
    assert len(calls) == 8
    assert timing.peak_bytes is None
    assert timing.seconds >= 0


def test_the_example_computes_our_loss(tmp_path: Path) -> None:
    case = Case("UNet-tiny", 4)
    loop = build_loop(case, tmp_path, "cpu")
    batch, draw = fixed_batch(loop, 4), loop.order.draw(0, 4)
    loss, _ = loop.objective.loss(batch, draw)
    peer = ExampleStep(loop, case, best=False)
    noise = torch.from_numpy(draw.normal("noise", batch.latents.shape[1:]))
    steps = (torch.from_numpy(draw.uniform("noise_level")) * 1000).long()
    torch.testing.assert_close(loss, peer.loss(noise, steps), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("backbone", "kept"), [("UNet-tiny", {"mid": False}), ("PixArt-demo-h64-d4", {"blocks": 2})]
)
def test_a_distillation_of_default_features(backbone: str, kept: dict[str, object], tmp_path: Path) -> None:
    loop = distillation_loop(Case(backbone, 4), kept, tmp_path, "cpu")
    before = [parameter.clone() for parameter in loop.parameters]
    loop._step()
    assert loop.images_seen == 4
    row = loop.interval.row()
    assert row["loss"] > row["loss_task"] > 0
    assert any(name.startswith("loss_feature_SA_") for name in row)
    assert any(not torch.equal(a, b) for a, b in zip(before, loop.parameters, strict=True))
