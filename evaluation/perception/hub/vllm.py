"""The same captions and answers through vLLM, where it is installed: its engine batches by itself and is many times faster.

What is asked and what is made of the answers is here as plain functions. The answers differ from those of
``transformers`` (other kernels, another sampler), which is why ``engine`` is part of the digest; vLLM's own sampling
is repeatable for a seed, but may depend on the batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import pyarrow as pa

from evaluation.perception.hub.families import FAMILIES
from evaluation.perception.hub.images import crop, open_image
from evaluation.perception.hub.rows import (
    Maker,
    ScoredText,
    answers_table,
    captions_table,
    descriptions_table,
)
from evaluation.perception.hub.settings import HubModel
from training.digests import sha256_bytes
from training.errors import FoundryError

_UNITS = {
    "captioner": ("sample", "sample_id", ""),
    "describer": ("entity", "entity_id", "phrase"),
    "answers": ("question", "question_id", "question"),
}
"""By role: what a row is about, the column with its name, and the column that fills the prompt about a box."""
SEED_BITS = 31  # vLLM hands seeds to samplers that take 32-bit ones


@runtime_checkable
class Completion(Protocol):
    """What is read of ``vllm.CompletionOutput``."""

    text: str
    token_ids: Sequence[int]
    cumulative_logprob: float | None


@runtime_checkable
class Request(Protocol):
    """What is read of ``vllm.RequestOutput``."""

    outputs: Sequence[Completion]


@dataclass(frozen=True)
class Question:
    """One prompt about one image; ``num_candidates`` answers are wanted."""

    unit: str
    prompt: str
    image: Any
    num_candidates: int


def engine_arguments(folder: Path, settings: HubModel) -> dict[str, Any]:
    """Arguments of ``vllm.LLM``: one image a prompt, the settings' dtype, no code out of the checkpoint."""
    dtypes = {"float32": "float32", "bf16": "bfloat16", "fp16": "float16"}
    return {
        "model": str(folder),
        "dtype": dtypes[settings.dtype],
        "trust_remote_code": False,
        "load_format": "safetensors",
        "limit_mm_per_prompt": {"image": 1},
        "max_num_seqs": settings.batch_size,
        "tensor_parallel_size": max(1, int(settings.gpus)),
        "seed": settings.seed % 2**SEED_BITS,
    }


def sampling_arguments(settings: HubModel, question: Question) -> dict[str, Any]:
    """Arguments of ``vllm.SamplingParams`` for one question; its seed is its own."""
    decoding = settings.decoding
    sampled = decoding.mode == "sample"
    key = f"{settings.seed}\x1f{question.unit}\x1f{question.prompt}"
    return {
        "n": question.num_candidates,
        "temperature": decoding.temperature if sampled else 0.0,
        "top_k": (decoding.top_k or -1) if sampled else -1,
        "top_p": decoding.top_p if sampled else 1.0,
        "max_tokens": decoding.max_new_tokens,
        "min_tokens": decoding.min_new_tokens,
        "seed": int(sha256_bytes(key.encode())[:8], 16) % 2**SEED_BITS,
        "logprobs": 0,  # of the chosen tokens alone, from which the cumulative one is summed
        "skip_special_tokens": True,
    }


def request(text: str, image: Any) -> dict[str, Any]:
    """One entry of the prompts of ``LLM.generate``: the templated text, and the image its placeholder stands for."""
    return {"prompt": text, "multi_modal_data": {"image": image}}


def read_output(output: Request, special_ids: frozenset[int]) -> list[ScoredText]:
    """The answers in ``vllm.RequestOutput``, in its order."""
    answers = []
    for completion in output.outputs:
        total = completion.cumulative_logprob
        if total is None:
            raise FoundryError(
                "vllm: an answer came without log-probabilities; use a version that returns them."
            )
        count = max(len(completion.token_ids), 1)
        plain = sum(token not in special_ids for token in completion.token_ids)
        answers.append(
            ScoredText(completion.text.strip(), min(math.exp(min(total / count, 0.0)), 1.0), plain)
        )
    return answers


