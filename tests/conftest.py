"""Shapes in signatures are checked while tests run; nothing reaches the network; one Ray serves a process.

Libraries, the project and the tests make over a million objects while tests are collected, which stay to the end. The
garbage collector leaves them alone, for to walk through them again and again takes longer than many a test.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# Tests run side by side on tiny tensors: more threads only wait for each other. What sets its threads itself still does.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Ray runs its workers at niceness 15: beside other tests they would hardly run, and who waits for them waits for minutes.
os.environ.setdefault("RAY_worker_niceness", "0")

import pytest
from jaxtyping import install_import_hook

from tests.distribution import pytest_collection_modifyitems, pytest_xdist_make_scheduler

if TYPE_CHECKING:
    from orchestration.resources.compute import RayCompute

__all__ = ["pytest_collection_modifyitems", "pytest_xdist_make_scheduler"]


def modules_with_shapes() -> list[str]:
    """Names of the project's modules that say shapes. The others are not wrapped: a wrapper costs every call 20 microseconds."""
    root = Path(__file__).parents[1]
    return [
        ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
        for room in ("training", "evaluation", "assets", "orchestration")
        for path in sorted((root / room).rglob("*.py"))
        if "from jaxtyping import" in path.read_text(encoding="utf-8")
    ]


install_import_hook(modules_with_shapes(), "beartype.beartype")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection() -> Generator[None, object, object]:
    """Collect tests without collecting garbage, and keep what was made from the collector's later walks."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.freeze()


def pytest_unconfigure() -> None:
    """Libraries that count what they made (nanobind) find it all again when the process ends."""
    gc.unfreeze()


OBJECT_STORE_BYTES = 80 * 2**20
"""Small, so that a test can fill it."""


@pytest.fixture(scope="session")
def ray_compute() -> Iterator[RayCompute]:
    """Compute on a Ray of two CPUs, which all tests of this process share."""
    import ray

    from orchestration.resources.compute import RayCompute

    yield RayCompute(cpus=2, object_store_bytes=OBJECT_STORE_BYTES)
    ray.shutdown()
