"""The perception resource: which models look at images, and how a worker builds them."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from assets.interfaces import BatchWorker


class EmbeddedPerception:
    """Small models out of Python packages: Lite0 features against a bank of training concepts, ConSE, OCR.

    The bank holds the training concepts' own pictures (the same art set as the composed scenes, which the row's
    model name says); held-out concepts are never in it.
    """

    def __init__(self, world_path: Path, threads: int) -> None:
        self._world_path = world_path
        self._threads = threads

    @property
    def model(self) -> str:
        """Name written into rows."""
        from evaluation.perception.identity import EMBEDDED_MODEL

        return EMBEDDED_MODEL

    @cached_property
    def digest(self) -> str:
        """sha256 over weights, bank and parameters; computed without loading a model."""
        from evaluation.perception.identity import embedded_digest

        return embedded_digest(self._bank())

    def worker(self) -> BatchWorker:
        """A worker from rows (sample_id, image) to regions."""
        from evaluation.perception.embedded import build_embedded_perceiver

        return BatchWorker(build_embedded_perceiver, {"bank": self._bank(), "threads": self._threads})

    def _bank(self) -> dict[str, bytes]:
        from assets.corpus.art import bank_pictures
        from assets.corpus.scenes import load_world

        return bank_pictures(load_world(self._world_path).training_concepts)
