"""The embedded models by role: name, identity and worker, all told without loading a model.

====================  =========================================  ======================  ===================
role                  reads, beside the role's own columns       answers                 made by
====================  =========================================  ======================  ===================
captioner             regions                                    CAPTIONS                templates
describer             image, regions                             DESCRIPTIONS            measured attributes
nouns                 nothing                                    NOUNS                   spaCy
phrases               nothing                                    PHRASES                 spaCy
detector              regions                                    BOXES                   regions by name
masks                 regions                                    MASKS                   masks of regions
====================  =========================================  ======================  ===================

The roles ``regions`` and ``closed_set`` are in :mod:`evaluation.perception.embedded.bank_model`. Digests cover versions,
weights and settings, never the regions that are read: who made those stands in their own rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pyarrow as pa

from evaluation.language.english import ENGLISH_NAME, english_digest
from evaluation.perception.by_name import load_by_name
from evaluation.perception.embedded.captioner import CAPTIONER_NAME, CAPTIONER_VERSION
from evaluation.perception.embedded.identity import MINILM_SHA256
from evaluation.perception.embedded.settings import EmbeddedSettings
from evaluation.perception.role_models import Nomination, RoleModel, Workplace
from training.digests import canonical_json, sha256_bytes
from training.errors import FoundryError
from training.packaged_models import MINILM_FILES
from training.recipes.validation import validate

DETECTOR_NAME = "embedded: regions grounded by name"
DETECTOR_VERSION = 2  # raise when boxes change
DESCRIBER_NAME = "embedded: measured attributes"
DESCRIBER_VERSION = 1  # raise when descriptions change
MASKS_NAME = "embedded: masks of regions"
MASKS_VERSION = 1  # raise when masks change
LIGHT_ROWS = 50_000
"""Rows up to which the light models (well under a millisecond a row) work in the step itself."""
TEXT_ROWS = 10_000
"""The same for spaCy, at one to two milliseconds a caption."""
Worker = Callable[[pa.Table], pa.Table]
_REGIONS = ("regions",)


def embedded_model(nomination: Nomination, workplace: Workplace) -> RoleModel:
    """The embedded model of a role. Raises FoundryError for settings out of range and roles that have none."""
    settings = validate(EmbeddedSettings, nomination.own_settings, nomination.place)
    maker = nomination.role.embedded
    if maker is None:
        raise FoundryError(
            f"{nomination.said}, but no embedded model fills this role. Name a model by path, or null where the role "
            "may be empty."
        )
    model: RoleModel = load_by_name(maker)(settings, workplace)
    return model


def captioner(settings: EmbeddedSettings, workplace: Workplace) -> RoleModel:
    """Templates over regions: ``k`` captions an image, told in an order drawn by ``seed``."""
    told = {"k": settings.k, "seed": settings.seed}
    tokenizer = MINILM_FILES["tokenizer.json"]
    digest = _digest("captioner", version=CAPTIONER_VERSION, tokenizer=tokenizer, **told)
    return _model(
        CAPTIONER_NAME, digest, _REGIONS, build_caption_worker, workplace, {**told, "digest": digest}
    )


def describer(settings: EmbeddedSettings, workplace: Workplace) -> RoleModel:
    """Measured colours, surface, outline, place and size of an entity."""
    digest = _digest("describer", version=DESCRIBER_VERSION, tokenizer=MINILM_FILES["tokenizer.json"])
    reads = ("image", "regions")
    return _model(DESCRIBER_NAME, digest, reads, build_describe_worker, workplace, {"digest": digest})


def nouns(settings: EmbeddedSettings, workplace: Workplace) -> RoleModel:
    """Nouns by spaCy."""
    return _english("nouns", build_noun_counter, workplace)


def phrases(settings: EmbeddedSettings, workplace: Workplace) -> RoleModel:
    """Noun phrases by spaCy."""
    return _english("noun phrases", build_phrase_finder, workplace)


def detector(settings: EmbeddedSettings, workplace: Workplace) -> RoleModel:
    """Phrases grounded on regions (:mod:`evaluation.perception.embedded.grounding`)."""
    limits = {"min_similarity": settings.min_similarity, "min_score": settings.min_grounding}
    digest = _digest("detector", version=DETECTOR_VERSION, sentences=MINILM_SHA256, **limits)
    return _model(
        DETECTOR_NAME, digest, _REGIONS, build_detect_worker, workplace, {**limits, "digest": digest}
    )


def masks(settings: EmbeddedSettings, workplace: Workplace) -> RoleModel:
    """Masks of the regions whose box overlaps the entity's enough."""
    limits = {"min_iou": settings.min_mask_iou}
    digest = _digest("masks", version=MASKS_VERSION, **limits)
    return _model(MASKS_NAME, digest, _REGIONS, build_mask_worker, workplace, {**limits, "digest": digest})


def _english(what: str, factory: Callable[..., Worker], workplace: Workplace) -> RoleModel:
    name, digest = f"{ENGLISH_NAME}: {what}", english_digest(what)
    return _model(name, digest, (), factory, workplace, {}, inline_rows=TEXT_ROWS)


def _model(
    name: str,
    digest: str,
    reads: tuple[str, ...],
    factory: Callable[..., Worker],
    workplace: Workplace,
    arguments: Mapping[str, Any],
    *,
    inline_rows: int = LIGHT_ROWS,
) -> RoleModel:
    """A model whose digest is known and whose workers are built by ``factory(**arguments)``."""
    resources = {
        "threads": workplace.threads,
        "batch_size": 256,
        "inline_rows": inline_rows,
        "keep_loaded": True,
    }
    return RoleModel(name, reads, lambda: digest, lambda: (factory, arguments), resources)


def _digest(role: str, **settings: Any) -> str:
    return sha256_bytes(canonical_json({"role": role, **settings}).encode())


# The workers' modules are imported where workers are built: they load tokenizers, spaCy or torch.


def build_caption_worker(k: int, seed: int, digest: str) -> Worker:
    """A :class:`~evaluation.perception.embedded.caption_worker.CaptionWorker`."""
    from evaluation.perception.embedded.caption_worker import CaptionWorker

    return CaptionWorker(k, seed, digest)


def build_phrase_finder() -> Worker:
    """A :class:`~evaluation.language.noun_phrases.PhraseFinder`."""
    from evaluation.language.noun_phrases import PhraseFinder

    return PhraseFinder()


def build_noun_counter() -> Worker:
    """A :class:`~evaluation.language.nouns.NounCounter`."""
    from evaluation.language.nouns import NounCounter

    return NounCounter()


def build_detect_worker(min_similarity: float, min_score: float, digest: str) -> Worker:
    """A :class:`~evaluation.perception.embedded.detect_worker.DetectWorker`."""
    from evaluation.perception.embedded.detect_worker import DetectWorker

    return DetectWorker(min_similarity, min_score, digest)


def build_describe_worker(digest: str) -> Worker:
    """A :class:`~evaluation.perception.embedded.entity_workers.DescribeWorker`."""
    from evaluation.perception.embedded.entity_workers import DescribeWorker

    return DescribeWorker(digest)


def build_mask_worker(min_iou: float, digest: str) -> Worker:
    """A :class:`~evaluation.perception.embedded.entity_workers.MaskWorker`."""
    from evaluation.perception.embedded.entity_workers import MaskWorker

    return MaskWorker(min_iou, digest)
