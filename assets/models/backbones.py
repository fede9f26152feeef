"""Around a trained backbone: the gate before anybody scores it, its loss curve and its card."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from assets.graph.versions import GateResult
from assets.models.training_runs import TrainedRun, run_metadata
from training.errors import FoundryError
from training.run_folder import RunFolder

SMOOTH_ROWS = 5  # rows of metrics that a drawn curve averages over


def gate_of_model(run: TrainedRun) -> GateResult:
    """Finite loss all the way, and a folder that reloads (with stock classes) to the output it was saved with."""
    finite = finite_losses(run)
    reloads = gate_of_folder(run.folder.model)
    findings = {"finite_loss": finite, "final_loss": run.done.final_loss, **reloads.findings}
    return GateResult(finite and reloads.passed, findings)


def gate_of_folder(folder: Path, tolerance: float = 1e-4) -> GateResult:
    """A model folder reloads (with stock classes) to the output it was saved with, up to rounding."""
    from training.model_folders.probe import reload_equals_saved

    try:
        return GateResult(True, {"reload_difference": reload_equals_saved(folder, tolerance)})
    except FoundryError as error:
        return GateResult(False, {"reload": str(error)})


def finite_losses(run: TrainedRun) -> bool:
    """Whether every logged loss is a number."""
    losses = run.folder.read_metrics()["loss"].to_numpy()
    return bool(len(losses) and np.all(np.isfinite(losses)) and np.isfinite(run.done.final_loss))


def loss_curve(run: RunFolder) -> bytes:
    """The run's loss over images seen, as a small JPEG for the asset page."""
    import io

    from PIL import Image

    from evaluation.plots.basic import Curve, loss_curves
    from evaluation.plots.contact_sheets import inline_jpeg

    metrics, name = run.read_metrics(), run.read_spec().recipe.name
    curve = Curve(
        name,
        metrics["images_seen"].to_numpy().astype(np.float64),
        metrics["loss"].to_numpy().astype(np.float64),
    )
    png = loss_curves([curve], title=f"{name}: training loss", smooth=SMOOTH_ROWS)
    return inline_jpeg(Image.open(io.BytesIO(png)).convert("RGB"), max_bytes=60_000)


def student_card(run: TrainedRun, profile: str, scores: str, guidance: float) -> str:
    """The card of a few-step student: that of a backbone, how it is to be sampled, and how it compares to its teacher."""
    return (
        f"{backbone_card(run, profile)}\n## Few steps\n\nDistilled from `{run.spec.recipe.parent}` with guidance "
        f"{guidance:g} built in: sample it in 1 to 4 steps with guidance 1.\n\n{scores}\n"
    )


def smaller_card(run: TrainedRun, profile: str, comparison: str) -> str:
    """The card of a model cut out of another: that of a backbone, and how it compares to its parent."""
    return (
        f"{backbone_card(run, profile)}\n## Beside its parent\n\nMade from `{run.spec.recipe.parent}`.\n\n"
        f"{comparison}\n"
    )


def backbone_card(run: TrainedRun, profile: str) -> str:
    """The model card: what it is, what it was made from, how to sample from it, and whose art it has seen."""
    from assets.corpus.art import ATTRIBUTION
    from training.model_folders.card import model_card_text

    results = {
        name: value for name, value in run_metadata(run).items() if name not in ("spec_hash", "run_folder")
    }
    card = model_card_text(run.spec, run.folder.model, {"profile": f"{profile} (its own scale)", **results})
    return f"{card}\n## Credits and limits\n\n{ATTRIBUTION}\n\nA small model for measuring, not for use: it draws blobs.\n"
