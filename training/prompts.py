"""What a sampler is given: token states of texts and of the empty text."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float


@dataclass(frozen=True)
class Prompts:
    """Token states of texts and of the empty text, padded with zeros to one length (the dataset's max_tokens)."""

    states: Float[np.ndarray, "n tokens dim"]
    mask: Bool[np.ndarray, "n tokens"]
    null_states: Float[np.ndarray, "tokens dim"]
    null_mask: Bool[np.ndarray, " tokens"]

    def part(self, start: int, stop: int) -> Prompts:
        """Some of the prompts, with the same empty text."""
        return Prompts(self.states[start:stop], self.mask[start:stop], self.null_states, self.null_mask)
