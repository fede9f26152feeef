"""Activation patching: what text layers computed in one sampling, put into another (arXiv 2502.09935, section 3).

A sampling of the target prompt is :class:`Recorded`; one of the source prompt from the same noise is :class:`Patched` with what
was recorded, at chosen layers and steps. Both are controls of the sampler. Queries, pooled text and conditions of time stay the
source's. To patch many layers at once, see :mod:`training.localization.lockstep`.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Self

from torch import Tensor

from training.backbones import bare
from training.conditioning import Condition
from training.errors import FoundryError
from training.localization.layers import TextLayer
from training.localization.sites import KEYS_VALUES, Site, hooked
from training.sampling.control import ALL_STEPS, Window

Part = tuple[int, int]
"""First row and row after the last of pictures that are sampled together; (0, 0) for all of them."""

ALL_ROWS: Part = (0, 0)


@dataclass(frozen=True)
class TextCache:
    """Activations by part, step, layer and site; a tensor has the rows of one forward pass, the null's half first.

    ``is_held``: a step that was not recorded takes what the last recorded step before it had. Exact where text is a function of
    the prompt alone (cross-attention); an approximation where text tokens attend to the picture.
    """

    rows: dict[tuple[Part, int, str, Site], Tensor] = field(default_factory=dict)
    is_held: bool = False

    @property
    def num_bytes(self) -> int:
        """What the cache takes."""
        return sum(tensor.nbytes for tensor in self.rows.values())

    def keep(self, part: Part, step: int, layer: TextLayer, site: Site, rows: Tensor) -> None:
        """Keep a copy."""
        self.rows[part, step, layer.name, site] = rows.detach().clone()

    def take(self, part: Part, step: int, layer: TextLayer, site: Site) -> Tensor:
        """What was kept. Raises FoundryError where nothing was."""
        steps = range(step, -1, -1) if self.is_held else (step,)
        for earlier in steps:
            found = self.rows.get((part, earlier, layer.name, site))
            if found is not None:
                return found
        of_part = "" if part == ALL_ROWS else f" of pictures {part[0]} to {part[1] - 1}"
        raise FoundryError(
            f"patching: {site} of '{layer.name}' were not recorded at step {step}{of_part}; record the target with the same "
            "layers, sites, number of steps and pictures at once"
        )


@dataclass(frozen=True)
class _AtLayers:
    """A control of layers' sites inside a window; ``rows`` says which pictures of a larger batch these are."""

    layers: Sequence[TextLayer]
    cache: TextCache
    sites: Sequence[Site] = KEYS_VALUES
    window: Window = ALL_STEPS
    rows: Part = ALL_ROWS

    def condition(self, given: Condition, step: int, num_steps: int) -> Condition:
        """See :class:`training.sampling.control.Control`."""
        return given

    def around(self, backbone: Any, step: int, num_steps: int) -> AbstractContextManager[Any]:
        """See :class:`training.sampling.control.Control`."""
        if not self.window.holds(step, num_steps):
            return nullcontext()
        return hooked(bare(backbone), self.layers, self.sites, partial(self._meet, step))

    def part(self, start: int, stop: int) -> Self:
        """See :class:`training.sampling.control.Control`."""
        return replace(self, rows=(start, stop))

    def _meet(self, step: int, layer: TextLayer, site: Site, rows: Tensor) -> Tensor | None:
        raise NotImplementedError


@dataclass(frozen=True)
class Recorded(_AtLayers):
    """A control that changes nothing and keeps what layers compute."""

    def _meet(self, step: int, layer: TextLayer, site: Site, rows: Tensor) -> None:
        self.cache.keep(self.rows, step, layer, site, rows)


@dataclass(frozen=True)
class Patched(_AtLayers):
    """A control that puts recorded activations in the place of a sampling's own, in both halves of guidance.

    What was recorded without guidance stands in the given's half alone: for cross-attention the null's keys and values are the
    same in both prompts, so that nothing is lost. A step raises FoundryError where other rows were recorded, or none.
    """

    def _meet(self, step: int, layer: TextLayer, site: Site, rows: Tensor) -> Tensor:
        return put_rows(self.cache.take(self.rows, step, layer, site), rows, layer)


def put_rows(recorded: Tensor, own: Tensor, layer: TextLayer) -> Tensor:
    """What was recorded, in place of all rows or of the given's half."""
    if recorded.shape == own.shape:
        return recorded
    if recorded.shape[1:] == own.shape[1:] and 2 * len(recorded) == len(own):
        replaced = own.clone()
        replaced[len(recorded) :] = recorded
        return replaced
    raise FoundryError(
        f"patching: {tuple(recorded.shape)} were recorded at '{layer.name}', where {tuple(own.shape)} are computed now (rows, "
        "tokens, width); record as many pictures of the same size, their texts padded to the same number of tokens"
    )
