"""Image latents: what the backbones see, made once per image by the shipped autoencoder."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from assets.schemas import IMAGE_LATENTS

BATCH = 64


def latent_rows(
    images: pa.Table, autoencoder: Any, autoencoder_digest: str, size: int, function_version: int
) -> pa.Table:
    """Rows of :data:`assets.schemas.IMAGE_LATENTS` for rows (sample_id, image).

    Images are centre-cropped and resized to ``size`` pixels a side. The error of decoding them again is stored
    beside each latent, because nothing a backbone makes can be better than that.
    """
    from assets.corpus.image_io import decode_rgb, resize_square
    from training.autoencoders import decode_latents, encode_images, reconstruction_errors

    parts = []
    for start in range(0, images.num_rows, BATCH):
        batch = images.slice(start, BATCH)
        pixels = np.stack([resize_square(decode_rgb(data), size) for data in batch["image"].to_pylist()])
        latents = encode_images(autoencoder, pixels)
        errors = reconstruction_errors(pixels, decode_latents(autoencoder, latents))
        parts.append(
            pa.table(
                {
                    "sample_id": batch["sample_id"].combine_chunks(),
                    "latent": [latent.astype(np.float16).tobytes() for latent in latents],
                    "reconstruction_error": errors,
                    "autoencoder_digest": [autoencoder_digest] * batch.num_rows,
                    "function_version": pa.array([function_version] * batch.num_rows, pa.int32()),
                },
                schema=IMAGE_LATENTS,
            )
        )
    return pa.concat_tables(parts) if parts else IMAGE_LATENTS.empty_table()
