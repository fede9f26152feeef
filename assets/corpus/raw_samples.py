"""One sample as it lies in a source, before anything is believed about it, and what admits it to a table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from assets.corpus.identity import image_id_of, sample_id_of, split_of
from assets.corpus.image_io import MAX_PIXELS, ImageProblem, decode_rgb

CAPTION_NAMES = ("text", "caption", "alt_text", "alt", "captions", "TEXT", "prompt")
"""Columns or JSON keys that may hold the text, the first that exists counts."""

FILE_POSITION = -1
"""Position of a finding that concerns a file as a whole."""


@dataclass(frozen=True)
class PublishedEntity:
    """An entity that a source brings along: phrase, description and normalised box (x1, y1, x2, y2 in [0, 1])."""

    phrase: str
    description: str
    box_xyxy_norm: tuple[float, float, float, float]


@dataclass(frozen=True)
class RawSample:
    """What a reader found at one position of a file. ``problem`` is (reason, detail) where it could not read on."""

    position: int
    key: str = ""
    image: bytes | None = None
    text: str | None = None
    split: str | None = None
    license: str = "unknown"
    attribution: str = ""
    problem: tuple[str, str] | None = None
    entities: tuple[PublishedEntity, ...] = ()


def clean_text(text: object) -> str | None:
    """Text that every table can hold: no lone surrogates, no NULs, no blanks around; None when nothing is left."""
    if isinstance(text, bytes):
        text = text.decode("utf-8", "replace")
    if not isinstance(text, str):
        return None
    cleaned = text.encode("utf-8", "replace").decode("utf-8").replace("\x00", " ").strip()
    return cleaned.removeprefix("\ufeff").strip() or None


def find_problem(sample: RawSample) -> tuple[str, str] | None:
    """Why a sample cannot be used, as (reason, detail), or None. Does not look into the image."""
    if sample.problem is not None:
        return sample.problem
    if not sample.image:
        return "no_image", "no image bytes at this position"
    if clean_text(sample.text) is None:
        return "no_caption", "no text, or only blanks"
    return None


def admit(
    sample: RawSample, source: str, shard: str, max_pixels: int = MAX_PIXELS
) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """Judge one sample: a row of LANDED_IMAGES or a row of QUARANTINE, the other None. Decodes the image once."""
    problem = find_problem(sample)
    height = width = 0
    if problem is None and sample.image:
        try:
            height, width = decode_rgb(sample.image, max_pixels).shape[:2]
        except ImageProblem as error:
            problem = error.reason, error.detail
    if problem is not None or sample.image is None:
        return None, quarantine_row(source, shard, sample, problem or ("no_image", "no image bytes"))
    image_id = image_id_of(sample.image)
    key = clean_text(sample.key) or str(sample.position)
    row = {
        "sample_id": sample_id_of(image_id, source, key),
        "image_id": image_id,
        "source": source,
        "shard": shard,
        "key": key,
        "split": split_of(image_id, sample.split),
        "image": sample.image,
        "width": width,
        "height": height,
        "alt_text": clean_text(sample.text),
        "license": clean_text(sample.license) or "unknown",
        "attribution": clean_text(sample.attribution) or "",
    }
    return row, None


def quarantine_row(source: str, shard: str, sample: RawSample, problem: tuple[str, str]) -> dict[str, Any]:
    """A row of QUARANTINE."""
    reason, detail = problem
    return {
        "source": source,
        "shard": shard,
        "position": sample.position,
        "key": clean_text(sample.key) or "",
        "reason": reason,
        "detail": clean_text(detail) or "",
    }
