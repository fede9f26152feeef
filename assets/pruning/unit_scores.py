"""Scores of a model's units, made in a worker: one row of work, a folder of results."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from assets.derivation.work_items import table_items
from assets.graph.interfaces import BatchWorker, Compute, Resources, Store
from assets.models.drawing import (
    DrawingPlace,
    as_meant,
    draw_held_out,
    load_denoiser,
    stored_prompts,
)
from assets.pages.progress_log import relayed
from assets.pages.sheets import sheet_jpeg
from training.digests import canonical_json, sha256_bytes
from training.errors import FoundryError
from training.recipes.pruned_models import ScoringRecipe
from training.recipes.pruning import LEARNED_METHODS
from training.run_folder import write_bytes_atomic

if TYPE_CHECKING:
    import torch

    from training.feed.latents import LatentBatch
    from training.model_folders.denoiser import Denoiser
    from training.shards import TrainingShards

SCORES_FILE, HISTORY_FILE, COST_FILE = "unit_scores.safetensors", "history.json", "cost.json"
OUTSIDE_DIGEST = (COST_FILE,)
"""What a scoring took differs from run to run; its scores do not."""
SPARSITIES_SHOWN = (0.1, 0.2, 0.3, 0.5)
PICTURES_SHOWN = 8
PROGRESS_FILE = "progress.json"
LOGGER = logging.getLogger(__name__)


def score_model(
    store: Store,
    compute: Compute,
    resources: Resources,
    recipe: ScoringRecipe,
    parent: tuple[str, str],
    runs: Path,
    log: Callable[[str], None],
) -> Path:
    """Score the units of a published model and return the folder of scores, history and cost.

    Learning goes on where it was interrupted. Raises FoundryError as :func:`training.pruning.score_units` does.
    """
    shards = store.local_folder("training_shards", require_gate=True)
    model, digest = store.local_folder(*parent, require_gate=True), store.require(*parent).digest
    about = {"recipe": recipe.settings(), "model": digest, "shards": store.require("training_shards").digest}
    folder = runs / "unit_scores" / sha256_bytes(canonical_json(about).encode())
    worker = BatchWorker(
        ScoringWorker,
        {
            "model": str(model),
            "model_digest": digest,
            "shards": str(shards),
            "recipe": recipe.settings(),
            "folder": str(folder),
        },
    )
    work = table_items(pa.table({"recipe": [recipe.name]}), 1)
    with relayed(lambda: progress_line(folder / PROGRESS_FILE), log):
        for _ in compute.map_shards(worker, work, replace(resources, actors=1, batch_size=1), LOGGER.debug):
            pass
    return folder / "result"


def progress_line(progress: Path) -> str:
    """How far the learning of masks is; nothing while it has written nothing."""
    if not progress.is_file():
        return ""
    told = json.loads(progress.read_text(encoding="utf-8"))
    return (
        f"update {told['update']} of {told['updates']}, loss {told['loss']:.4f}, distance {told['distance']:.4f}, "
        f"{told['seconds_left']:.0f} s left"
    )


class ScoringWorker:
    """Batch function that scores the model it was built for; its one row is the name of the recipe."""

    def __init__(
        self, model: str, model_digest: str, shards: str, recipe: dict[str, Any], folder: str
    ) -> None:
        self._model, self._model_digest, self._shards = Path(model), model_digest, Path(shards)
        self._recipe, self._folder = ScoringRecipe.model_validate(recipe), Path(folder)

    def __call__(self, batch: pa.Table) -> pa.Table:
        from training.feed.conditions import alt_texts
        from training.hardware import sampling_device
        from training.model_folders.denoiser import Denoiser
        from training.model_folders.parents import check_text_encoder
        from training.pruning import write_scores
        from training.pruning.scoring import score_units
        from training.shards import TrainingShards

        recipe, shards = self._recipe, TrainingShards.open(self._shards)
        encoder = shards.description.text_encoder_digest
        check_text_encoder(self._model, encoder, f"recipe '{recipe.name}': its parent '{recipe.parent}'")
        denoiser = Denoiser.load(self._model, sampling_device())
        scored = score_units(
            recipe.method,
            denoiser,
            alt_texts(shards, training_rows(shards, prompts_needed(recipe))),
            captioned_latents(shards, recipe, denoiser.device) if recipe.method == "taylor" else None,
            recipe.pruning,
            kinds=recipe.kinds,
            seed=recipe.seed,
            folder=self._folder,
            model_digest=self._model_digest,
            latent_size=denoiser.size_from_data(shards.description.latent_shapes[0]),
            log=LOGGER.debug,
        )
        result = self._folder / "result"
        result.mkdir(parents=True, exist_ok=True)
        history = [vars(update) for update in scored.history]
        write_bytes_atomic(result / HISTORY_FILE, (json.dumps(history, indent=1) + "\n").encode())
        write_bytes_atomic(result / COST_FILE, (json.dumps(vars(scored.cost), indent=1) + "\n").encode())
        write_scores(result / SCORES_FILE, scored.scores)
        return batch


def prompts_needed(recipe: ScoringRecipe) -> int:
    """How many prompts a method draws."""
    if recipe.method == "block_removal":
        return recipe.pruning.block_removal.prompts
    return recipe.pruning.prompts if recipe.method in LEARNED_METHODS else 1


def captioned_latents(shards: TrainingShards, recipe: ScoringRecipe, device: torch.device) -> LatentBatch:
    """Latents of training samples with their alt-texts, for Taylor scores."""
    import torch

    from training.feed.conditions import alt_texts
    from training.feed.latents import LatentBatch

    rows = training_rows(shards, recipe.pruning.taylor.samples)
    latents = torch.from_numpy(shards.gather_latents(rows)).to(device)
    return LatentBatch(latents, alt_texts(shards, rows).to(device), np.zeros(len(rows), np.int64))


def training_rows(shards: TrainingShards, count: int) -> np.ndarray:
    """The first samples of the training split. Raises FoundryError when there are fewer."""
    rows = np.flatnonzero(np.array(shards.samples["split"].to_pylist()) == "train")[:count]
    if len(rows) < count:
        raise FoundryError(
            f"training_shards hold {len(rows)} training samples, and 'prompts' is {count}; lower it or land more images"
        )
    return rows


def sparsities_sheet(
    store: Store, place: DrawingPlace, model: Path, scores: Path, steps: int, guidance: float
) -> bytes:
    """A JPEG: a row of the whole model's pictures, and one for each share of units pruned by the scores of a folder.

    Held-out prompts, the same noise in every row; each kind is ranked over all modules.
    """
    prompts = stored_prompts(store, PICTURES_SHOWN // 2)
    tiles: list[bytes] = []
    captions: list[str] = []
    for sparsity in (0.0, *SPARSITIES_SHOWN):
        load = partial(load_cut, str(model), str(scores / SCORES_FILE), sparsity)
        drawn = draw_held_out(place, load, prompts, [as_meant(model, steps, guidance)])
        tiles += drawn["image"].to_pylist()
        captions += [f"-{sparsity:.0%}" if sparsity else "whole"] * drawn.num_rows
    return sheet_jpeg(tiles, captions, columns=prompts.num_rows)


def load_cut(model: str, scores: str, sparsity: float) -> Denoiser:
    """A model folder in memory without the share of its units that score lowest; whole for 0."""
    from training.pruning import keep_best, prune, read_scores
    from training.pruning.ratios import ratio_of_sparsity

    dense = load_denoiser(model)
    if not sparsity:
        return dense
    found = read_scores(Path(scores))
    ratios = dict.fromkeys([kind for kind, _ in found], ratio_of_sparsity(sparsity))
    return replace(dense, backbone=prune(dense.backbone, keep_best(found, ratios, "global")))
