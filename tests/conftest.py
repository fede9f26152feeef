"""Shapes in signatures are checked while tests run; nothing reaches the network; one Ray serves a process."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# Ray runs its workers at niceness 15: beside other tests they would hardly run, and who waits for them waits for minutes.
os.environ.setdefault("RAY_worker_niceness", "0")

import pytest
from jaxtyping import install_import_hook

from tests.distribution import pytest_collection_modifyitems, pytest_xdist_make_scheduler

if TYPE_CHECKING:
    from orchestration.resources.compute import RayCompute

__all__ = ["pytest_collection_modifyitems", "pytest_xdist_make_scheduler"]

install_import_hook(["training", "evaluation", "assets.corpus"], "beartype.beartype")

OBJECT_STORE_BYTES = 80 * 2**20
"""Small, so that a test can fill it."""


@pytest.fixture(scope="session")
def ray_compute() -> Iterator[RayCompute]:
    """Compute on a Ray of two CPUs, which all tests of this process share."""
    import ray

    from orchestration.resources.compute import RayCompute

    yield RayCompute(cpus=2, object_store_bytes=OBJECT_STORE_BYTES)
    ray.shutdown()
