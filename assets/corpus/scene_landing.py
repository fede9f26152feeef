"""Land composed scenes as shards, as any collection would arrive; the truth about them is returned, never landed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path

import pyarrow as pa

from assets.corpus.identity import image_id_of, sample_id_of
from assets.corpus.image_io import encode_png
from assets.corpus.scene import Scene
from assets.corpus.shard_files import SHARD_SCHEMA, parquet_bytes, write_if_changed
from assets.corpus.worlds import AnyWorld, build_flawed_scenes, build_scenes
from assets.graph.schemas import SCENE_TRUTH
from training.errors import FoundryError

SOURCE = "scenes"
"""Name of the collection, which is also the name of its landing folder."""

_SHARD_NAME = re.compile(r"scenes-[a-z_]+-\d{5}\.parquet")


def land_scenes(
    world: AnyWorld,
    landing_folder: Path,
    counts: Mapping[str, int],
    seed: int,
    scenes_per_shard: int = 150,
    flawed: int = 0,
) -> pa.Table:
    """Build ``counts[split]`` scenes of each split into Parquet shards and return their truth (SCENE_TRUTH).

    ``flawed`` training scenes more are such as curation drops (:mod:`assets.corpus.flawed_scenes`).
    Safe to repeat: shards are byte-equal for equal arguments, unchanged ones are not touched, and larger counts only
    change each split's last shard and add new ones. Scene shards that are no longer asked for are removed.
    Raises FoundryError for an unknown split, an impossible count or a disk that refuses.
    """
    if scenes_per_shard < 1:
        raise FoundryError(f"scenes_per_shard is {scenes_per_shard}; it must be 1 or more.")
    truth: list[dict[str, object]] = []
    written: set[str] = set()
    sources = {split: build_scenes(world, split, count, seed) for split, count in counts.items()}
    for kind, built in {**sources, "flawed": build_flawed_scenes(world, flawed, seed)}.items():
        for number, scenes in enumerate(_chunks(built, scenes_per_shard)):
            name = f"scenes-{kind}-{number:05d}.parquet"
            images = [encode_png(scene.image) for scene in scenes]
            write_if_changed(landing_folder / name, parquet_bytes(_shard_table(scenes, images)))
            written.add(name)
            truth += [truth_row(scene, image) for scene, image in zip(scenes, images, strict=True)]
    for path in landing_folder.glob("scenes-*.parquet"):
        if path.name not in written and _SHARD_NAME.fullmatch(path.name):
            path.unlink()
    return pa.Table.from_pylist(truth, schema=SCENE_TRUTH)


def _chunks(scenes: Iterator[Scene], size: int) -> Iterator[list[Scene]]:
    while chunk := list(islice(scenes, size)):
        yield chunk


def _shard_table(scenes: list[Scene], images: list[bytes]) -> pa.Table:
    rows = [
        {
            "image": {"bytes": image, "path": f"{scene.key}.png"},
            "text": scene.alt_text,
            "key": scene.key,
            "split": scene.split,
            "license": scene.license,
            "attribution": scene.attribution,
        }
        for scene, image in zip(scenes, images, strict=True)
    ]
    return pa.Table.from_pylist(rows, schema=SHARD_SCHEMA)


def truth_row(scene: Scene, image: bytes) -> dict[str, object]:
    """A scene as a row of SCENE_TRUTH; ``image`` is its picture as it was landed, which identifies the sample."""
    return {
        "sample_id": sample_id_of(image_id_of(image), SOURCE, scene.key),
        "source": SOURCE,
        "key": scene.key,
        "split": scene.split,
        "objects": [
            {
                "name": item.name,
                "box_xyxy_norm": list(item.box_xyxy_norm),
                "depth_order": item.depth_order,
                "visible_fraction": item.visible_fraction,
                "color": item.color,
                "phrase": item.phrase,
                "depth": item.depth,
            }
            for item in scene.objects
        ],
        "visible_masks_rle": list(scene.visible_masks_rle),
        "mask_size": list(scene.mask_size),
        "word": scene.word,
        "word_box_xyxy_norm": list(scene.word_box_xyxy_norm) if scene.word_box_xyxy_norm else None,
        "background": scene.background,
    }
