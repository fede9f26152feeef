"""Image latents: what the backbones see, made once per image by the autoencoder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from assets.derivation.units import input_digest
from assets.encodings.buckets import Geometry, Size, nearest_bucket, resize_crop
from assets.graph.interfaces import BatchWorker, Model, Resources
from assets.graph.schemas import IMAGE_LATENTS

MODEL_NAME = "AutoencoderKL"
INLINE_ROWS = 4096  # at a millisecond an image, starting workers takes longer


class LatentEncoder:
    """A batch worker from rows (sample_id, image) to rows of :data:`assets.graph.schemas.IMAGE_LATENTS`.

    At each resolution an image is centre-cropped and resized to its nearest bucket (one square where there are no
    others). The error of decoding it again is stored beside each latent, because nothing a backbone makes can be better
    than that.

    Raises:
        FoundryError: the folder is not the autoencoder with that digest.
    """

    def __init__(
        self,
        folder: str,
        digest: str,
        image_size: int,
        buckets: Sequence[str] = (),
        more_sizes: Sequence[int] = (),
    ) -> None:
        from training.model_folders.autoencoders import load_autoencoder

        self._model = load_autoencoder(Path(folder), digest)
        self._geometry = Geometry.of(image_size, buckets, more_sizes)
        self._made_by = {"model": MODEL_NAME, "model_digest": digest, "function_version": 0}

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Latents of every image of ``batch`` at every resolution, in the batch's order."""
        from assets.corpus.image_io import decode_rgb

        images = [decode_rgb(data) for data in batch["image"].to_pylist()]
        places = [
            (
                index,
                resolution.side,
                resolution.buckets[nearest_bucket(image.shape[0], image.shape[1], resolution.buckets)],
            )
            for index, image in enumerate(images)
            for resolution in self._geometry.resolutions
        ]
        encoded = self._encoded(images, places)
        ids = batch["sample_id"].to_pylist()
        columns = {
            "sample_id": [ids[index] for index, _, _ in places],
            "resolution": [side for _, side, _ in places],
            "height": [latent.shape[1] for latent, _ in encoded],
            "width": [latent.shape[2] for latent, _ in encoded],
            "latent": [latent.tobytes() for latent, _ in encoded],
            "reconstruction_error": [error for _, error in encoded],
            **{name: [value] * len(places) for name, value in self._made_by.items()},
        }
        return pa.table(columns, schema=IMAGE_LATENTS)

    def _encoded(
        self, images: Sequence[np.ndarray], places: Sequence[tuple[int, int, Size]]
    ) -> list[tuple[np.ndarray, float]]:
        """Float16 latent and error of each place, pictures of one size encoded together."""
        from training.model_folders.autoencoders import decode_latents, encode_images, reconstruction_errors

        found: dict[int, tuple[np.ndarray, float]] = {}
        for size in dict.fromkeys(size for _, _, size in places):
            chosen = [number for number, (_, _, own) in enumerate(places) if own == size]
            pixels = np.stack([resize_crop(images[places[number][0]], size) for number in chosen])
            latents = encode_images(self._model, pixels)
            errors = reconstruction_errors(pixels, decode_latents(self._model, latents))
            for number, latent, error in zip(chosen, latents.astype(np.float16), errors, strict=True):
                found[number] = latent, float(error)
        return [found[number] for number in range(len(places))]


def latents_digest(autoencoder: str, geometry: Geometry) -> str:
    """Identity of latents: the autoencoder's digest, resolutions, buckets and crop."""
    return input_digest(autoencoder, geometry.key())


def latent_model(
    folder: Path, digest: str, image_size: int, buckets: Sequence[str] = (), more_sizes: Sequence[int] = ()
) -> Model:
    """The autoencoder as the model of ``image_latents``: latents of another size or crop are of another model.

    Raises FoundryError for buckets that are no sizes.
    """
    arguments = {
        "folder": str(folder),
        "digest": digest,
        "image_size": image_size,
        "buckets": list(buckets),
        "more_sizes": list(more_sizes),
    }
    return Model(
        name=MODEL_NAME,
        digest=latents_digest(digest, Geometry.of(image_size, buckets, more_sizes)),
        make=lambda: BatchWorker(LatentEncoder, arguments),
        reads=("image",),
        resources=Resources(batch_size=64, inline_rows=INLINE_ROWS, keep_loaded=True),
    )
