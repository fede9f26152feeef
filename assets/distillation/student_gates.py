"""What must hold of a smaller student."""

from __future__ import annotations

from typing import TYPE_CHECKING

from assets.graph.versions import GateResult
from assets.models.backbones import gate_of_model
from assets.models.comparison import gate_of_score, gate_of_size
from assets.models.training_runs import TrainedRun

if TYPE_CHECKING:
    from evaluation.metrics.paired_models import SmallerScore


def gates_of_student(run: TrainedRun, planned: int, score: SmallerScore) -> dict[str, GateResult]:
    """Its gates by the name of their check; ``planned`` are the parameters that its recipe promised."""
    return {
        "finite_and_reloads": gate_of_model(run),
        "parameters_as_planned": gate_of_size(run.done.num_parameters, planned),
        "score_within_margin": gate_of_score(score),
    }
