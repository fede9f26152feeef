"""A model with units removed: cut by scores, checked against what was planned and what it was cut from, and described."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from assets.derivation.work_items import table_items
from assets.graph.interfaces import BatchWorker, Store
from assets.graph.versions import GateResult
from assets.models.drawing import DrawingPlace, Texts, as_meant, load_denoiser, stored_prompts
from assets.pages.markdown import markdown_table
from assets.pages.tables import Cell, Column, Table
from assets.pruning.unit_scores import COST_FILE, HISTORY_FILE, SCORES_FILE
from training.recipes.pruned_models import PrunedRecipe, ScoringRecipe
from training.recipes.pruning import LEARNED_METHODS
from training.run_folder import replace_folder

if TYPE_CHECKING:
    from evaluation.analysis.step_errors import StepErrors
    from evaluation.metrics.paired_models import SmallerScore
    from training.pruning import Costs, Keep, Kind, RemovalPlan, Scores

SPARSITY_THAT_GATES = 0.2
"""Up to this share of units a pruned model must keep its parent's score within the margin; larger cuts only report."""
PROMPTS_OF_STEP_ERRORS = 8


@dataclass(frozen=True)
class Cut:
    """A pruned model: its folder, what was to be removed, and the names of surviving tensors that changed (none should)."""

    folder: Path
    parameters: int
    plan: RemovalPlan
    scores: Scores
    keep: Keep
    changed: list[str]

    @property
    def whole_parameters(self) -> int:
        """Of the model that was cut."""
        return self.plan.params


def cut_model(recipe: PrunedRecipe, scores_folder: Path, parent: Path, into: Path) -> Cut:
    """Remove units by their scores and write the pipeline folder ``into``; an older folder there is replaced.

    Raises FoundryError for scores of another model, and for a sparsity or threshold that empties a whole kind.
    """
    from training.diffusion.few_step_schedulers import read_scheduler_config
    from training.diffusion.schedulers import noising_of
    from training.model_folders.export import export_pipeline
    from training.model_folders.parents import load_backbone
    from training.pruning import plan_of_kept, prune, read_scores
    from training.pruning.verification import changed_weights

    whole, scores = load_backbone(parent), read_scores(scores_folder / SCORES_FILE)
    keep = kept_by(recipe, whole, scores)
    pruned = prune(whole, keep)
    noising = noising_of(read_scheduler_config(parent))
    replace_folder(
        into, lambda folder: export_pipeline(folder, pruned, parent / "vae", noising, parent=parent)
    )
    return Cut(
        into,
        sum(parameter.numel() for parameter in pruned.parameters()),
        plan_of_kept(whole, keep),
        scores,
        keep,
        changed_weights(whole, load_backbone(into), keep),
    )


def kept_by(recipe: PrunedRecipe, backbone: Any, scores: Scores) -> Keep:
    """The units that a recipe keeps. Raises FoundryError as the rules of :mod:`training.pruning.discrete_masks` do."""
    from training.pruning import keep_above, keep_best, unit_groups
    from training.pruning.ratios import ratio_of_sparsity
    from training.pruning.removal_plan import scores_of_groups

    kinds = list(dict.fromkeys(kind for kind, _ in scores))
    scores = scores_of_groups(scores, unit_groups(backbone, kinds))
    if recipe.thresholds is not None:
        return keep_above(scores, recipe.thresholds)
    ratios = {kind: ratio_of_sparsity(recipe.sparsity_of(kind)) for kind in kinds}
    return keep_best(scores, ratios, recipe.scope, costs=costs_of(recipe, backbone, kinds))


def costs_of(recipe: PrunedRecipe, backbone: Any, kinds: list[Kind]) -> Costs | None:
    """What a unit costs, where scores are ranked by their cost."""
    from training.pruning.costs import unit_costs

    if recipe.score_per == "unit":
        return None
    return unit_costs(backbone, "parameters" if recipe.score_per == "parameter" else "milliseconds", kinds)


