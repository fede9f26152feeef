"""What models draw for held-out prompts: the same prompts and noise for all, wherever the profile's compute runs.

Every picture that is shown or scored outside a training is drawn by :func:`draw_held_out`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import UInt8

from assets.derivation.work_items import table_items
from assets.encodings.assembly import HELD_OUT
from assets.graph.interfaces import BatchWorker, Compute, Resources, Store
from assets.graph.versions import Provenance
from assets.pages.sheets import sheet_jpeg
from evaluation.tables.samples import GENERATED_SAMPLES
from training.errors import FoundryError

if TYPE_CHECKING:
    from training.conditioning import Condition
    from training.model_folders.denoiser import Denoiser

NUM_SHOWN = 24
PICTURES = "scored_pictures"
"""Table of what models drew when they were compared or scored, a partition a model."""
BATCH = 64
"""Pictures that are drawn together for a comparison."""
INLINE_PICTURES = 512
"""Up to so many are drawn in the step's own process where there is no accelerator: starting workers takes longer."""
Log = Callable[[str], None]
Texts = Callable[[pa.Table], "Condition"]
"""From rows of prompts to what a sampler is told."""


@dataclass(frozen=True)
class DrawingPlace:
    """Where pictures are drawn, and how a worker there gets at the prompts' texts; ``texts`` is picklable.

    ``latent_shape``: channels, height and width of the data's latents, for models that name no size.
    """

    compute: Compute
    resources: Resources
    texts: Callable[[], Texts]
    log: Log
    latent_shape: tuple[int, int, int] | None = None


def drawing_place(store: Store, compute: Compute, resources: Resources, log: Log) -> DrawingPlace:
    """A place whose prompts are samples of the training shards. Raises StoreError where their gate failed."""
    from training.shards import TrainingShards

    shards = store.local_folder("training_shards", require_gate=True)
    shape = TrainingShards.open(shards).description.latent_shapes[0]
    return DrawingPlace(compute, resources, partial(ShardTexts, str(shards)), log, shape)


def drawing_resources(resources: Resources) -> Resources:
    """What a comparison takes of a training's: one worker, in batches of :data:`BATCH`; this process without an
    accelerator."""
    inline = resources.inline_rows if resources.gpus else INLINE_PICTURES
    return replace(resources, workers=1, actors=1, batch_size=BATCH, inline_rows=inline)


def load_denoiser(folder: str) -> Denoiser:
    """A model folder on the accelerator of this process, where it sees one."""
    from training.hardware import sampling_device
    from training.model_folders.denoiser import Denoiser

    return Denoiser.load(Path(folder), sampling_device())


def draw_held_out(
    place: DrawingPlace,
    load: Callable[[], Denoiser],
    prompts: pa.Table,
    samplings: Sequence[tuple[int, float]],
) -> pa.Table:
    """Draw every prompt by every sampling (evaluations of the scheduler, guidance) with one model, loaded once a worker.

    Rows of ``prompts`` (which have a seed, and what ``place.texts`` reads), in order, for one sampling after the other,
    with the columns num_steps, guidance and image (PNG). ``load`` is picklable.
    """
    worker = BatchWorker(
        PictureWorker, {"load": load, "texts": place.texts, "latent_shape": place.latent_shape}
    )
    work = [_sampled(prompts, *sampling, first) for first, sampling in enumerate(samplings)]
    items = [item for rows in work for item in table_items(rows, place.resources.batch_size)]
    drawn = pa.concat_tables(place.compute.map_shards(worker, items, place.resources, place.log))
    return drawn.sort_by("position").drop_columns("position")


def draw_model(
    place: DrawingPlace, folder: Path, prompts: pa.Table, *samplings: tuple[int, float]
) -> pa.Table:
    """:func:`draw_held_out` with a model folder."""
    return draw_held_out(place, partial(load_denoiser, str(folder)), prompts, samplings)


def pictures_of(table: pa.Table) -> UInt8[np.ndarray, "n h w 3"]:
    """The column ``image`` as an array."""
    from assets.corpus.image_io import decode_rgb

    return np.stack([decode_rgb(data) for data in table["image"].to_pylist()])


def as_meant(folder: Path, num_steps: int, guidance: float) -> tuple[int, float]:
    """How a model is sampled: as asked for, but a few-step model in 4 steps without guidance."""
    from training.diffusion.few_step_schedulers import FEW_STEPS, is_few_step

    return (FEW_STEPS, 1.0) if is_few_step(folder) else (num_steps, guidance)


def _sampled(prompts: pa.Table, num_steps: int, guidance: float, which: int) -> pa.Table:
    count = prompts.num_rows
    return (
        prompts.append_column("num_steps", pa.array([num_steps] * count, pa.int32()))
        .append_column("guidance", pa.array([guidance] * count, pa.float64()))
        .append_column("position", pa.array(np.arange(count) + which * count, pa.int64()))
    )


