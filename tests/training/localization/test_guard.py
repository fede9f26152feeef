"""A guard holds what a run beside would have given: exact for cross-attention, a step's own for joint attention."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.training.localization.test_patching import (
    SEEDS,
    SIZE,
    STEPS,
    denoiser_of,
    drawn,
    families,
    recorded,
    target_of,
)
from tests.training.pruning.stand_ins import prompts_for
from training.backbones import denoise
from training.conditioning import Condition
from training.errors import FoundryError
from training.localization import Patched, text_layers
from training.localization.guard import guard
from training.localization.sites import KEYS_VALUES, hooked
from training.sampling.control import Watched, Window
from training.sampling.denoising_loop import start_sampling
from training.sampling.safe_guidance import Safety, sample_safely

pytestmark = pytest.mark.filterwarnings("ignore:__array:DeprecationWarning")


def middle(denoiser: Any) -> Any:
    """One or two layers, the first and the last not among them where there are others."""
    layers = text_layers(denoiser.backbone)
    return layers[len(layers) // 3 : len(layers) // 3 + 2]


class _Counted:
    """Rows that went into a module."""

    def __init__(self, module: torch.nn.Module) -> None:
        self.rows = 0
        module.register_forward_hook(self._count)

    def _count(self, module: Any, args: Any, output: Any) -> None:
        self.rows += len(output[0] if isinstance(output, tuple) else output)


@families
@pytest.mark.parametrize("start", [0.0, 0.5])
def test_cross_attention_is_guarded_as_if_the_other_run_were_there(
    name: str, scheduler: str, guidance: float, start: float
) -> None:
    denoiser = denoiser_of(name, scheduler)
    source, layers = prompts_for(denoiser.backbone, 2), middle(denoiser)
    if any(layer.is_joint for layer in layers):
        pytest.skip("joint attention: its keys depend on the picture")
    target, window = target_of(source), Window(start)
    cache = recorded(denoiser, target, guidance, layers)
    beside = drawn(denoiser, source, guidance, Patched(layers, cache, window=window))
    held = drawn(denoiser, source, guidance, guard(denoiser.backbone, source, target, layers, window=window))
    torch.testing.assert_close(held, beside, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(held, drawn(denoiser, source, guidance))


@families
def test_joint_attention_sees_the_harmless_text_beside_the_guarded_picture(
    name: str, scheduler: str, guidance: float
) -> None:
    denoiser = denoiser_of(name, scheduler)
    source, layers = prompts_for(denoiser.backbone, 2), middle(denoiser)
    if not any(layer.is_joint for layer in layers):
        pytest.skip("cross-attention")
    target = target_of(source)
    for refreshes in (1, 2, STEPS):
        held = drawn(
            denoiser, source, guidance, guard(denoiser.backbone, source, target, layers, refreshes=refreshes)
        )
        torch.testing.assert_close(
            held, _slowly(denoiser, source, target, guidance, layers, refreshes), rtol=1e-4, atol=1e-5
        )


def _slowly(
    denoiser: Any, source: Condition, target: Condition, guidance: float, layers: Any, refreshes: int
) -> Tensor:
    """The obvious way: whole passes with the harmless text at the steps that are due, then the guarded pass."""
    with torch.no_grad():
        start = start_sampling(denoiser, source, SEEDS, STEPS, guidance, SIZE)
        due = {STEPS * n // refreshes for n in range(refreshes)}
        caches: dict[Any, Tensor] = {}

        class Slow(Watched):
            def condition(self, given: Condition, step: int, num_steps: int) -> Condition:
                return given

            def around(self, backbone: Any, step: int, num_steps: int) -> Any:
                return hooked(backbone, layers, KEYS_VALUES, self._put)

            def _put(self, layer: Any, site: Any, rows: Tensor) -> Tensor:
                own = rows.clone()
                own[-len(SEEDS) :] = caches[layer.name, site]
                return own

        latents, own = start.latents, replace(start.predict, control=Slow(lambda step, count: None))
        scheduler = start.scheduler
        for step, timestep in enumerate(scheduler.timesteps):
            if step in due:

                def keep(layer: Any, site: Any, rows: Tensor) -> None:
                    caches[layer.name, site] = rows.clone()

                told = replace(target.to("cpu"), guidance=guidance, null=None)
                with hooked(denoiser.backbone, layers, KEYS_VALUES, keep):
                    denoise(denoiser.backbone, latents, timestep.expand(len(latents)), told)
            output = own(latents, timestep, step, STEPS)
            latents = scheduler.step(output, timestep, latents, return_dict=False)[0]
    return latents


@families
def test_a_guard_costs_part_of_one_pass(name: str, scheduler: str, guidance: float) -> None:
    denoiser = denoiser_of(name, scheduler)
    source, layers = prompts_for(denoiser.backbone, 2), text_layers(denoiser.backbone)
    if len(layers) < 3:
        pytest.skip("no layer before and behind")
    first, last = _Counted(layers[0].attention), _Counted(layers[-1].attention)
    drawn(denoiser, source, guidance)
    plain = first.rows
    first.rows = last.rows = 0
    drawn(denoiser, source, guidance, guard(denoiser.backbone, source, target_of(source), layers[1:2]))
    assert first.rows == plain + len(SEEDS)
    assert last.rows == plain


def test_mistakes_are_told() -> None:
    denoiser = denoiser_of("PixArt-tiny", "flow Euler")
    source, layers = prompts_for(denoiser.backbone, 2), text_layers(denoiser.backbone)
    with pytest.raises(FoundryError, match="0 layers and 1 refreshes"):
        guard(denoiser.backbone, source, source, [])
    with pytest.raises(FoundryError, match="2 sources, 1 targets"):
        guard(denoiser.backbone, source, source.part(0, 1), layers)
    longer = replace(source, mask=torch.cat([source.mask[:, :-1], ~source.mask[:, -1:]], dim=1))
    with pytest.raises(FoundryError, match="choose words of as many tokens"):
        guard(denoiser.backbone, source, longer, layers)


@families
def test_safe_guidance_of_no_strength_is_plain_sampling(name: str, scheduler: str, guidance: float) -> None:
    denoiser = denoiser_of(name, scheduler)
    source = prompts_for(denoiser.backbone, 2)
    unsafe = target_of(source)
    if guidance == 1.0 or name == "FLUX-tiny":
        with pytest.raises(FoundryError, match="extends classifier-free guidance"):
            sample_safely(denoiser, source, unsafe, SEEDS, STEPS, guidance, SIZE)
        return
    plain = drawn(denoiser, source, guidance)
    none = sample_safely(
        denoiser, source, unsafe, SEEDS, STEPS, guidance, SIZE, safety=Safety(scale=0.0, momentum_scale=0.0)
    )
    torch.testing.assert_close(none, plain, rtol=1e-3, atol=1e-4)
    led = sample_safely(denoiser, source, unsafe, SEEDS, STEPS, guidance, SIZE)
    assert not torch.allclose(led, plain, atol=1e-3)
