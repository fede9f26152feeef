"""The measurements by name. Each is small enough for one call, writes one JSON file, and says what it was measured on."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from diffusers import DiTTransformer2DModel
from torch.utils.flop_counter import FlopCounterMode

from training.backbones import denoise
from training.loop.optimizer import build_optimizer
from training.loop.precision import Precision
from training.measuring.devices import Timing, host_synchronisations, peak_flops, time_calls
from training.measuring.distilling import distillation_measurements
from training.measuring.mask_learning import mask_measurements
from training.measuring.rows import Measurement, Row, backbone_of, gib
from training.measuring.sampling import sampling_measurements
from training.measuring.steps import ExampleStep, fixed_batch
from training.measuring.synthetic import Case, build_loop
from training.planning.gpu_memory import Shares, memory_of
from training.planning.simulation import Setting
from training.recipes.files import load_recipe

STEPPED = ("SDXL-TD4_4", "SD2", "SDXL", "PixArt-h1152-d28")
NUM_STEPS = 50


def measurements() -> Mapping[str, Measurement]:
    """Every measurement by its name, in the order in which they run."""
    return {
        "mfu.DiT-XL-2": _dit_step,
        "mfu.SDXL.ours": lambda device, smoke: _loop_step("SDXL", 64, device, smoke),
        "mfu.SDXL.diffusers": lambda device, smoke: _example_step("SDXL", 64, device, smoke),
        "mfu.PixArt-h1152-d28.ours": lambda device, smoke: _loop_step("PixArt-h1152-d28", 128, device, smoke),
        "mfu.PixArt-h1152-d28.diffusers": lambda device, smoke: _example_step(
            "PixArt-h1152-d28", 128, device, smoke
        ),
        **{f"steps.{name}": _steps_of(name) for name in STEPPED},
        **sampling_measurements(),
        **distillation_measurements(),
        **mask_measurements(),
    }


def _loop_step(name: str, batch_size: int, device: str, smoke: bool) -> Row:
    """Our loop's step: images a second, model FLOPs utilisation, and how often the host waits in a step."""
    case = _case(name, batch_size, smoke)
    with _loop_folder() as folder:
        loop = build_loop(case, folder, device, {"compile": device == "cuda"})
        timing = time_calls(loop._step, device, warmup=0 if smoke else 5, calls=2 if smoke else 20)
        syncs = host_synchronisations(loop._step, device)
        flops = _loop_flops(loop, case)
    return {**_speed(case, timing, flops, device), "host_synchronisations": syncs}


def _example_step(name: str, batch_size: int, device: str, smoke: bool) -> Row:
    """The step of diffusers' example with its best choices, on the same data."""
    case = _case(name, batch_size, smoke)
    with _loop_folder() as folder:
        loop = build_loop(case, folder, device)
        flops = _loop_flops(loop, case)
        step = ExampleStep(loop, case, best=True, compile_model=device == "cuda")
        del loop
        timing = time_calls(step, device, warmup=0 if smoke else 5, calls=2 if smoke else 20)
    return _speed(case, timing, flops, device)


def _steps_of(name: str) -> Measurement:
    def measure(device: str, smoke: bool) -> Row:
        """Fifty real steps of the loop: seconds a step, and peak memory beside the planned one."""
        case = _case(name, 32, smoke)
        with _loop_folder() as folder:
            loop = build_loop(case, folder, device)
            calls = 2 if smoke else NUM_STEPS
            timing = time_calls(loop._step, device, warmup=0, calls=calls)
            flops = _loop_flops(loop, case)
            loop._close_interval()
        planned = memory_of(Setting(case.backbone, case.precision), Shares(1, "ddp", case.batch_size), 1)
        row = _speed(case, timing, flops, device) | {"num_steps": calls + 1, "loss": loop.last_row["loss"]}
        return {**row, "planned_gib": planned.total / 2**30}

    return measure


def _dit_step(device: str, smoke: bool) -> Row:
    """A step of DiT-XL/2 at 256 px (Peebles and Xie 2023): class labels in place of text, our optimiser and format."""
    batch_size = 2 if smoke else 128
    size = (
        {"num_layers": 1, "num_attention_heads": 2}
        if smoke
        else {"num_layers": 28, "num_attention_heads": 16}
    )
    model = DiTTransformer2DModel(
        attention_head_dim=72, in_channels=4, out_channels=8, sample_size=32, patch_size=2,
        num_embeds_ada_norm=1000, norm_type="ada_norm_zero", **size,
    )  # fmt: skip
    model.to(device).train()
    settings = {"name": "dit", "backbone": "PixArt-tiny", "images_total": 1, "learning_rate": 1e-4}
    optimizer = build_optimizer(load_recipe(settings), model)
    precision = Precision("bf16", device)
    forward: Any = torch.compile(model) if device == "cuda" else model
    noisy, target = (torch.randn(batch_size, 4, 32, 32, device=device) for _ in range(2))
    timestep, labels = (torch.randint(0, 1000, (batch_size,), device=device) for _ in range(2))

    def step() -> None:
        with precision.autocast():
            output = forward(noisy, timestep=timestep, class_labels=labels, return_dict=False)[0][:, :4]
        (output.float() - target).square().mean().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0, foreach=True)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        model(noisy, timestep=timestep, class_labels=labels)
    timing = time_calls(step, device, warmup=0 if smoke else 5, calls=2 if smoke else 20)
    case = Case("DiT-XL/2", batch_size, "bf16", ema=False)
    return _speed(case, timing, float(counter.get_total_flops()), device)


def _loop_flops(loop: Any, case: Case) -> float:
    """Multiplications and additions of one forward pass of a batch."""
    batch = fixed_batch(loop, case.batch_size)
    timestep = torch.full((case.batch_size,), 500.0, device=batch.latents.device)
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        denoise(loop.module, batch.latents, timestep, batch.condition)
    return float(counter.get_total_flops())


def _speed(case: Case, timing: Timing, forward_flops: float, device: str) -> Row:
    """Utilisation counts three forward passes a step, and nothing for work done twice."""
    peak = peak_flops(device)
    done = 3 * forward_flops / timing.seconds
    return {
        "backbone": case.backbone,
        "batch_size": case.batch_size,
        "precision": case.precision,
        "milliseconds": 1e3 * timing.seconds,
        "first_step_seconds": timing.first_seconds,
        "images_per_second": case.batch_size / timing.seconds,
        "tflops_per_second": done / 1e12,
        "mfu": done / peak if peak else None,
        "peak_gib": gib(timing.peak_bytes),
    }


def _case(name: str, batch_size: int, smoke: bool) -> Case:
    return Case(backbone_of(name, smoke), 2) if smoke else Case(name, batch_size, "bf16")


@contextmanager
def _loop_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="foundry-measuring-") as folder:
        yield Path(folder)
