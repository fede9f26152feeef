"""One way from a recipe to a published model: resolve, dispatch, gate, describe."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assets.graph.interfaces import Compute, Models, Store
from assets.graph.lineage import as_records, trace
from assets.graph.versions import GateResult, Manifest, Provenance
from training.errors import FoundryError
from training.recipes.execution import Execution
from training.recipes.files import load_recipe, merge
from training.recipes.specification import Recipe, TrainingSpecification
from training.run_folder import Done, RunFolder, prepare

Log = Callable[[str], None]


@dataclass(frozen=True)
class TrainedRun:
    """A run that is done: its folder, specification and result record."""

    folder: RunFolder
    spec: TrainingSpecification
    done: Done


def resolve_recipe(recipe: Recipe, overrides: Mapping[str, Any]) -> Recipe:
    """The recipe with Launchpad overrides merged in (None means: the recipe's own value), validated again."""
    given = {name: value for name, value in overrides.items() if value is not None}
    return load_recipe(
        merge(recipe.model_dump(mode="json"), given), f"recipe '{recipe.name}' with run config"
    )


def train_to_end(
    recipe: Recipe,
    digests: Mapping[str, str],
    paths: Mapping[str, Path],
    models: Models,
    compute: Compute,
    log: Log,
    snapshot_images: tuple[int, ...] = (),
) -> TrainedRun:
    """Train in the run folder of the specification's hash; a run that was interrupted goes on where it was.

    The backbone is kept after each of ``snapshot_images``. Raises TrainingFailed or TrainingStopped; checkpoints stay for the next launch.
    """
    spec = TrainingSpecification(recipe=recipe, inputs=dict(digests))
    run = prepare(models.runs, spec, execution_of(recipe, models, paths, snapshot_images))
    log(f"spec hash {spec.spec_hash}")
    compute.train(run.path, models.resources, log)
    done = run.read_done()
    if done is None:
        raise FoundryError(
            f"{run.path} has no done.json although its worker ended. Launch the partition again."
        )
    return TrainedRun(run, spec, done)


def execution_of(
    recipe: Recipe, models: Models, paths: Mapping[str, Path], snapshot_images: tuple[int, ...] = ()
) -> Execution:
    """How a training runs on this machine: the profile's settings, and what the graph knows itself."""
    stored = models.execution.get("text_mode", "stored") == "stored"
    own = {
        "threads": models.resources.threads,
        "world_size": 1 if recipe.objective_row.one_process else models.resources.workers,
        "strategy": models.resources.strategy,
        "input_paths": {name: str(path) for name, path in paths.items()},
        "snapshot_images": snapshot_images,
        "text_encoder": None if stored else models.text_encoder,
    }
    return Execution.model_validate({**models.execution, **own})


def publish(
    store: Store,
    name: str,
    partition: str | None,
    run: TrainedRun,
    provenance: Provenance,
    gate: GateResult,
    card: str,
) -> Manifest:
    """Publish the run's model folder with card and lineage inside; both travel outside its content digest."""
    model = run.folder.model
    manifest = publish_with_card(store, name, partition, model, provenance, gate, card, run.spec.spec_hash)
    if manifest.digest != run.done.model_digest:
        raise FoundryError(
            f"{model} is not what the training wrote: its digest is {manifest.digest[:12]}, done.json says "
            f"{run.done.model_digest[:12]}. Delete the run folder {run.folder.path} and launch again."
        )
    return manifest


def publish_with_card(
    store: Store,
    name: str,
    partition: str | None,
    model: Path,
    provenance: Provenance,
    gate: GateResult,
    card: str,
    spec_hash: str | None = None,
) -> Manifest:
    """Publish a pipeline folder with card and lineage inside, which do not count as content."""
    (model / "model_card.md").write_text(card, encoding="utf-8")
    (model / "lineage.json").write_text("[]", encoding="utf-8")
    store.publish_folder(name, model, provenance, partition, gate)
    lineage = as_records(trace(store, name, partition))
    if spec_hash is not None:
        lineage[0]["spec_hash"] = spec_hash
    (model / "lineage.json").write_text(json.dumps(lineage, indent=1), encoding="utf-8")
    return store.publish_folder(name, model, provenance, partition, gate)


def run_metadata(run: TrainedRun) -> dict[str, Any]:
    """Figures that every trained model's page shows."""
    done = run.done
    return {
        "spec_hash": run.spec.spec_hash,
        "run_folder": str(run.folder.path),
        "parameters": done.num_parameters,
        "images_seen": done.images_seen,
        "final_loss": done.final_loss,
        "training_seconds": round(done.train_seconds, 1),
        "images_per_second": round(done.images_seen / max(done.train_seconds, 1e-9), 1),
    }
