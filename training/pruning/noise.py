"""The masks' noise as a function of counters: a step that is taken again meets the same draws, and nothing is stored."""

from __future__ import annotations

from collections import Counter

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from training.randomness import uniform


class MaskNoise:
    """u of (seed, draw, step, layer, call): one number in [0, 1) per unit.

    ``draw`` counts the chains run, so that every prompt of every update meets new noise; ``call`` counts a layer's calls
    within a step. Both branches of guidance are in one batch and one call, and share a mask. With ``shared_by_calls`` all
    calls of a layer within a step share one: needed where layers are called again, for checkpointing within a step.
    """

    def __init__(self, seed: int, *, shared_by_calls: bool = False) -> None:
        self.seed, self.shared_by_calls = seed, shared_by_calls
        self._draw = self._step = 0
        self._calls: Counter[str] = Counter()

    def begin(self, draw: int, step: int) -> None:
        """Enter a step of a chain, for the first time or again: its layers have not been called yet."""
        self._draw, self._step = draw, step
        self._calls.clear()

    def uniform(self, layer: str, count: int) -> Float[Tensor, " units"]:
        """u of a layer's next call in the current step, float64 on the CPU."""
        call = 0 if self.shared_by_calls else self._calls[layer]
        self._calls[layer] += 1
        purpose = f"mask/{self._step}/{call}/{layer}"
        return torch.from_numpy(uniform(self.seed, purpose, self._draw, np.arange(count)))


def step_of_draw(seed: int, draw: int, num_steps: int) -> int:
    """The step that a draw of ``distance: per_step`` looks at: evenly one of 0 .. num_steps - 1."""
    return int(uniform(seed, "per-step distance", draw, np.zeros(1, np.int64))[0] * num_steps)
