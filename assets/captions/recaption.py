"""Recaptions: generated captions beside the alt-texts, which stay where the captioner is not sure enough."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Any

import pyarrow as pa

from assets.schemas import RECAPTIONS
from evaluation.perception.captioner import (
    CAPTIONER_NAME,
    CAPTIONER_VERSION,
    TEMPLATES,
    Caption,
    compose_captions,
)
from training.digests import canonical_json, sha256_bytes
from training.errors import FoundryError


def recaption(
    regions: pa.Table,
    alt_texts: Mapping[str, str],
    min_confidence: float = 0.5,
    k: int = 2,
    seed: int = 0,
    function_version: int = CAPTIONER_VERSION,
) -> pa.Table:
    """Captions of exactly the samples in ``regions``, as rows of :data:`assets.schemas.RECAPTIONS`.

    Args:
        regions: rows of :data:`assets.schemas.REGIONS`, in any order.
        alt_texts: the text that came with each sample, by sample_id.
        min_confidence: captions that score less are not used; the alt-text stands in one row with
            ``kept_original`` and the score that was too low (0 where nothing could be said).
        k: captions per sample, 1 to 4, numbered from 1.
        seed: of the captioner.
        function_version: declared version written into the rows.

    Returns:
        rows sorted by sample_id and caption_index. ``model_digest`` covers perception (the regions' digest), the
        captioner's version and every setting.

    Raises:
        FoundryError: a setting out of range, or a sample without alt-text.
    """
    if not 0.0 <= min_confidence <= 1.0:
        raise FoundryError(f"min_confidence is {min_confidence}; allowed is 0 to 1")
    if not 1 <= k <= len(TEMPLATES):
        raise FoundryError(f"captions per image: k is {k}, allowed are 1 to {len(TEMPLATES)}")
    rows: list[dict[str, Any]] = []
    for sample_id, found in by_sample(regions):
        if sample_id not in alt_texts:
            raise FoundryError(
                f"sample {sample_id}: regions but no alt-text; curate and perceive the same samples"
            )
        captions = compose_captions(found, k, seed)
        digest = captioner_digest(found[0]["model_digest"], min_confidence, k, seed)
        made_by = {
            "seed": seed,
            "model": CAPTIONER_NAME,
            "model_digest": digest,
            "function_version": function_version,
        }
        rows += [
            {"sample_id": sample_id, **row, **made_by}
            for row in _kept(captions, alt_texts[sample_id], min_confidence)
        ]
    return pa.Table.from_pylist(rows, schema=RECAPTIONS)


def by_sample(regions: pa.Table) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Rows of the regions table grouped by sample, both in order (sample_id; region_index)."""
    rows = regions.sort_by([("sample_id", "ascending"), ("region_index", "ascending")]).to_pylist()
    for sample_id, group in groupby(rows, key=lambda row: str(row["sample_id"])):
        yield sample_id, list(group)


def captioner_digest(perception_digest: str, min_confidence: float, k: int, seed: int) -> str:
    """sha256 of what a recaption depends on: part of each row's key."""
    settings = {
        "perception": perception_digest,
        "captioner": CAPTIONER_NAME,
        "version": CAPTIONER_VERSION,
        "min_confidence": min_confidence,
        "k": k,
        "seed": seed,
    }
    return sha256_bytes(canonical_json(settings).encode())


def _kept(captions: list[Caption], alt_text: str, min_confidence: float) -> list[dict[str, Any]]:
    """The captions that are sure enough, or the alt-text alone."""
    sure = [caption for caption in captions if caption.score >= min_confidence]
    if not sure:
        score = max((caption.score for caption in captions), default=0.0)
        return [_row(1, alt_text, score, "original", kept_original=True)]
    return [
        _row(index, caption.text, caption.score, caption.template, kept_original=False)
        for index, caption in enumerate(sure, start=1)
    ]


def _row(index: int, caption: str, score: float, prompt: str, *, kept_original: bool) -> dict[str, Any]:
    return {
        "caption_index": index,
        "caption": caption,
        "score": score,
        "kept_original": kept_original,
        "prompt": prompt,
        "num_words": len(caption.split()),
    }