def gate_of_cut(cut: Cut, tolerance: float = 1e-4) -> dict[str, GateResult]:
    """What must hold of every pruned model, by the name of its check."""
    from assets.models.backbones import gate_of_folder
    from assets.models.comparison import gate_of_size

    return {
        "reloads": gate_of_folder(cut.folder, tolerance),
        "parameters_as_planned": gate_of_size(cut.parameters, cut.plan.kept),
        "no_weight_changed": GateResult(not cut.changed, {"changed": ", ".join(cut.changed[:8]) or "none"}),
    }


def gate_of_pruned_score(recipe: PrunedRecipe, scoring: ScoringRecipe, score: SmallerScore) -> GateResult:
    """A small cut by the masks of ecodiff loses no more of the whole model's score than the margin.

    Larger cuts and those by baselines, which are there to be compared with, report and pass.
    """
    from assets.models.comparison import gate_of_score

    found = gate_of_score(score)
    largest = recipe.largest_sparsity
    gates = scoring.method == "ecodiff" and largest is not None and largest <= SPARSITY_THAT_GATES
    return GateResult(found.passed or not gates, {**found.findings, "gates": gates})


def gates_of_pruned(
    recipe: PrunedRecipe, scoring: ScoringRecipe, cut: Cut, score: SmallerScore
) -> dict[str, GateResult]:
    """All gates of a pruned model by the name of their check."""
    return {**gate_of_cut(cut), "score_within_margin": gate_of_pruned_score(recipe, scoring, score)}


