"""What models are fed with, as people look at it: decoded latents with one of their captions."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from assets.graph.interfaces import Store

NUM_SHOWN = 16


def sample_sheet(shards_folder: Path, store: Store) -> bytes:
    """A JPEG of training samples as the autoencoder decodes them, each with its last (generated) caption."""
    from evaluation.plots.contact_sheets import contact_sheet, inline_jpeg
    from training.model_folders.autoencoders import decode_latents, load_autoencoder
    from training.shards import TrainingShards
    from training.shards.reading import rows_of

    shards = TrainingShards.open(shards_folder)
    rows = rows_of(shards.ranges(["train"])[:1])[:NUM_SHOWN]  # of one shard, so of one shape
    images = decode_latents(load_autoencoder(store.local_folder("autoencoder")), shards.gather_latents(rows))
    captions = shards.samples["captions"].to_pylist()
    texts = [captions[row][-1] for row in rows]
    return inline_jpeg(contact_sheet(list(images.astype(np.uint8)), texts, columns=8, tile=112))