def questions(rows: pa.Table, settings: HubModel, role: str) -> list[Question]:
    """What is asked about the rows of a batch, by role. Raises FoundryError naming the unit of a broken image."""
    asked = []
    prompts, counts = settings.prompts_for(role), settings.candidates_per_prompt(role)
    kind, key, filled = _UNITS[role]
    for row in rows.to_pylist():
        unit = row[key]
        image = open_image(row["image"], f"{kind} {unit}", settings.max_image_side)
        if filled:
            margin = settings.crop_margin if role == "describer" else 0.0
            part = crop(image, row["box_xyxy_norm"], margin)
            asked.append(Question(unit, prompts[0].replace(f"{{{filled}}}", row[filled]), part, 1))
            continue
        asked += [
            Question(unit, prompt, image, count)
            for prompt, count in zip(prompts, counts, strict=True)
            if count
        ]
    return asked


def table(
    rows: pa.Table,
    asked: Sequence[Question],
    answers: Sequence[list[ScoredText]],
    settings: HubModel,
    role: str,
    maker: Maker,
) -> pa.Table:
    """Rows of the role's table from the questions and their answers."""
    pairs = list(zip(asked, answers, strict=True))
    if role == "describer":
        return descriptions_table(
            {question.unit: (question.prompt, texts[0]) for question, texts in pairs}, maker
        )
    if role == "answers":
        return answers_table({question.unit: texts[0].text for question, texts in pairs}, maker)
    found: dict[str, list[tuple[str, ScoredText]]] = {unit: [] for unit in rows["sample_id"].to_pylist()}
    for question, texts in pairs:
        found[question.unit] += [(question.prompt, text) for text in texts]
    return captions_table(found, settings, maker)


@dataclass(frozen=True)
class VllmWorker:
    """Batch function over a vLLM engine. ``template`` puts a prompt into the checkpoint's chat template."""

    engine: Any
    make_sampling: Callable[..., Any]
    template: Callable[[str], str]
    special_ids: frozenset[int]
    settings: HubModel
    role: str
    maker: Maker

    def __call__(self, rows: pa.Table) -> pa.Table:
        """Answers about the rows' images. Raises FoundryError naming the unit whose image is broken."""
        asked = questions(rows, self.settings, self.role)
        outputs = self.engine.generate(
            [request(self.template(question.prompt), question.image) for question in asked],
            [self.make_sampling(**sampling_arguments(self.settings, question)) for question in asked],
            use_tqdm=False,
        )
        answers = [read_output(output, self.special_ids) for output in outputs]
        return table(rows, asked, answers, self.settings, self.role, self.maker)


def build_vllm_worker(folder: Path, settings: HubModel, role: str, maker: Maker) -> VllmWorker:
    """A worker with an engine of its own. Raises FoundryError where vLLM is missing or the role is not for it."""
    if role not in _UNITS:
        raise FoundryError(
            f"'engine' is 'vllm', which serves {', '.join(_UNITS)}, not '{role}'; use 'transformers'."
        )
    if not FAMILIES[settings.family].reads_images:
        raise FoundryError(f"family '{settings.family}' reads no images; give a captioning family.")
    try:
        from vllm import LLM, SamplingParams
    except ImportError as error:
        raise FoundryError(
            "'engine' is 'vllm', which is not installed here: install vllm on the machines that caption (it needs a "
            "CUDA GPU), or set engine to 'transformers'."
        ) from error
    from transformers import AutoProcessor

    from evaluation.perception.hub.captioning import prompt_text

    processor = AutoProcessor.from_pretrained(str(folder), trust_remote_code=False, local_files_only=True)
    return VllmWorker(
        LLM(**engine_arguments(folder, settings)),
        SamplingParams,
        lambda prompt: prompt_text(processor, settings.family, prompt),
        frozenset(processor.tokenizer.all_special_ids),
        settings,
        role,
        maker,
    )
