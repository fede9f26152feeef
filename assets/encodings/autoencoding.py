"""Where the autoencoder comes from: the shipped folder, or a training on composed scenes."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np

from assets.interfaces import Compute, Landing, Models

NUM_SHOWN = 8


def obtain_autoencoder(
    train: bool,
    num_images: int,
    scene_seed: int,
    compute: Compute,
    landing: Landing,
    models: Models,
    log: Callable[[str], None],
) -> tuple[Path, dict[str, str]]:
    """The folder of an autoencoder and the digests of what it was made from outside the graph."""
    if not train:
        from training.packaged import SHIPPED_AUTOENCODER, SHIPPED_AUTOENCODER_DIGEST

        return SHIPPED_AUTOENCODER, {"shipped_autoencoder": SHIPPED_AUTOENCODER_DIGEST}
    return _train(num_images, scene_seed, compute, landing, models, log)


def _train(
    num_images: int,
    scene_seed: int,
    compute: Compute,
    landing: Landing,
    models: Models,
    log: Callable[[str], None],
) -> tuple[Path, dict[str, str]]:
    import pyarrow as pa

    from training.digests import folder_digest
    from training.run_folder import prepare
    from training.shards import write_image_shards
    from training.spec import Execution, TrainingSpecification

    dataset = models.runs.parent / "autoencoder_scenes"
    images = _scenes(landing, "train", num_images, scene_seed)
    ids = [f"scene-{index:06d}" for index in range(len(images))]
    write_image_shards(dataset, pa.table({"sample_id": ids, "split": ["train"] * len(ids)}), images)
    inputs = {"dataset": folder_digest(dataset)}
    spec = TrainingSpecification(recipe=models.autoencoder, inputs=inputs)
    execution = Execution(threads=models.resources.threads, input_paths={"dataset": str(dataset)})
    run = prepare(models.runs, spec, execution)
    compute.train(run.path, models.resources, log)
    return run.model, {"scenes": inputs["dataset"], "spec": spec.spec_hash}


def reconstruction_sheet(folder: Path, landing: Landing) -> tuple[bytes, float]:
    """A small JPEG of held-out scenes above their reconstructions, and the mean squared error on [-1, 1]."""
    from evaluation.pictures import contact_sheet, inline_jpeg
    from training.autoencoders import decode_latents, encode_images, load_autoencoder, reconstruction_errors

    originals = _scenes(landing, "held_out_images", NUM_SHOWN, 1)
    model = load_autoencoder(folder)
    restored = decode_latents(model, encode_images(model, originals))
    sheet = contact_sheet([*originals, *restored], columns=NUM_SHOWN, tile=96)
    return inline_jpeg(sheet), float(np.mean(reconstruction_errors(originals, restored)))


def _scenes(landing: Landing, split: str, count: int, seed: int) -> np.ndarray:
    from assets.corpus.scenes import build_scenes, load_world

    scenes = build_scenes(load_world(landing.world_path), split, count, seed)
    return np.stack([scene.image for scene in itertools.islice(scenes, count)])
