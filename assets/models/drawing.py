"""What a model draws for held-out prompts: the same prompts and noise for all models."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from assets.derivation.work_items import table_items
from assets.encodings.assembly import HELD_OUT
from assets.graph.interfaces import BatchWorker, Compute, Resources, Store
from assets.pages.sheets import sheet_jpeg
from evaluation.tables.samples import GENERATED_SAMPLES
from training.errors import FoundryError

if TYPE_CHECKING:
    from training.conditioning import Prompts
    from training.shards import TrainingShards

NUM_SHOWN = 24


def draw_samples(
    store: Store,
    compute: Compute,
    resources: Resources,
    *,
    recipe: str,
    prompts_per_split: int,
    num_steps: int,
    guidance: float,
    seed: int,
    function_version: int,
    log: Callable[[str], None],
) -> pa.Table:
    """Rows of :data:`evaluation.tables.samples.GENERATED_SAMPLES` for the first held-out samples of each split."""
    from training.shards import TrainingShards

    shards = TrainingShards.open(store.local_folder("training_shards", require_gate=True))
    model = store.local_folder("backbone", recipe, require_gate=True)
    prompts = held_out_prompts(shards.samples, prompts_per_split, seed)
    worker = BatchWorker(
        SampleWorker,
        {
            "model": str(model),
            "model_digest": store.require("backbone", recipe).digest,
            "shards": str(shards.folder),
            "recipe": recipe,
            "num_steps": num_steps,
            "guidance": guidance,
            "function_version": function_version,
        },
    )
    parts = list(compute.map_shards(worker, table_items(prompts, resources.batch_size), resources, log))
    return pa.concat_tables(parts).sort_by([("split", "ascending"), ("sample_id", "ascending")])


def preview(shards_folder: Path, model_folder: Path, recipe: str) -> bytes:
    """A small JPEG of eight quick samples for held-out prompts, for the model's own page."""
    from training.shards import TrainingShards

    prompts = held_out_prompts(TrainingShards.open(shards_folder).samples, 4, seed=0)
    worker = SampleWorker(
        str(model_folder), "", str(shards_folder), recipe, num_steps=12, guidance=3.0, function_version=0
    )
    return sample_sheet(worker(prompts))


def held_out_prompts(samples: pa.Table, per_split: int, seed: int) -> pa.Table:
    """Rows (row, sample_id, split, prompt, seed): the original alt-text of the first samples of each held-out split.

    Each prompt has a noise seed of its own, a function of ``seed`` and the sample alone.
    """
    splits = np.array(samples["split"].to_pylist())
    rows = np.concatenate([np.flatnonzero(splits == split)[:per_split] for split in HELD_OUT])
    if len(rows) == 0:
        raise FoundryError(
            "The training shards hold no held-out samples, so there is nothing to prompt models with. Import more "
            "pictures (one in ten is held out), or give shards a column 'split' with held_out_images."
        )
    chosen = samples.take(pa.array(rows))
    seeds = [
        int.from_bytes(hashlib.sha256(f"{seed}/{sample_id}".encode()).digest()[:6], "big")
        for sample_id in chosen["sample_id"].to_pylist()
    ]
    return pa.table(
        {
            "row": pa.array(rows, pa.int64()),
            "sample_id": chosen["sample_id"].combine_chunks(),
            "split": chosen["split"].combine_chunks(),
            "prompt": [captions[0] for captions in chosen["captions"].to_pylist()],
            "seed": pa.array(seeds, pa.int64()),
        }
    )


class SampleWorker:
    """Batch function from prompts to pictures; loads the model once."""

    def __init__(
        self,
        model: str,
        model_digest: str,
        shards: str,
        recipe: str,
        num_steps: int,
        guidance: float,
        function_version: int,
    ) -> None:
        from training.hardware import sampling_device
        from training.model_folders.denoiser import Denoiser
        from training.shards import TrainingShards

        self._denoiser = Denoiser.load(Path(model), sampling_device())
        self._shards = TrainingShards.open(Path(shards))
        self._constants = {"recipe": recipe, "model_digest": model_digest}
        self._num_steps = num_steps
        self._guidance = guidance
        self._function_version = function_version

    def __call__(self, batch: pa.Table) -> pa.Table:
        from assets.corpus.image_io import encode_png
        from training.model_folders.denoiser import sample_with

        rows = batch["row"].to_numpy()
        images = sample_with(
            self._denoiser,
            prompts_of(self._shards, rows),
            batch["seed"].to_pylist(),
            self._num_steps,
            self._guidance,
        )
        prompts, count = batch["prompt"].to_pylist(), batch.num_rows
        return (
            pa.table(
                {
                    **{name: [value] * count for name, value in self._constants.items()},
                    "prompt_id": [hashlib.sha256(prompt.encode()).hexdigest() for prompt in prompts],
                    "sample_id": batch["sample_id"],
                    "split": batch["split"],
                    "prompt": prompts,
                    "seed": batch["seed"],
                    "num_steps": pa.array([self._num_steps] * count, pa.int32()),
                    "guidance": pa.array([self._guidance] * count, pa.float32()),
                    "image": [encode_png(image) for image in images],
                    "function_version": pa.array([self._function_version] * count, pa.int32()),
                }
            )
            .select(GENERATED_SAMPLES.names)
            .cast(GENERATED_SAMPLES)
        )


def prompts_of(shards: TrainingShards, rows: np.ndarray) -> Prompts:
    """The original alt-texts of some samples and the empty text, as the sampler takes them."""
    from training.conditioning import Prompts

    tokens = shards.description.max_tokens
    texts = shards.gather_text(shards.text_of(rows, np.zeros(len(rows), np.int64)), tokens)
    null = shards.gather_text(shards.null_text(1), tokens)
    return Prompts(texts.states, texts.mask, null.states[0], null.mask[0])


def sample_sheet(table: pa.Table) -> bytes:
    """A small JPEG of the first samples with their prompts."""
    shown = table.slice(0, NUM_SHOWN)
    return sheet_jpeg(shown["image"].to_pylist(), shown["prompt"].to_pylist())