def errors_by_step(
    store: Store, place: DrawingPlace, parent: Path, child: Path, sampling: tuple[int, float]
) -> StepErrors:
    """How far the pruned model's answers are from the whole one's, step by step, on held-out prompts."""
    import numpy as np

    from evaluation.analysis.step_errors import StepErrors

    prompts = stored_prompts(store, PROMPTS_OF_STEP_ERRORS // 2)
    steps, guidance = as_meant(parent, *sampling)
    about = {
        "dense": str(parent),
        "pruned": str(child),
        "texts": place.texts,
        "latent_shape": place.latent_shape,
    }
    worker = BatchWorker(StepErrorWorker, {**about, "num_steps": steps, "guidance": guidance})
    work, together = (
        table_items(prompts, prompts.num_rows),
        replace(place.resources, batch_size=prompts.num_rows),
    )
    found = pa.concat_tables(place.compute.map_shards(worker, work, together, place.log)).to_pydict()
    return StepErrors(
        np.array(found["timesteps"][0]), np.array(found["prediction"]), np.array(found["state"])
    )


class StepErrorWorker:
    """Batch function from prompts to the errors of a pruned model by sampling step; loads both models once."""

    def __init__(
        self,
        dense: str,
        pruned: str,
        texts: Callable[[], Texts],
        num_steps: int,
        guidance: float,
        latent_shape: tuple[int, int, int] | None = None,
    ) -> None:
        self._models, self._texts = (load_denoiser(dense), load_denoiser(pruned)), texts()
        self._num_steps, self._guidance = num_steps, guidance
        self._latent_size = self._models[0].size_from_data(latent_shape)

    def __call__(self, batch: pa.Table) -> pa.Table:
        from evaluation.analysis.step_errors import step_errors

        texts, seeds = self._texts(batch), batch["seed"].to_pylist()
        dense, pruned = self._models
        errors = step_errors(dense, pruned, texts, seeds, self._num_steps, self._guidance, self._latent_size)
        return pa.table(
            {
                "timesteps": [errors.timesteps.tolist()] * batch.num_rows,
                "prediction": errors.prediction.tolist(),
                "state": errors.state.tolist(),
            }
        )


UNIT_COLUMNS = (
    Column("kind"),
    Column("units", ","),
    Column("removed", ","),
    Column("parameters removed", ","),
    Column("of the whole model", ".2%"),
)


def units_markdown(cut: Cut) -> str:
    """Units and parameters that went, by kind: unit sparsity and parameter share are different things."""
    kinds = dict.fromkeys(kind for kind, _ in cut.keep)
    plans = [*((kind, cut.plan.of_kind(kind)) for kind in kinds), ("together", cut.plan)]
    rows = [
        (
            kind,
            plan.units,
            Cell(plan.removed_units, note=f"{plan.removed_units / plan.units:.1%}"),
            plan.removed,
            plan.removed / cut.plan.params,
        )
        for kind, plan in plans
    ]
    return markdown_table(Table(UNIT_COLUMNS, rows))


def units_picture(cut: Cut) -> bytes:
    """Scores of all units and which of them went, as a small JPEG."""
    from assets.pages.sheets import figure_jpeg
    from evaluation.analysis.mask_pictures import mask_heat_map
    from evaluation.plots.basic import png_bytes

    return figure_jpeg(png_bytes(mask_heat_map(cut.scores, cut.keep)))


def errors_picture(recipe: str, errors: StepErrors) -> bytes:
    """How far a pruned model is off at every sampling step, as a small JPEG."""
    from assets.pages.sheets import figure_jpeg
    from evaluation.analysis.step_errors import step_errors_picture
    from evaluation.plots.basic import png_bytes

    return figure_jpeg(png_bytes(step_errors_picture({recipe: errors})))


def cost_markdown(cost: Mapping[str, Any]) -> str:
    """What scoring took, as a sentence."""
    memory = cost.get("peak_memory_bytes")
    peak = f", peak memory {memory / 2**20:,.0f} MB above the start" if memory else ""
    return (
        f"{cost['seconds']:,.1f} s, {cost['network_evaluations']:,} evaluations of the network, "
        f"{cost['backward_evaluations']:,} with gradients{peak}"
    )


def read_cost(folder: Path) -> dict[str, Any]:
    """What scoring took, from a folder of scores."""
    return dict(json.loads((folder / COST_FILE).read_text(encoding="utf-8")))


def learning_curve(scoring: ScoringRecipe, folder: Path) -> bytes | None:
    """How loss and distance went over the updates, as a small JPEG; None for methods that learn nothing."""
    import numpy as np

    from assets.pages.sheets import figure_jpeg
    from evaluation.plots.basic import Curve, loss_curves

    history = json.loads((folder / HISTORY_FILE).read_text(encoding="utf-8"))
    if scoring.method not in LEARNED_METHODS or not history:
        return None
    numbers = np.array([row["number"] for row in history], dtype=np.float64)
    curves = [
        Curve(name, numbers * scoring.pruning.accumulate, np.array([row[name] for row in history]))
        for name in ("loss", "distance")
    ]
    return figure_jpeg(
        loss_curves(curves, title=f"{scoring.name}: learning masks", x_label="prompts seen", smooth=1)
    )


def pruned_card(recipe: PrunedRecipe, scoring: ScoringRecipe, cut: Cut, comparison: str, profile: str) -> str:
    """The model card: what was cut from what, by which scores, and how it compares."""
    from assets.corpus.art import ATTRIBUTION
    from training.model_folders.card import usage_code

    return (
        f"# {recipe.name}\n\n`{scoring.parent}` with units removed (EcoDiff, arXiv 2412.02852), not trained afterwards: "
        f"{cut.parameters:,} of {cut.whole_parameters:,} parameters are left, every one as it was. Units are scored by "
        f"`{scoring.method}` (`{scoring.name}`). Profile {profile}, its own scale.\n\n{units_markdown(cut)}\n\n"
        f"## Beside the whole model\n\n{comparison}\n\nIts class is in this project's package, which must be "
        f"installed; `folder` is the path of this folder:\n\n```python\n{usage_code(cut.folder)}```\n\n"
        f"## Credits and limits\n\n{ATTRIBUTION}\n"
    )
