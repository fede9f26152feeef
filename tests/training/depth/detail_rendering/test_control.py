"""Rendering by the sampler and by a stock pipeline: nothing is kept from one call to the next, and the two draw alike."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FluxControlPipeline
from torch import Tensor, nn

from tests.training.depth.detail_rendering.test_attending import (
    BOXES,
    GLOBAL_TOKENS,
    GRID,
    MODELS,
    OWN_TOKENS,
    SIDE,
    made,
)
from tests.training.pretrained_pipelines import POOLED, TEXT, autoencoder, flux
from tests.training.pruning.stand_ins import FakeDenoiser
from training.conditioning import Condition
from training.depth.detail_rendering import (
    DetailRendering,
    Rules,
    TokenLayout,
    in_boxes,
    rendering_by,
    texts_with_instances,
)
from training.depth.detail_rendering.control import step_of
from training.errors import FoundryError
from training.sampling.denoising_loop import sample_latents

pytestmark = pytest.mark.filterwarnings("ignore:__array:DeprecationWarning")
STEPS = 5
LAYOUTS = [BOXES, [(0.0, 0.25, 1.0, 0.75)]]


def texts(rows: int, tokens: int, seed: int) -> Condition:
    random = torch.Generator().manual_seed(seed)
    pooled = torch.randn(rows, POOLED, generator=random)
    states = torch.randn(rows, tokens, TEXT, generator=random)
    return Condition(states, torch.ones(rows, tokens, dtype=torch.bool), pooled)


def rendered(
    name: str, rows: slice, seeds: list[int], guidance: float, rules: Rules, *, parts: int = 0
) -> Tensor:
    """Latents of some of the layouts; ``parts``: so many pictures at once."""
    counts = [len(boxes) for boxes in LAYOUTS]
    phrases = texts(sum(counts), OWN_TOKENS, 2)
    first = sum(counts[: rows.start])
    own = phrases.part(first, first + sum(counts[rows]))
    told = (
        texts(len(LAYOUTS), GLOBAL_TOKENS, 1)
        .part(rows.start, rows.stop)
        .with_null(texts(1, GLOBAL_TOKENS, 3))
    )
    layout = TokenLayout.of(
        [in_boxes(boxes, GRID) for boxes in LAYOUTS[rows]],
        GLOBAL_TOKENS,
        OWN_TOKENS,
        image_first=name != "FLUX",
    )
    control = DetailRendering(texts_with_instances(told, own, counts[rows]), layout, rules)
    denoiser = FakeDenoiser(made(name), FlowMatchEulerDiscreteScheduler)
    found = []
    for start in range(0, len(told), parts or len(told)):
        stop = start + (parts or len(told))
        with torch.no_grad():
            found.append(
                sample_latents(
                    denoiser, told.part(start, stop), seeds[start:stop], STEPS, guidance, (SIDE, SIDE),
                    control=control.part(start, stop),
                )
            )  # fmt: skip
    return torch.cat(found)


@pytest.mark.parametrize("name", list(MODELS))
def test_a_picture_is_rendered_alike_alone_and_among_others(name: str) -> None:
    both = rendered(name, slice(0, 2), [5, 6], 3.0, Rules(strict_steps=2))
    assert torch.isfinite(both).all()
    torch.testing.assert_close(rendered(name, slice(0, 2), [5, 6], 3.0, Rules(strict_steps=2), parts=1), both)
    torch.testing.assert_close(rendered(name, slice(1, 2), [6], 3.0, Rules(strict_steps=2)), both[1:])
    assert not torch.allclose(rendered(name, slice(0, 2), [5, 6], 3.0, Rules.named([])), both, atol=1e-3)


def pipeline() -> FluxControlPipeline:
    torch.manual_seed(0)
    transformer = flux(in_channels=32, out_channels=16, num_layers=2)
    for parameter in transformer.parameters():
        nn.init.normal_(parameter, std=0.2)
    pipe = FluxControlPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=autoencoder(0.1),
        text_encoder=None,
        tokenizer=None,
        text_encoder_2=None,
        tokenizer_2=None,
        transformer=transformer.eval(),
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def call(pipe: FluxControlPipeline, told: Condition, steps: int, **more: Any) -> Tensor:
    out: Tensor = pipe(
        prompt_embeds=told.states,
        pooled_prompt_embeds=told.pooled,
        control_image=torch.linspace(-1, 1, 3 * 64 * 64).reshape(1, 3, 64, 64),
        height=64,
        width=64,
        num_inference_steps=steps,
        guidance_scale=10.0,
        generator=torch.Generator().manual_seed(3),
        output_type="latent",
        **more,
    ).images
    return out


def of_pipeline() -> tuple[Condition, TokenLayout]:
    told = texts_with_instances(texts(1, GLOBAL_TOKENS, 1), texts(2, OWN_TOKENS, 2), [2])
    return told, TokenLayout.of([in_boxes(BOXES, GRID)], GLOBAL_TOKENS, OWN_TOKENS)


def test_the_stock_pipeline_renders_the_same_after_an_interruption_and_with_other_steps() -> None:
    pipe, (told, layout) = pipeline(), of_pipeline()

    def interrupt(pipe: Any, step: int, *_: Any) -> dict[str, Any]:
        pipe._interrupt = step == 1
        return {}

    rules = Rules(strict_steps=2)
    with rendering_by(pipe, layout, rules):
        fresh = {steps: call(pipe, told, steps) for steps in (4, 6)}
    plain = call(pipe, told, 4)
    with rendering_by(pipe, layout, rules):
        call(pipe, told, 6, callback_on_step_end=interrupt)
        for steps in (6, 4):
            assert torch.equal(call(pipe, told, steps), fresh[steps])
    assert not torch.allclose(plain, fresh[4], atol=1e-3)
    assert torch.equal(call(pipe, told, 4), plain)  # outside nothing is left


def test_strict_steps_are_as_many_as_asked_in_every_call() -> None:
    pipe, (told, layout) = pipeline(), of_pipeline()
    asked: list[int] = []

    class Watched(Rules):
        def mode(self, step: int, layer: int) -> Any:
            asked.append(step)
            return super().mode(step, layer)

    with rendering_by(pipe, layout, Watched()):
        call(pipe, told, 6)
        call(pipe, told, 3)
    blocks = 3  # two double ones and a single one
    assert asked == [step for steps in (6, 3) for step in range(steps) for _ in range(blocks)]


def test_nothing_is_trained_and_no_weight_added() -> None:
    pipe, (told, layout) = pipeline(), of_pipeline()
    before = {name: value.clone() for name, value in pipe.transformer.state_dict().items()}
    with rendering_by(pipe, layout, Rules()):
        inside = dict(pipe.transformer.named_parameters())
        call(pipe, told, 2)
    after = pipe.transformer.state_dict()
    assert set(inside) == set(dict(pipe.transformer.named_parameters()))
    assert set(after) == set(before)
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_steps_are_read_off_rounded_timesteps() -> None:
    scheduler = FlowMatchEulerDiscreteScheduler()
    scheduler.set_timesteps(20)
    for step, timestep in enumerate(scheduler.timesteps):
        assert step_of((timestep / 1000).to(torch.bfloat16).expand(2), scheduler.timesteps) == step


def test_counts_that_do_not_add_up_are_told() -> None:
    with pytest.raises(FoundryError, match=r"3 phrases for \[1, 1\] instances of 2 pictures"):
        texts_with_instances(texts(2, 3, 0), texts(3, 2, 1), [1, 1])
    told, layout = of_pipeline()
    with pytest.raises(FoundryError, match="1 layouts for 2 pictures"):
        DetailRendering(told, layout, Rules()).condition(texts(2, 3, 0), 0, 4)
