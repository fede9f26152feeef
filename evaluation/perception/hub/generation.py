"""Text from images and prompts: one call of ``generate`` for a batch, with every answer's own score."""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from evaluation.perception.hub.loading import Loaded
from evaluation.perception.hub.rows import ScoredText
from evaluation.perception.hub.settings import Decoding
from evaluation.perception.hub.token_sampling import TokenChooser


@dataclass(frozen=True)
class Answer(ScoredText):
    """One generated text with its tokens; ``logprobs`` has one number for each, none after beam search."""

    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...] = ()


@torch.inference_mode()
def generate(
    loaded: Loaded,
    inputs: dict[str, Any],
    decoding: Decoding,
    num_candidates: int,
    seeds: Sequence[int],
    *,
    keep_special: bool = False,
) -> list[list[Answer]]:
    """Answers to a batch of prepared inputs: ``num_candidates`` for each of its rows.

    Args:
        inputs: what the processor made, on the model's device; decoder-only models padded on the left.
        seeds: of each row's candidates in turn, ``rows * num_candidates`` of them; for sampling.
        keep_special: leave special tokens in the text (Florence-2's places are such).
    """
    chooser = None if decoding.mode == "beam" else TokenChooser(decoding, seeds)
    output = loaded.model.generate(
        **inputs,
        generation_config=_generation_config(loaded, decoding, num_candidates),
        logits_processor=[] if chooser is None else [chooser],
    )
    start = 1 if loaded.is_encoder_decoder else inputs["input_ids"].shape[1]
    sequences = output.sequences[:, start:].cpu()
    logprobs = None if chooser is None else torch.stack(chooser.logprobs, dim=1).cpu()
    beam_scores = output.sequences_scores.cpu() if chooser is None else None
    ends = _end_tokens(loaded)
    answers = []
    for row, sequence in enumerate(sequences):
        ids = _until_end(sequence, ends)
        noted = tuple(logprobs[row, : len(ids)].tolist()) if logprobs is not None else ()
        mean = float(beam_scores[row]) if beam_scores is not None else sum(noted) / max(len(noted), 1)
        answers.append(_answer(loaded.tokenizer, ids, noted, mean, keep_special=keep_special))
    return [answers[first : first + num_candidates] for first in range(0, len(answers), num_candidates)]


def _answer(
    tokenizer: Any, ids: list[int], logprobs: tuple[float, ...], mean: float, *, keep_special: bool
) -> Answer:
    special = set(tokenizer.all_special_ids)
    text = tokenizer.decode(ids, skip_special_tokens=not keep_special).strip()
    count = sum(token not in special for token in ids)
    return Answer(text, min(math.exp(min(mean, 0.0)), 1.0), count, tuple(ids), logprobs)


def _generation_config(loaded: Loaded, decoding: Decoding, num_candidates: int) -> Any:
    """The checkpoint's own configuration (special tokens, repetition rules), with our decoding in place of its."""
    config = deepcopy(loaded.model.generation_config)
    is_beam = decoding.mode == "beam"
    config.update(
        do_sample=not is_beam,  # without beams the chooser leaves one possible token, which is "sampled"
        num_beams=decoding.num_beams if is_beam else 1,
        num_return_sequences=num_candidates,
        temperature=None if is_beam else 1.0,
        top_k=None if is_beam else 0,
        top_p=None if is_beam else 1.0,
        length_penalty=1.0,  # scores of beams are then means over tokens
        early_stopping=False,
        max_length=None,
        min_length=0,
        max_new_tokens=decoding.max_new_tokens,
        min_new_tokens=decoding.min_new_tokens or None,
        return_dict_in_generate=True,
        output_scores=is_beam,
        output_logits=False,
        use_cache=True,
    )
    if config.pad_token_id is None:
        config.pad_token_id = loaded.tokenizer.pad_token_id
    return config


def _end_tokens(loaded: Loaded) -> set[int]:
    ends = loaded.model.generation_config.eos_token_id
    if ends is None:
        return set()
    return {ends} if isinstance(ends, int) else set(ends)


def _until_end(sequence: Int[Tensor, " length"], ends: set[int]) -> list[int]:
    """Tokens up to and with the first end token; what follows is padding."""
    ids: list[int] = sequence.tolist()
    for position, token in enumerate(ids):
        if token in ends:
            return ids[: position + 1]
    return ids
