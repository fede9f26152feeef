"""Who an engine is: names and digests that change with everything that changes readings. Light: loads nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from training.digests import canonical_json, sha256_bytes

READING_VERSION = 1  # raise when the same engine and settings would read otherwise

RAPID_SHA256: Mapping[str, str] = {
    "PP-OCRv6_det_small.onnx": "090f04abcd9d9a7498bc4ebf677e4cb9bdce1fe4197ddb7e529f1ef44e1ff94f",
    "PP-OCRv6_rec_small.onnx": "6f327246b50388f3c176ae304bd95767ea6dc0c9ae92153ef8cbe210b3c14884",
}


def rapid_name(detector_side_px: int) -> str:
    """The engine and the setting that readings depend on most."""
    return f"rapidocr 3.10.0 (PP-OCRv6 small, detector at {detector_side_px} px)"


def rapid_digest(detector_side_px: int) -> str:
    """sha256 over weights and settings of rapidocr."""
    return reader_digest("rapidocr", {"weights": dict(RAPID_SHA256), "detector_side_px": detector_side_px})


def reader_digest(engine: str, about: Mapping[str, Any]) -> str:
    """sha256 over an engine's name, its settings and how pictures are prepared."""
    return sha256_bytes(canonical_json({"ocr": engine, **about, "version": READING_VERSION}).encode())
