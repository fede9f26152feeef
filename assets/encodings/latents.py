"""Image latents: what the backbones see, made once per image by the autoencoder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from assets.interfaces import BatchWorker, Model, Resources
from assets.schemas import IMAGE_LATENTS
from assets.units import input_digest

MODEL_NAME = "AutoencoderKL"
INLINE_ROWS = 4096  # at a millisecond an image, starting workers takes longer


class LatentEncoder:
    """A batch worker from rows (sample_id, image) to rows of :data:`assets.schemas.IMAGE_LATENTS`.

    Images are centre-cropped and resized to ``image_size`` pixels a side. The error of decoding them again is stored
    beside each latent, because nothing a backbone makes can be better than that.

    Raises:
        FoundryError: the folder is not the autoencoder with that digest.
    """

    def __init__(self, folder: str, digest: str, image_size: int) -> None:
        from training.autoencoders import load_autoencoder

        self._model = load_autoencoder(Path(folder), digest)
        self._size = image_size
        self._made_by = {"model": MODEL_NAME, "model_digest": digest, "function_version": 0}

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Latents of every image of ``batch``, in its order."""
        from assets.corpus.image_io import decode_rgb, resize_square
        from training.autoencoders import decode_latents, encode_images, reconstruction_errors

        pixels = np.stack(
            [resize_square(decode_rgb(data), self._size) for data in batch["image"].to_pylist()]
        )
        latents = encode_images(self._model, pixels)
        errors = reconstruction_errors(pixels, decode_latents(self._model, latents))
        columns = {
            "sample_id": batch["sample_id"].to_pylist(),
            "latent": [latent.astype(np.float16).tobytes() for latent in latents],
            "reconstruction_error": errors,
            **{name: [value] * batch.num_rows for name, value in self._made_by.items()},
        }
        return pa.table(columns, schema=IMAGE_LATENTS)


def latent_model(folder: Path, digest: str, image_size: int) -> Model:
    """The autoencoder as the model of ``image_latents``: latents of another size are latents of another model."""
    arguments = {"folder": str(folder), "digest": digest, "image_size": image_size}
    return Model(
        name=MODEL_NAME,
        digest=input_digest(digest, image_size),
        make=lambda: BatchWorker(LatentEncoder, arguments),
        reads=("image",),
        resources=Resources(batch_size=64, inline_rows=INLINE_ROWS, keep_loaded=True),
    )
