"""The embedded models by role: name, identity and worker, all told without loading a model.

====================  =========================================  ======================  ===================
role                  reads, beside the role's own columns       answers                 made by
====================  =========================================  ======================  ===================
captioner             regions                                    CAPTIONS                templates
phrases               nothing                                    PHRASES                 spaCy
nouns                 nothing                                    NOUNS                   spaCy
detector              regions                                    BOXES                   regions by name
describer             image, regions                             DESCRIPTIONS            measured attributes
masks                 regions                                    MASKS                   masks of regions
====================  =========================================  ======================  ===================

The role ``regions`` is :class:`evaluation.perception.embedded.perceiver.EmbeddedPerceiver`. Digests cover versions, weights and
settings, never the regions that are read: who made those stands in their own rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from evaluation.language.english import ENGLISH_NAME, english_digest
from evaluation.perception.embedded.captioner import CAPTIONER_NAME, CAPTIONER_VERSION, TEMPLATES
from evaluation.perception.embedded.identity import MINILM_SHA256
from training.digests import canonical_json, sha256_bytes
from training.errors import FoundryError
from training.packaged_models import MINILM_FILES

DETECTOR_NAME = "embedded: regions grounded by name"
DETECTOR_VERSION = 2  # raise when boxes change
DESCRIBER_NAME = "embedded: measured attributes"
DESCRIBER_VERSION = 1  # raise when descriptions change
MASKS_NAME = "embedded: masks of regions"
MASKS_VERSION = 1  # raise when masks change
MIN_SIMILARITY = 0.55  # of the demo's names: true kinds 57 % above, wrong kinds 0.3 %, siblings 1.6 %
MIN_GROUNDING = 0.1
MIN_MASK_IOU = 0.7
Worker = Callable[[pa.Table], pa.Table]


@dataclass(frozen=True)
class EmbeddedRole:
    """One embedded model in one role. ``factory(**kwargs)`` builds its worker and pickles by name.

    ``reads`` names which of ``image`` and ``regions`` the worker needs in its rows.
    """

    role: str
    name: str
    digest: str
    reads: tuple[str, ...]
    factory: Callable[..., Worker]
    kwargs: Mapping[str, Any] = field(default_factory=dict)


def captioner(k: int = 2, seed: int = 0) -> EmbeddedRole:
    """Templates over regions: ``k`` captions an image, told in an order drawn by ``seed``.

    Raises FoundryError for a ``k`` that there are no templates for.
    """
    if not 1 <= k <= len(TEMPLATES):
        raise FoundryError(f"captioner: k is {k}, allowed are 1 to {len(TEMPLATES)}")
    tokenizer = MINILM_FILES["tokenizer.json"]
    digest = _digest("captioner", version=CAPTIONER_VERSION, k=k, seed=seed, tokenizer=tokenizer)
    kwargs = {"k": k, "seed": seed, "digest": digest}
    return EmbeddedRole("captioner", CAPTIONER_NAME, digest, ("regions",), build_caption_worker, kwargs)


def phrases() -> EmbeddedRole:
    """Noun phrases by spaCy."""
    name = f"{ENGLISH_NAME}: noun phrases"
    return EmbeddedRole("phrases", name, english_digest("noun phrases"), (), build_phrase_finder)


def nouns() -> EmbeddedRole:
    """Nouns by spaCy."""
    return EmbeddedRole("nouns", f"{ENGLISH_NAME}: nouns", english_digest("nouns"), (), build_noun_counter)


def detector(min_similarity: float = MIN_SIMILARITY, min_score: float = MIN_GROUNDING) -> EmbeddedRole:
    """Phrases grounded on regions (:mod:`evaluation.perception.embedded.grounding`).

    Args:
        min_similarity: cosine of sentence vectors below which two names mean different things, in [0, 1].
        min_score: image-text score below which a phrase grounds no region, in [0, 1].

    Raises FoundryError for a setting out of range.
    """
    for name, value in (("min_similarity", min_similarity), ("min_score", min_score)):
        _check_fraction("detector", name, value)
    settings = {"min_similarity": min_similarity, "min_score": min_score}
    digest = _digest("detector", version=DETECTOR_VERSION, sentences=MINILM_SHA256, **settings)
    kwargs = {**settings, "digest": digest}
    return EmbeddedRole("detector", DETECTOR_NAME, digest, ("regions",), build_detect_worker, kwargs)


def describer() -> EmbeddedRole:
    """Measured colours, surface, outline, place and size of an entity."""
    digest = _digest("describer", version=DESCRIBER_VERSION, tokenizer=MINILM_FILES["tokenizer.json"])
    reads = ("image", "regions")
    return EmbeddedRole("describer", DESCRIBER_NAME, digest, reads, build_describe_worker, {"digest": digest})


def masks(min_iou: float = MIN_MASK_IOU) -> EmbeddedRole:
    """Masks of the regions whose box overlaps the entity's by ``min_iou`` or more, in [0, 1]."""
    _check_fraction("masks", "min_iou", min_iou)
    digest = _digest("masks", version=MASKS_VERSION, min_iou=min_iou)
    kwargs = {"min_iou": min_iou, "digest": digest}
    return EmbeddedRole("masks", MASKS_NAME, digest, ("regions",), build_mask_worker, kwargs)


def _check_fraction(role: str, name: str, value: float) -> None:
    if not 0.0 <= value <= 1.0:
        raise FoundryError(f"{role}: {name} is {value}; allowed is 0 to 1")


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
