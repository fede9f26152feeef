"""The on-disk training dataset: memory-mapped shards of bounded size beside ``dataset.json``.

A shard holds samples of one split and one latent shape, with everything that training reads of them: latents,
captions, the texts that captions point to, and the texts' states where these are stored. Shards are numbered;
the rows of a dataset are those of shard 0, then of shard 1, and so on. ``samples.parquet`` lists them for people and
for lineage; training never reads it.
"""

from training.shards.description import DatasetDescription, ShardDescription, read_description
from training.shards.images import ImageShards
from training.shards.parts import SamplePart, TextRows
from training.shards.reading import TextBatch, TrainingShards
from training.shards.writing import write_image_shards, write_training_parts, write_training_shards

__all__ = [
    "DatasetDescription",
    "ImageShards",
    "SamplePart",
    "ShardDescription",
    "TextBatch",
    "TextRows",
    "TrainingShards",
    "read_description",
    "write_image_shards",
    "write_training_parts",
    "write_training_shards",
]
