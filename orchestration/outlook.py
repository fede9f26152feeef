"""What a demo is going to do and how long it will take, told before anything runs, and how much of it is left."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache

from assets.graph.interfaces import Surroundings
from assets.graph.steps import STEPS, input_label
from assets.reports.ledger import DEMO_LEDGER, LEDGER_PROFILE
from orchestration.catalog import partition_keys
from orchestration.demo import Phase, phases, stages_of
from orchestration.freshness import freshness_of
from orchestration.profile import Profile
from orchestration.selection import wanted_models

_SECONDS_TO_JUDGE_PACE = 10.0
_SLOWEST, _FASTEST = 8.0, 0.25
"""Between these factors of what the ledger expects the pace of a machine is believed."""


@dataclass(frozen=True)
class Expected:
    """A phase that has something to do. ``seconds`` is None where no ledger says what its runs take."""

    title: str
    num_runs: int
    seconds: float | None


def outlook(
    profile: Profile,
    surroundings: Surroundings,
    train_autoencoder: bool,
    *,
    everything: bool = False,
    until: str | None = None,
) -> list[Expected]:
    """The phases of :func:`orchestration.demo.run_demo` that will have something to do, by what the records say.

    A version will be made again when it is missing or stale, or when one of its inputs will be made again. Bytes are
    verified later, phase by phase: where one is damaged there will be more to do.
    """
    needs = _foreseen(profile, surroundings)
    seconds_of = _seconds_of(profile) if profile.name == LEDGER_PROFILE else None
    found = []
    for phase in phases(profile, surroundings, train_autoencoder, everything=everything, needs=needs):
        if phase.title == until:
            break
        if phase.launches:
            seconds = None if seconds_of is None else sum(map(seconds_of, _made(phase, needs)))
            found.append(Expected(phase.title, len(phase.launches), seconds))
    return found


def _made(phase: Phase, needs: Callable[[str, str | None], bool]) -> Iterable[str]:
    """The step of each version that a phase makes."""
    for launch in phase.launches:
        yield from (name for name in launch.makes if needs(name, launch.partition))


def _foreseen(profile: Profile, surroundings: Surroundings) -> Callable[[str, str | None], bool]:
    """Whether a version will be made again."""
    labels = {input_label(name, key): (name, key) for name in STEPS for key in partition_keys(profile, name)}

    @cache
    def needs(name: str, key: str | None) -> bool:
        if freshness_of(profile, surroundings, name, key).state != "fresh":
            return True
        manifest = surroundings.store.current(name, key)
        inputs = (
            [labels[label] for label in manifest.provenance.inputs if label in labels] if manifest else []
        )
        return any(needs(*version) for version in inputs if version != (name, key))

    return needs


def _seconds_of(profile: Profile) -> Callable[[str], float]:
    """What one version of a step takes by the ledger: its stage's seconds, shared by all versions of the stage."""
    asked, stages = wanted_models(profile, everything=False), stages_of(profile.recipes.kinds)
    versions = Counter(
        stages[name]
        for name, step in STEPS.items()
        for _ in asked.get(step.partitioned_by or "", partition_keys(profile, name))
    )
    budgets = {stage.name: stage.budget_seconds for stage in DEMO_LEDGER}
    return lambda name: budgets[stages[name]] / versions[stages[name]]


class TimeLeft:
    """What is left of a demo: what the ledger expects of it, corrected by how fast this machine has been so far."""

    def __init__(self, expected: Sequence[Expected], clock: Callable[[], float] = time.monotonic) -> None:
        self._ahead = {phase.title: phase.seconds for phase in expected}
        self._clock = clock
        self._now: float | None = 0.0  # seconds expected of the phase that runs
        self._since = clock()
        self._expected = self._taken = 0.0

    def begin(self, title: str) -> None:
        """A phase begins, and with it the one before has ended."""
        now = self._clock()
        if self._now:
            self._expected, self._taken = self._expected + self._now, self._taken + now - self._since
        self._now, self._since = self._ahead.pop(title, 0.0), now

    @property
    def seconds(self) -> float | None:
        """Seconds left; None where nobody knows."""
        ahead = list(self._ahead.values())
        if self._now is None or None in ahead:
            return None
        here = max(self._now * self._pace - (self._clock() - self._since), 0.0)
        return here + self._pace * sum(seconds for seconds in ahead if seconds is not None)

    @property
    def _pace(self) -> float:
        if self._expected < _SECONDS_TO_JUDGE_PACE:
            return 1.0
        return min(max(self._taken / self._expected, _FASTEST), _SLOWEST)


def duration_text(seconds: float) -> str:
    """A duration that is not known exactly, as people say it."""
    if seconds < 90:
        return f"about {max(round(seconds / 10) * 10, 10)} s"
    return f"about {round(seconds / 60)} minutes"
