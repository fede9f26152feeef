"""What a demo says before and while it runs: what is to do, how long it takes, how much is left."""

from __future__ import annotations

import io
import time
from pathlib import Path

import pytest
from rich.console import Console

from assets.reports.ledger import DEMO_LEDGER
from orchestration.command import showing
from orchestration.command.showing import Shown, print_outlook
from orchestration.definitions import surroundings_of
from orchestration.demo import Phase
from orchestration.launching import Launch, Outcome
from orchestration.outlook import Expected, TimeLeft, duration_text, outlook
from orchestration.profile import load_profile
from orchestration.workspace import Workspace


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_an_empty_workspace_has_the_whole_ledger_before_it(tmp_path: Path) -> None:
    profile = load_profile("demo")
    expected = outlook(profile, surroundings_of(Workspace(tmp_path, "demo", "scenes"), profile), False)
    start_up = next(stage.budget_seconds for stage in DEMO_LEDGER if stage.name == "start-up")
    budget = sum(stage.budget_seconds for stage in DEMO_LEDGER) - start_up
    assert sum(phase.seconds or 0.0 for phase in expected) == pytest.approx(budget)
    runs = {phase.title: phase.num_runs for phase in expected}
    assert runs["captions, entities and latents"] == profile.num_groups
    assert list(runs)[-1] == "scores, laws and report"


def test_a_profile_without_ledger_tells_runs_and_no_seconds(tmp_path: Path) -> None:
    profile = load_profile("smoke")
    around = surroundings_of(Workspace(tmp_path, "smoke", "scenes"), profile)
    expected = outlook(profile, around, False)
    assert {phase.seconds for phase in expected} == {None}
    stopped = outlook(profile, around, False, until=expected[2].title)
    assert stopped == expected[:2]
    assert TimeLeft(expected).seconds is None


def test_what_is_left_follows_the_ledger_and_then_the_pace_of_the_machine() -> None:
    clock = Clock()
    left = TimeLeft([Expected("a", 2, 20.0), Expected("b", 1, 100.0), Expected("c", 1, 40.0)], clock)
    assert left.seconds == 160
    left.begin("a")
    clock.now += 15
    assert left.seconds == 145
    clock.now += 15
    assert left.seconds == 140, "the phase is late; what comes after it is not shorter for that"
    left.begin("fresh after all")
    left.begin("b")
    assert left.seconds == pytest.approx(1.5 * 140), "30 s instead of 20: the machine is slower"
    clock.now += 50
    assert left.seconds == pytest.approx(1.5 * 140 - 50)
    left.begin("c")
    clock.now += 500
    assert left.seconds == 0


@pytest.mark.parametrize(
    ("seconds", "text"), [(3, "about 10 s"), (84, "about 80 s"), (472, "about 8 minutes")]
)
def test_durations_are_told_as_people_do(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


def test_without_a_terminal_lines_say_what_is_done_and_what_is_left(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(showing, "SECONDS_BETWEEN_LINES", 0.6)
    monkeypatch.setattr(showing, "_SECONDS_BETWEEN_LOOKS", 0.05)
    said = io.StringIO()
    talk = Console(file=said, width=200)
    expected = [Expected("models", 2, 30.0), Expected("report", 1, 600.0)]
    print_outlook(expected, talk)
    launches = (Launch("train", "a"), Launch("train", "b"))
    with Shown(tmp_path, talk, expected) as shown:
        shown.started(Phase("models", launches))
        shown.finished(Outcome(launches[0], "1", 2.0, {}, None))
        time.sleep(1.0)
    lines = said.getvalue().splitlines()
    assert lines[0] == "To do: 3 runs in 2 phases, about 10 minutes on two idle cores."
    assert lines[1].split() == ["models", "2", "run(s)", "30", "s"]
    running = [line for line in lines if "of 2 runs done" in line]
    assert len(running) == 1, "one line in each interval"
    assert running[0].strip().endswith("models: 1 of 2 runs done; about 10 minutes left")
    assert "\x1b" not in said.getvalue()
