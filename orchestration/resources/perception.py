"""The perception resource: which models look at images, and how a worker builds them."""

from __future__ import annotations

import fcntl
from functools import cached_property
from pathlib import Path

from assets.interfaces import BatchFunction, BatchWorker


class EmbeddedPerception:
    """Small models out of Python packages: Lite0 features against a bank of training concepts, ConSE, OCR.

    The bank holds the training concepts' own pictures (the same art set as the composed scenes, which the row's
    model name says); held-out concepts are never in it. It is built once and kept in ``cache``.
    """

    def __init__(
        self, world_path: Path, cache: Path, threads: int, *, workers_see_cache: bool = True
    ) -> None:
        self._world_path = world_path
        self._cache = cache
        self._threads = threads
        self._workers_see_cache = workers_see_cache

    @property
    def model(self) -> str:
        """Name written into rows."""
        from evaluation.perception.identity import MODEL_NAME

        return MODEL_NAME

    @cached_property
    def digest(self) -> str:
        """sha256 over weights, the bank's pictures and words, and parameters; computed without loading a model."""
        from evaluation.perception.identity import perception_digest

        return perception_digest(*self._bank_inputs)

    def worker(self) -> BatchWorker:
        """A worker from rows (sample_id, image) to regions.

        On this machine it reads the bank from the cache; to other machines the bank's 5 MB travel along.
        """
        from evaluation.perception.embedded import build_embedded_perceiver

        path = self._bank()
        if self._workers_see_cache:
            return BatchWorker(build_perceiver_from_file, {"bank": str(path), "threads": self._threads})
        return BatchWorker(build_embedded_perceiver, {"bank": path.read_bytes(), "threads": self._threads})

    @cached_property
    def _bank_inputs(self) -> tuple[dict[str, bytes], tuple[str, ...]]:
        """Pictures of training concepts by name, and the words that may be answered where the bank knows nothing."""
        from assets.corpus.art import bank_pictures, drawings
        from assets.corpus.scenes import load_world

        return bank_pictures(load_world(self._world_path).concepts), tuple(sorted(drawings()))

    def _bank(self) -> Path:
        """File of the fitted bank, made unless these very inputs were fitted before."""
        from evaluation.perception.bank import build_bank
        from evaluation.perception.identity import bank_inputs_digest
        from training.run_folder import write_bytes_atomic

        path = self._cache / f"concept-bank-{bank_inputs_digest(*self._bank_inputs)[:16]}.npz"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # two runs that start together build it once
            if not path.exists():
                write_bytes_atomic(path, build_bank(*self._bank_inputs).to_bytes())
        return path


def build_perceiver_from_file(bank: str, threads: int) -> BatchFunction:
    """The perceiver, inside a worker that sees the cache."""
    from evaluation.perception.embedded import build_embedded_perceiver

    return build_embedded_perceiver(Path(bank).read_bytes(), threads=threads)
