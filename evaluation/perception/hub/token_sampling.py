"""Choosing the next token so that a row's draws are its own: a function of its seed and the step, never of the batch.

``transformers`` draws a whole batch from one global generator, so that the same image gets other captions in another
batch. Here every row has its uniform numbers beforehand, and a token is found by inverting the cumulative distribution
over tokens in order of probability. The chosen token is handed back as the only possible one, and whatever
``generate`` draws from then on is that token.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import LogitsProcessor

from evaluation.perception.hub.settings import Decoding


def row_seed(seed: int, unit: str, prompt: str, candidate: int) -> int:
    """63-bit seed of one answer, from the run's seed, its sample or entity, the prompt and the candidate's number."""
    parts = "\x1f".join([str(seed), unit, prompt, str(candidate)])
    return int.from_bytes(hashlib.sha256(parts.encode()).digest()[:8], "big") >> 1


def uniforms(seeds: Sequence[int], num_steps: int) -> Float[np.ndarray, "rows {num_steps}"]:
    """Numbers in [0, 1) of each row and step; more steps leave the earlier ones as they are."""
    return np.stack([np.random.Generator(np.random.Philox(key=seed)).random(num_steps) for seed in seeds])


def invert_cumulative(
    logits: Float[Tensor, "rows tokens"], uniform: Float[Tensor, " rows"], top_k: int, top_p: float
) -> Int[Tensor, " rows"]:
    """The token at which the cumulative probability, likeliest token first, passes ``uniform``.

    Only the ``top_k`` likeliest tokens take part (0: all), and of them the smallest set whose probability reaches
    ``top_p``; the rest is divided out. Sampling by inversion, exact for uniform numbers.
    """
    count = logits.shape[-1]
    ordered, token = logits.topk(min(top_k, count) if top_k else count, dim=-1)
    probability = torch.softmax(ordered, dim=-1)
    before = probability.cumsum(dim=-1) - probability
    probability = torch.where(before < top_p, probability, 0.0)
    cumulative = probability.cumsum(dim=-1)
    target = uniform[:, None] * cumulative[:, -1:]
    passed: Bool[Tensor, "rows kept"] = cumulative > target
    # Rounding can leave a target at the very end: the last token that takes part is meant.
    passed[torch.arange(len(passed)), (probability > 0).sum(dim=-1) - 1] = True
    return token.gather(1, passed.int().argmax(dim=-1, keepdim=True)).squeeze(1)


class TokenChooser(LogitsProcessor):
    """Chooses every next token, greedily or by each row's own numbers, and notes its log-probability.

    The noted log-probability is the model's own, before temperature and truncation, so that scores of differently
    decoded captions compare. Belongs to one call of ``generate``.
    """

    def __init__(self, decoding: Decoding, seeds: Sequence[int]) -> None:
        self._decoding = decoding
        self._uniforms = uniforms(seeds, decoding.max_new_tokens) if decoding.mode == "sample" else None
        self.logprobs: list[Float[Tensor, " rows"]] = []

    def __call__(
        self, input_ids: Int[Tensor, "rows length"], scores: Float[Tensor, "rows tokens"]
    ) -> Float[Tensor, "rows tokens"]:
        """Scores in which the chosen token alone is possible."""
        step = len(self.logprobs)
        logprobs = torch.log_softmax(scores.float(), dim=-1)
        if self._uniforms is None:
            chosen = logprobs.argmax(dim=-1)
        else:
            uniform = torch.from_numpy(self._uniforms[:, step].copy()).to(scores.device, torch.float32)
            scaled = logprobs / self._decoding.temperature
            chosen = invert_cumulative(scaled, uniform, self._decoding.top_k, self._decoding.top_p)
        self.logprobs.append(logprobs.gather(1, chosen[:, None]).squeeze(1))
        return torch.full_like(scores, float("-inf")).scatter_(1, chosen[:, None], 0.0)
