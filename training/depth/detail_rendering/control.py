"""The detail renderer as a control of the sampler, and around a pipeline of diffusers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from training.conditioning import Condition
from training.depth.detail_rendering.attending import region_attention
from training.depth.detail_rendering.masks import RegionMasks
from training.depth.detail_rendering.rules import Rules
from training.depth.detail_rendering.texts import TokenLayout
from training.errors import FoundryError


@dataclass(frozen=True)
class DetailRendering:
    """A control that tells every instance its own words, by the rules; it trains nothing and adds no weight.

    ``texts``: of :func:`texts_with_instances`, a row a picture. ``blockwise``: attention by blocks of queries, which takes .3 to 1.0 of
    plain attention's time where dense masks take 1.1 to 1.4 (``tests/benchmarks/test_region_attention.py``).
    """

    texts: Condition
    layout: TokenLayout
    rules: Rules
    blockwise: bool = True

    def condition(self, given: Condition, step: int, num_steps: int) -> Condition:
        """See :class:`training.sampling.control.Control`; pooled text stays the global prompt's."""
        if len(self.texts) != len(given):
            raise FoundryError(f"{len(self.texts)} layouts for {len(given)} pictures; give one a picture")
        return replace(given, states=self.texts.states, mask=self.texts.mask)

    def around(self, backbone: Any, step: int, num_steps: int) -> AbstractContextManager[None]:
        """See :class:`training.sampling.control.Control`."""
        return region_attention(backbone, self._masks, lambda: step, blockwise=self.blockwise)

    def part(self, start: int, stop: int) -> DetailRendering:
        """See :class:`training.sampling.control.Control`."""
        return replace(self, texts=self.texts.part(start, stop), layout=self.layout.part(start, stop))

    @cached_property
    def _masks(self) -> RegionMasks:
        return RegionMasks(self.layout, self.rules)


def texts_with_instances(told: Condition, phrases: Condition, counts: Sequence[int]) -> Condition:
    """Texts as [T_g | T_1 ... T_n]: a row of ``told`` a picture, and of ``phrases`` the next ``counts[b]`` for picture b, padded with zeros
    behind. Each keeps the tokens that it was encoded to, pads included.

    Raises FoundryError where counts do not add up to the phrases there are.
    """
    if len(counts) != len(told) or sum(counts) != len(phrases):
        raise FoundryError(
            f"{len(phrases)} phrases for {list(counts)} instances of {len(told)} pictures; give a count a picture and a phrase an instance"
        )
    most, (_, tokens, dim) = max(counts), phrases.states.shape
    states = told.states.new_zeros(len(told), most * tokens, dim)
    mask = told.mask.new_zeros(len(told), most * tokens)
    first = 0
    for row, count in enumerate(counts):
        own = slice(first, first + count)
        states[row, : count * tokens] = phrases.states[own].flatten(0, 1)
        mask[row, : count * tokens] = phrases.mask[own].flatten()
        first += count
    return replace(
        told, states=torch.cat([told.states, states], dim=1), mask=torch.cat([told.mask, mask], dim=1)
    )


@contextmanager
def rendering_by(
    pipeline: Any, layout: TokenLayout, rules: Rules, *, blockwise: bool = True
) -> Iterator[None]:
    """While inside, calls of a diffusers pipeline (``FluxControlPipeline``, ``FluxPipeline``) follow the rules: give it
    ``prompt_embeds`` of :func:`texts_with_instances` and one picture a prompt.

    The step is read off the timestep that the transformer is told and the scheduler's own list of them, so that a call that was
    interrupted, or one with another number of steps, leaves nothing behind. Raises FoundryError as
    :func:`training.depth.detail_rendering.attending.region_attention` does.
    """
    present = [0]

    def read_step(_: Any, args: tuple[Any, ...], given: dict[str, Any]) -> None:
        present[0] = step_of(given["timestep"], pipeline.scheduler.timesteps)

    model = pipeline.transformer
    handle = model.register_forward_pre_hook(read_step, with_kwargs=True)
    try:
        with region_attention(
            model,
            RegionMasks(layout.to(pipeline._execution_device), rules),
            lambda: present[0],
            blockwise=blockwise,
        ):
            yield
    finally:
        handle.remove()


def step_of(timestep: Tensor, timesteps: Tensor) -> int:
    """Which of a scheduler's timesteps a FLUX pipeline tells, which it divides by 1,000 and may round."""
    told = timestep.flatten()[0].float() * 1000
    return int((timesteps.float().to(told.device) - told).abs().argmin())
