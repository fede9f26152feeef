"""Which tests of a parallel run share a process, and in which order they are begun.

What is expensive to make is made once a process: the group ``commands`` builds the smoke workspace with which all
end-to-end tests begin, ``ray`` starts one Ray for all tests of the compute, ``server`` one Dagster webserver, ``forks``
a server of processes that have imported torch, ``papers`` counts the papers' models. The groups wait a great deal, so they come first, side by side with what
computes; small files come last, to fill up.

pytest-xdist's own groups (``--dist loadgroup``) do not work with pytest from 9.2 on: they travel as a suffix of
``item._nodeid``, which pytest no longer reads. Hence a scheduler of our own, by the same extension point.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from xdist.scheduler.protocol import Scheduling

GROUPS = {
    "commands": r"tests/end_to_end/(?!test_user_interface)",
    "ray": r"tests/orchestration/test_(compute|training_cluster)",
    "server": r"tests/end_to_end/test_user_interface",
    "forks": r"tests/training/(test_run|loop/test_parallelism|loop/test_async_checkpointing)\.py",
    "papers": r"tests/evaluation/(claims/test_claims|claims/test_counted|analysis/test_sizes)\.py",
}
"""Pattern of the paths of each group, in the order in which groups are begun."""

THEN = ("tests/training/", "tests/orchestration/", "")
"""Beginnings of paths in the order in which all other files are begun: the longest first."""


def scope_of(nodeid: str) -> str:
    """The group of a test, or its file where it is in none: what is worked on in one process."""
    path = nodeid.split("::", 1)[0]
    return next((name for name, pattern in GROUPS.items() if re.match(pattern, path)), path)


def rank_of(nodeid: str) -> int:
    """The place of a test's scope in the order of beginning."""
    names = list(GROUPS)
    scope = scope_of(nodeid)
    if scope in names:
        return names.index(scope)
    return len(names) + next(place for place, start in enumerate(THEN) if scope.startswith(start))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put tests in the order of beginning; within a file they stay as they are written."""
    items.sort(key=lambda item: rank_of(item.nodeid))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> Scheduling:
    """Distribute whole scopes, in the order in which they were collected."""
    from xdist.scheduler import LoadScopeScheduling

    class ByScope(LoadScopeScheduling):
        """Scopes as above instead of modules and classes."""

        def _split_scope(self, nodeid: str) -> str:
            return scope_of(nodeid)

    config.option.loadscopereorder = False  # the order of collection counts, not the number of tests
    return ByScope(config, log)
