"""A step of feature distillation beside its floor: the teacher forward, the student forward and backward, the optimizer."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import torch

from training.backbones import denoise
from training.distillation import build_student
from training.loop.loop import Loop
from training.loop.optimizer import build_optimizer
from training.loop.precision import Precision
from training.measuring.devices import time_calls
from training.measuring.models import parameters_of, random_model
from training.measuring.rows import Measurement, Row, backbone_of, gib, largest_that_fits, time_and_memory
from training.measuring.steps import fixed_batch
from training.measuring.synthetic import Case, loop_of
from training.objectives.feature_distillation import FeatureDistillationObjective
from training.recipes.diffusion import DiffusionOptions
from training.recipes.execution import Execution
from training.recipes.specification import TrainingSpecification

FeatureMemory = Literal["device", "host"]
TEACHER, STUDENT = "SDXL-stock", "KOALA-1B"
KEPT = {"down": [0], "up": [0, 2], "depth": [1, 2, 6]}  # KOALA, Table 1
SMOKE_KEPT = {"down": [0], "up": [0, 2], "depth": [1, 1, 2]}
BATCH_SIZES = (4, 2, 1)


def distillation_measurements() -> dict[str, Measurement]:
    """A step with the teacher's features on the device, and with features that wait in the host's memory."""
    return {
        f"distillation.{STUDENT}": _distillation("device"),
        f"distillation.{STUDENT}.host": _distillation("host"),
    }


class TeacherInMemory(FeatureDistillationObjective):
    """The real objective, whose teacher has random weights and lies in no folder."""

    teacher_name: str

    def start(self, spec: TrainingSpecification, execution: Execution) -> tuple[DiffusionOptions, Any]:
        """The student with its teacher's weights, which predict noise."""
        teacher = random_model(self.teacher_name, execution.device, torch.float32)
        self.teacher = teacher.requires_grad_(False)
        with torch.device(execution.device):
            student = build_student(self.teacher, self.distillation.student).backbone
        options = {"prediction": "epsilon", "caption_dropout": self.distillation.caption_dropout}
        return DiffusionOptions.model_validate(options), student.train()


def _distillation(memory: FeatureMemory) -> Measurement:
    def measure(device: str, smoke: bool) -> Row:
        """The loop's own step at the largest batch that fits, and its ratio over the floor in the same call."""
        sizes = (2,) if smoke else BATCH_SIZES
        return largest_that_fits(lambda batch_size: _step(batch_size, memory, device, smoke), sizes)

    return measure


def _step(batch_size: int, memory: FeatureMemory, device: str, smoke: bool) -> Row:
    precision = "fp32" if smoke else "bf16"
    case = Case(backbone_of(TEACHER, smoke), batch_size, precision, ema=False)
    repeats = {"warmup": 0, "calls": 2} if smoke else {"warmup": 3, "calls": 10}
    with tempfile.TemporaryDirectory(prefix="foundry-measuring-") as folder:
        loop = distillation_loop(case, SMOKE_KEPT if smoke else KEPT, Path(folder), device, memory)
        timing = time_calls(loop._step, device, **repeats)
        floor = time_calls(floor_step(loop, case), device, **repeats)
        teacher = loop.objective.teacher  # type: ignore[attr-defined]
        return {
            "backbone": case.backbone if smoke else STUDENT,
            "batch_size": batch_size,
            "precision": precision,
            "feature_memory": memory,
            "parameters": parameters_of(loop.module),
            "teacher_parameters": parameters_of(teacher),
            **time_and_memory(timing),
            "images_per_second": batch_size / timing.seconds,
            "floor_milliseconds": 1e3 * floor.seconds,
            "floor_peak_gib": gib(floor.peak_bytes),
            "ratio": timing.seconds / floor.seconds,
        }


def distillation_loop(
    case: Case, student: Mapping[str, Any], folder: Path, device: str, memory: FeatureMemory = "device"
) -> Loop:
    """A loop that teaches a student cut out of the case's backbone, with default losses and features.

    ``student``: what is kept, as :class:`training.recipes.feature_distillation.StudentOptions` has it.
    """
    settings = {
        "objective": "feature_distillation",
        "parent": "teacher",
        "feature_distillation": {"student": dict(student), "feature_memory": memory},
    }
    objective = type("Taught", (TeacherInMemory,), {"teacher_name": case.backbone})
    return loop_of(case, folder, device, settings, objective)


def floor_step(loop: Loop, case: Case, *, copies: bool = False) -> Callable[[], None]:
    """The computation that no such step can do without, on the loop's own models and one batch in memory.

    ``copies``: on copies of the models instead, without the hooks that keep features, where there is memory for them.
    """
    objective: Any = loop.objective
    student, teacher, optimizer = loop.module, objective.teacher, loop.optimizer
    if copies:
        student, teacher = copy.deepcopy(student), copy.deepcopy(teacher)
        for module in (*teacher.modules(), *student.modules()):
            module._forward_hooks.clear()
        optimizer = build_optimizer(loop.recipe, student)
    precision = Precision(case.precision, loop.device_type)
    batch = fixed_batch(loop, case.batch_size)
    timestep = torch.rand(case.batch_size, device=batch.latents.device) * 999
    arguments = (batch.latents, timestep, batch.condition)

    def step() -> None:
        with precision.autocast():
            with torch.no_grad():
                wanted = denoise(teacher, *arguments)
            output = denoise(student, *arguments)
        (output.float() - wanted.float()).square().mean().backward()
        torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0, foreach=True)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step