class PictureWorker:
    """Batch function from prompts to pictures; loads the model once."""

    def __init__(
        self,
        load: Callable[[], Denoiser],
        texts: Callable[[], Texts],
        latent_shape: tuple[int, int, int] | None = None,
    ) -> None:
        self._denoiser, self._texts, self._latent_shape = load(), texts(), latent_shape

    def __call__(self, batch: pa.Table) -> pa.Table:
        from assets.corpus.image_io import encode_png

        parts = []
        for num_steps, guidance in dict.fromkeys(
            zip(batch["num_steps"].to_pylist(), batch["guidance"].to_pylist(), strict=True)
        ):
            equal = pc.and_(pc.equal(batch["num_steps"], num_steps), pc.equal(batch["guidance"], guidance))
            rows = batch.filter(equal)
            images = paint(self._denoiser, self._texts, rows, num_steps, guidance, self._latent_shape)
            parts.append(rows.append_column("image", pa.array([encode_png(image) for image in images])))
        return pa.concat_tables(parts)


def paint(
    denoiser: Denoiser,
    texts: Texts,
    prompts: pa.Table,
    num_steps: int,
    guidance: float,
    latent_shape: tuple[int, int, int] | None = None,
) -> UInt8[np.ndarray, "n h w 3"]:
    """Pictures of prompts, each from the noise of its seed, by a model that is loaded; ``latent_shape`` is the data's."""
    from training.model_folders.denoiser import sample_with

    size = denoiser.size_from_data(latent_shape)
    return sample_with(
        denoiser, texts(prompts), prompts["seed"].to_pylist(), num_steps, guidance, BATCH, size
    )


def draw_samples(
    store: Store,
    place: DrawingPlace,
    *,
    recipe: str,
    prompts_per_split: int,
    num_steps: int,
    guidance: float,
    seed: int,
    function_version: int,
) -> pa.Table:
    """Rows of :data:`evaluation.tables.samples.GENERATED_SAMPLES` for the first held-out samples of each split."""
    model = store.local_folder("backbone", recipe, require_gate=True)
    prompts = stored_prompts(store, prompts_per_split, seed)
    drawn = draw_model(place, model, prompts, (num_steps, guidance))
    about: dict[str, str | int] = {
        "recipe": recipe,
        "model_digest": store.require("backbone", recipe).digest,
        "function_version": function_version,
    }
    return samples_table(drawn, about).sort_by([("split", "ascending"), ("sample_id", "ascending")])


def samples_table(drawn: pa.Table, about: dict[str, str | int]) -> pa.Table:
    """Rows of :data:`evaluation.tables.samples.GENERATED_SAMPLES` out of drawn prompts and what holds for all of them."""
    digests = [hashlib.sha256(prompt.encode()).hexdigest() for prompt in drawn["prompt"].to_pylist()]
    constants = {name: pa.array([value] * drawn.num_rows) for name, value in about.items()}
    columns = {name: drawn[name] for name in drawn.column_names}
    table = pa.table({**columns, **constants, "prompt_id": digests})
    return table.select(GENERATED_SAMPLES.names).cast(GENERATED_SAMPLES)


def keep_pictures(
    store: Store, version: tuple[str, str], digest: str, drawn: pa.Table, provenance: Provenance
) -> None:
    """Store what a model drew for held-out prompts, so that whoever scores it later need not draw it again.

    ``version``: asset and partition of the model. ``drawn``: rows of :func:`draw_held_out`.
    """
    about: dict[str, str | int] = {"recipe": version[1], "model_digest": digest, "function_version": 1}
    store.write_table(PICTURES, samples_table(drawn, about), provenance, ".".join(version))


def preview(place: DrawingPlace, store: Store, model_folder: Path) -> bytes:
    """A small JPEG of eight quick samples for held-out prompts, for the model's own page."""
    prompts = stored_prompts(store, 4, seed=0)
    return sample_sheet(draw_model(place, model_folder, prompts, (12, 3.0)))


def stored_prompts(store: Store, per_split: int, seed: int = 0) -> pa.Table:
    """:func:`held_out_prompts` of the newest training shards."""
    from training.shards import TrainingShards

    shards = TrainingShards.open(store.local_folder("training_shards", require_gate=True))
    return held_out_prompts(shards.samples, per_split, seed)


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


class ShardTexts:
    """Texts of prompts that are samples of the training shards, by their column ``row``."""

    def __init__(self, shards: str) -> None:
        from training.shards import TrainingShards

        self._shards = TrainingShards.open(Path(shards))

    def __call__(self, prompts: pa.Table) -> Condition:
        from training.feed.conditions import alt_texts

        return alt_texts(self._shards, prompts["row"].to_numpy())


def sample_sheet(table: pa.Table) -> bytes:
    """A small JPEG of the first samples with their prompts."""
    shown = table.slice(0, NUM_SHOWN)
    return sheet_jpeg(shown["image"].to_pylist(), shown["prompt"].to_pylist())
