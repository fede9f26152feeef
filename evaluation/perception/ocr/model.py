"""Engines in the role ``ocr``: their settings, identity and how a worker of each is built. Light: no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from evaluation.perception.embedded.settings import EmbeddedSettings
from evaluation.perception.ocr.identity import rapid_digest, rapid_name
from evaluation.perception.ocr.reading import Reader
from evaluation.perception.role_models import BatchFunction, Nomination, RoleModel, Workplace
from training.errors import FoundryError
from training.recipes.validation import validate


class RapidSettings(BaseModel):
    """What a profile may set of rapidocr."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    detector_side_px: int = Field(256, ge=64, le=2048, description="shorter side that the detector works at")


class TesseractSettings(BaseModel):
    """What a profile may set of tesseract."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    command: str = Field("tesseract", description="the command, or its path")
    page_mode: int = Field(6, ge=0, le=13, description="tesseract's --psm: 6 is one block of text")
    language: str = Field("eng", description="one of `tesseract --list-langs`")


class EasySettings(BaseModel):
    """What a profile may set of EasyOCR."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    folder: str | None = Field(None, description="folder of its weights; None for its own")


_SETTINGS: Mapping[str, type[BaseModel]] = {
    "rapidocr": RapidSettings,
    "tesseract": TesseractSettings,
    "easyocr": EasySettings,
}
ENGINES = tuple(_SETTINGS)
"""Families of the role, by name."""


def embedded_ocr(settings: EmbeddedSettings, workplace: Workplace) -> RoleModel:
    """The engine whose weights come with it, as it stands."""
    return _model("rapidocr", RapidSettings().model_dump(), workplace)


def ocr_model(nomination: Nomination, workplace: Workplace) -> RoleModel:
    """An engine by name. Raises FoundryError for settings that are none of its own, for another role, and where it is missing."""
    engine = str(nomination.family)
    settings = validate(_SETTINGS[engine], nomination.own_settings, nomination.place)
    if nomination.role.name != "ocr":
        raise FoundryError(f"{nomination.said}, but {engine} fills the role 'ocr' only.")
    return _model(engine, settings.model_dump(), workplace)


def _model(engine: str, settings: Mapping[str, Any], workplace: Workplace) -> RoleModel:
    if engine == "rapidocr":
        name, digest = rapid_name(**settings), rapid_digest(**settings)
    else:
        reader = reader_of(engine, settings, workplace.threads)
        name, digest = reader.name, reader.digest
    told = {"engine": engine, "settings": dict(settings), "threads": workplace.threads}
    return RoleModel(
        name,
        ("image",),
        lambda: digest,
        lambda: (build_ocr_worker, told),
        {"threads": workplace.threads, "keep_loaded": True},
    )


def reader_of(engine: str, settings: Mapping[str, Any], threads: int) -> Reader:
    """An engine, ready to read. Raises FoundryError naming what is not installed and the remedy, and for an unknown engine."""
    if engine not in _READERS:
        raise FoundryError(f"OCR engine '{engine}' is not known; name one of {', '.join(ENGINES)}")
    return _READERS[engine](threads=threads, **settings)


def _rapid(**settings: Any) -> Reader:
    from evaluation.perception.ocr.rapid import RapidReader

    return RapidReader(**settings)


def _tesseract(**settings: Any) -> Reader:
    from evaluation.perception.ocr.tesseract import TesseractReader

    return TesseractReader(**settings)


def _easy(threads: int, **settings: Any) -> Reader:
    from evaluation.perception.ocr.easy import EasyReader

    return EasyReader(**settings)


_READERS: Mapping[str, Callable[..., Reader]] = {
    "rapidocr": _rapid,
    "tesseract": _tesseract,
    "easyocr": _easy,
}


def build_ocr_worker(engine: str, settings: Mapping[str, Any], threads: int) -> BatchFunction:
    """The engine, inside a worker."""
    from evaluation.perception.ocr.worker import OcrWorker

    return OcrWorker(reader_of(engine, settings, threads))
