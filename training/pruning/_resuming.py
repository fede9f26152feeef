"""Mask learning that can be interrupted: its whole state in a folder, from which a rerun goes on bit by bit.

learner-<digest>.pt    the learner's state, updates seen and cost; the digest is that of the specification, so that states of
                       other specifications lie beside it untouched
progress.json          where the learning stands, for whoever looks on
"""

from __future__ import annotations

import io
import json
import pickle
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from training.errors import FoundryError, write_error
from training.pruning.learning import MaskLearner, MaskUpdate
from training.pruning.metering import Meter, ScoringCost
from training.run_folder import write_bytes_atomic, write_text_atomic

SAVE_EVERY = 5
"""Updates between two saved states."""


class LearningFolder:
    """The files of one mask learning; every write is atomic."""

    def __init__(self, path: Path, digest: str) -> None:
        """Raises FoundryError where the folder cannot be made."""
        self.path, self.digest = Path(path), digest
        self.state_path = self.path / f"learner-{digest[:16]}.pt"
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise write_error(self.path, error) from error

    def save(self, learner: MaskLearner, history: list[MaskUpdate], cost: ScoringCost) -> None:
        """Replace the saved state."""
        buffer = io.BytesIO()
        kept = {
            "digest": self.digest,
            "learner": learner.state(),
            "history": [asdict(update) for update in history],
            "cost": asdict(cost),
        }
        torch.save(kept, buffer)
        write_bytes_atomic(self.state_path, buffer.getvalue())

    def restore(self, learner: MaskLearner) -> tuple[list[MaskUpdate], ScoringCost]:
        """Set the learner to the saved state, if there is one; the updates it has seen and what they cost.

        Raises FoundryError for a state that cannot be read.
        """
        if not self.state_path.exists():
            return [], ScoringCost()
        kept = self._read()
        learner.restore(kept["learner"])
        return [MaskUpdate(**update) for update in kept["history"]], ScoringCost(**kept["cost"])

    def write_progress(
        self, update: MaskUpdate, updates: int, cost: ScoringCost, seconds_left: float
    ) -> None:
        """Replace ``progress.json``."""
        told = {
            "update": update.number,
            "updates": updates,
            "loss": update.loss,
            "distance": update.distance,
            "penalties": dict(update.penalties),
            "seconds": cost.seconds,
            "seconds_left": seconds_left,
        }
        write_text_atomic(self.path / "progress.json", json.dumps(told, indent=1), durable=False)

    def _read(self) -> dict[str, Any]:
        try:
            kept: Any = torch.load(self.state_path, map_location="cpu", weights_only=True)
        except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
            raise FoundryError(
                f"{self.state_path}: cannot be read ({error}); remove it to learn from the start"
            ) from error
        if not isinstance(kept, dict) or kept.get("digest") != self.digest:
            raise FoundryError(
                f"{self.state_path}: holds the state of another specification; remove it to learn from the start"
            )
        return kept


def learn(
    learner: MaskLearner, folder: LearningFolder, meter: Meter, log: Callable[[str], None]
) -> tuple[list[MaskUpdate], ScoringCost]:
    """All updates that are left, saving every few; what they all saw, and what they cost with those before.

    Raises FoundryError as :meth:`MaskLearner.update` does, with the last state saved, and when it cannot be saved.
    """
    history, cost = folder.restore(learner)
    meter.before = cost
    updates, first = learner.options.updates, learner.updates
    if first:
        log(f"{first} of {updates} updates were made before; going on from there")
    for number in range(first + 1, updates + 1):
        history.append(learner.update())
        left = meter.own_seconds / (number - first) * (updates - number)
        log(f"update {number} of {updates}: loss {history[-1].loss:.4g}, {left:.0f} s left")
        if number % SAVE_EVERY == 0 or number == updates:
            cost = meter.cost
            folder.save(learner, history, cost)
            folder.write_progress(history[-1], updates, cost, left)
    return history, cost
