"""What a sampler is given: token states of texts and of the empty text."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float


@dataclass(frozen=True)
class Prompts:
    """Token states of texts and of the empty text, padded with zeros to one length (the dataset's max_tokens).

    SDXL, SD3 and FLUX take pooled text beside.
    """

    states: Float[np.ndarray, "n tokens dim"]
    mask: Bool[np.ndarray, "n tokens"]
    null_states: Float[np.ndarray, "tokens dim"]
    null_mask: Bool[np.ndarray, " tokens"]
    pooled: Float[np.ndarray, "n pooled_dim"] | None = None
    null_pooled: Float[np.ndarray, " pooled_dim"] | None = None

    def part(self, start: int, stop: int) -> Prompts:
        """Some of the prompts, with the same empty text."""
        pooled = None if self.pooled is None else self.pooled[start:stop]
        states, mask = self.states[start:stop], self.mask[start:stop]
        return Prompts(states, mask, self.null_states, self.null_mask, pooled, self.null_pooled)
