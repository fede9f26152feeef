"""Where the autoencoder comes from: the shipped folder, or a training on composed scenes."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from assets.graph.interfaces import Compute, Landing, Models
from assets.pages.markdown import markdown_table
from assets.pages.tables import Column, Table
from training.errors import FoundryError
from training.run_folder import RunFolder

NUM_SHOWN = 8
NUM_MEASURED = 256
CARD_SPLITS = {
    "held_out_images": "held-out scenes, concepts seen in training",
    "held_out_concepts": "scenes of concepts never seen",
}
CARD_COLUMNS = (
    Column("reconstruction"),
    Column("mean squared error (pixels in [-1, 1])", ".5f"),
    Column("PSNR, dB", ".2f"),
)
CARD = """\
# {name}

A small diffusers `AutoencoderKL` ({num_parameters:,} parameters) for 64-pixel scenes: 3x64x64 pixels to a {latent} latent
and back. Backbones are trained in its latents; it is not meant for photographs.

{restored}

It is the ceiling of every model trained in its latents: fine detail (faces, small print) is blurred. There is no
adversarial loss.

Trained by the project's own loop with the recipe in its lineage: {images_seen:,} images at batch
{batch_size}, {minutes} minutes on one CPU core. Data: {scenes:,} scenes of the training split (scene seed {scene_seed});
held-out concepts and held-out scenes were not used. Latents are centred per channel (folded into the 1x1 convolutions
around the latent) and `scaling_factor` brings them to unit spread.

Content digest `{model_digest}`, spec hash `{spec_hash}`.
Scenes contain Twemoji graphics (https://github.com/jdecked/twemoji), licensed CC-BY-4.0.

```python
from diffusers import AutoencoderKL

autoencoder = AutoencoderKL.from_pretrained(folder)
latents = autoencoder.encode(images).latent_dist.mean * autoencoder.config.scaling_factor
restored = autoencoder.decode(latents / autoencoder.config.scaling_factor).sample
```
"""


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
        from training.packaged_models import SHIPPED_AUTOENCODER, SHIPPED_AUTOENCODER_DIGEST

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
    from training.recipes.execution import Execution
    from training.recipes.specification import TrainingSpecification
    from training.run_folder import prepare
    from training.shards import write_image_shards

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


def autoencoder_lineage(
    run: RunFolder, config: Mapping[str, Any], world_path: Path, digest: str
) -> dict[str, Any]:
    """What a trained autoencoder was made from, as plain data. Raises FoundryError when its run is not done."""
    from training.digests import sha256_file

    spec, done = run.read_spec(), run.read_done()
    if done is None:
        raise FoundryError(f"{run.path}: the run is not done; train the autoencoder to its end")
    return {
        "model_digest": digest,
        "spec_hash": spec.spec_hash,
        "spec": spec.model_dump(mode="json"),
        "data": {
            "split": "train",
            "scenes": config["num_images"],
            "scene_seed": config["scene_seed"],
            "world": "/".join(world_path.parts[-4:]),
            "world_sha256": sha256_file(world_path),
            "attribution": "Scenes contain Twemoji graphics, CC-BY-4.0",
        },
        "images_seen": done.images_seen,
        "num_parameters": done.num_parameters,
        "train_seconds": round(done.train_seconds),
    }


def autoencoder_card(folder: Path, lineage: Mapping[str, Any], landing: Landing) -> str:
    """The card of an autoencoder: what it restores of scenes it has not seen, what it was trained on, how to call it."""
    from training.model_folders.autoencoder_config import latent_shape
    from training.model_folders.autoencoders import (
        decode_latents,
        encode_images,
        load_autoencoder,
        reconstruction_errors,
    )

    model, rows = load_autoencoder(folder, lineage["model_digest"]), []
    for split, what in CARD_SPLITS.items():
        images = _scenes(landing, split, NUM_MEASURED, 1)
        error = float(
            reconstruction_errors(images, decode_latents(model, encode_images(model, images))).mean()
        )
        rows.append((f"{NUM_MEASURED} {what}", error, float(10 * np.log10(4 / error))))
    recipe, data = lineage["spec"]["recipe"], lineage["data"]
    return CARD.format(
        name=recipe["name"],
        latent="x".join(map(str, latent_shape(folder))),
        restored=markdown_table(Table(CARD_COLUMNS, rows)),
        batch_size=recipe["batch_size"],
        minutes=round(lineage["train_seconds"] / 60),
        **{key: lineage[key] for key in ("model_digest", "spec_hash", "images_seen", "num_parameters")},
        **{key: data[key] for key in ("scenes", "scene_seed")},
    )


def reconstruction_sheet(folder: Path, landing: Landing) -> tuple[bytes, float]:
    """A small JPEG of held-out scenes above their reconstructions, and the mean squared error on [-1, 1]."""
    from evaluation.plots.contact_sheets import contact_sheet, inline_jpeg
    from training.model_folders.autoencoders import (
        decode_latents,
        encode_images,
        load_autoencoder,
        reconstruction_errors,
    )

    originals = _scenes(landing, "held_out_images", NUM_SHOWN, 1)
    model = load_autoencoder(folder)
    restored = decode_latents(model, encode_images(model, originals))
    sheet = contact_sheet([*originals, *restored], columns=NUM_SHOWN, tile=96)
    return inline_jpeg(sheet), float(np.mean(reconstruction_errors(originals, restored)))


def _scenes(landing: Landing, split: str, count: int, seed: int) -> np.ndarray:
    from assets.corpus.scenes import build_scenes, load_any_world

    scenes = build_scenes(load_any_world(landing.world_path), split, count, seed)
    return np.stack([scene.image for scene in itertools.islice(scenes, count)])
