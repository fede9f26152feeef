"""The embedded judge: who it is, and how its worker is built. Light until a worker is built: no torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evaluation.perception.embedded.bank_model import fitted_bank
from evaluation.perception.embedded.identity import (
    BANK_OF,
    MINILM_SHA256,
    bank_inputs_digest,
    digest_with_bank,
)
from evaluation.perception.embedded.settings import EmbeddedSettings
from evaluation.perception.role_models import BatchFunction, Factory, RoleModel, Workplace
from training.digests import canonical_json, sha256_bytes

ANSWERS_VERSION = 1  # raise when answers change


def answers(settings: EmbeddedSettings, workplace: Workplace) -> RoleModel:
    """Regions named by the closest concept, colour, outline and surface as measured."""
    how = {"known_drawings": settings.known_drawings, "min_similarity": settings.min_similarity}
    name = f"embedded: recognised in the box (bank of {BANK_OF[settings.art]}), attributes measured"
    return RoleModel(
        name,
        ("image",),
        lambda: _digest(settings, workplace),
        lambda: _worker(name, settings.art, workplace, {**how, "digest": _digest(settings, workplace)}),
        {"threads": workplace.threads, "keep_loaded": True},
    )


def _digest(settings: EmbeddedSettings, workplace: Workplace) -> str:
    bank = bank_inputs_digest(*workplace.bank_inputs(settings.art))
    looking = [
        digest_with_bank(bank, closed_set=closed_set, known_drawings=settings.known_drawings)
        for closed_set in (True, False)
    ]
    told = {"min_similarity": settings.min_similarity, "sentences": MINILM_SHA256, "version": ANSWERS_VERSION}
    return sha256_bytes(canonical_json({"role": "answers", "looking": looking, **told}).encode())


def _worker(
    name: str, art: str, workplace: Workplace, how: Mapping[str, Any]
) -> tuple[Factory, Mapping[str, Any]]:
    path = fitted_bank(workplace.bank_inputs(art), workplace.cache)
    bank: str | bytes = str(path) if workplace.workers_see_cache else path.read_bytes()
    return build_answer_worker, {"bank": bank, "name": name, "threads": workplace.threads, "art": art, **how}


def build_answer_worker(
    bank: str | bytes,
    name: str,
    threads: int,
    art: str,
    *,
    known_drawings: bool,
    min_similarity: float,
    digest: str,
) -> BatchFunction:
    """The judge, inside a worker; ``bank`` is the fitted bank or where it lies."""
    from evaluation.perception.embedded.answer_worker import AnswerWorker
    from evaluation.perception.embedded.bank import ConceptBank

    fitted = ConceptBank.from_bytes(bank if isinstance(bank, bytes) else Path(bank).read_bytes())
    return AnswerWorker(
        fitted, name, digest, min_similarity, threads=threads, art=art, known_drawings=known_drawings
    )
