from __future__ import annotations

import io
import math

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from assets.corpus.curation import curate, find_duplicates, mark_duplicates, perceptual_hashes
from assets.corpus.identity import image_id_of, sample_id_of
from assets.corpus.image_io import decode_rgb, encode_png
from assets.corpus.scenes import build_scenes, load_world
from assets.graph.schemas import CURATED_IMAGES, LANDED_IMAGES
from tests.assets.corpus.makers import PROFILES, picture
from training.errors import FoundryError


def _landed(samples: list[tuple[str, bytes, str]]) -> pa.Table:
    """LANDED_IMAGES of (key, image, split)."""
    rows = []
    for key, image, split in samples:
        height, width = decode_rgb(image).shape[:2]
        image_id = image_id_of(image)
        rows.append(
            {
                "sample_id": sample_id_of(image_id, "s", key), "image_id": image_id, "source": "s", "shard": "a",
                "key": key, "split": split, "image": image, "width": width, "height": height, "alt_text": key,
                "license": "unknown", "attribution": "",
            }
        )  # fmt: skip
    return pa.Table.from_pylist(rows, schema=LANDED_IMAGES)


def _why(landed: pa.Table, curated: pa.Table) -> dict[str, str]:
    keys = dict(zip(landed["sample_id"].to_pylist(), landed["key"].to_pylist(), strict=True))
    rows = curated.to_pylist()
    assert all(row["keep"] == (row["dropped_because"] == "") for row in rows)
    return {keys[row["sample_id"]]: row["dropped_because"] for row in rows}


def _scene_images(count: int) -> list[bytes]:
    world = load_world(PROFILES / "demo" / "world.yaml")
    return [encode_png(scene.image) for scene in build_scenes(world, "train", count, 0)]


def _recoded(image: bytes, fmt: str = "JPEG", scale: int = 1, quality: int = 90) -> bytes:
    opened = Image.open(io.BytesIO(image)).convert("RGB")
    buffer = io.BytesIO()
    opened.resize((opened.width * scale, opened.height * scale)).save(buffer, format=fmt, quality=quality)
    return buffer.getvalue()


def _slow_hash(grey: np.ndarray) -> int:
    """The DCT hash by its definition, one frequency at a time."""
    low = []
    for f in range(8):
        for g in range(8):
            total = 0.0
            for i in range(32):
                for j in range(32):
                    total += (
                        grey[i, j]
                        * math.cos(math.pi * (2 * i + 1) * f / 64)
                        * math.cos(math.pi * (2 * j + 1) * g / 64)
                    )
            low.append(round(total, 4) + 0.0)
    median = float(np.median(low[1:]))
    return sum(1 << (63 - index) for index, value in enumerate(low) if value > median)


def test_hash_against_its_definition() -> None:
    random = np.random.default_rng(0)
    grey = np.stack(
        [random.integers(0, 256, (32, 32)), np.full((32, 32), 100), np.tile(np.arange(32.0) * 8, (32, 1))]
    )
    assert perceptual_hashes(grey.astype(np.float64)).tolist() == [_slow_hash(item) for item in grey]


def test_limits_of_size_and_aspect() -> None:
    sizes = {"small": (31, 64), "edge": (32, 64), "thin": (40, 161), "wide": (160, 40), "both": (10, 200)}
    landed = _landed([(key, picture(i, *size), "train") for i, (key, size) in enumerate(sizes.items())])
    curated = curate(landed, min_side=32, max_aspect=4.0)
    assert curated.schema.equals(CURATED_IMAGES)
    assert _why(landed, curated) == {
        "small": "too_small", "edge": "", "thin": "extreme_aspect_ratio", "wide": "", "both": "too_small",
    }  # fmt: skip


def test_equal_bytes_are_one_picture_and_the_smallest_id_stays() -> None:
    landed = _landed([(key, picture(0), "train") for key in "abcde"] + [("other", picture(1), "train")])
    why = _why(landed, curate(landed))
    assert why["other"] == ""
    assert sorted(why.values()) == ["", "", "duplicate", "duplicate", "duplicate", "duplicate"]
    first = min(landed.slice(0, 5).to_pylist(), key=lambda row: row["sample_id"])
    assert why[first["key"]] == ""


@pytest.mark.parametrize(
    ("fmt", "scale", "quality"), [("JPEG", 1, 90), ("WEBP", 1, 85), ("PNG", 2, 0), ("JPEG", 3, 70)]
)
def test_recompressed_and_enlarged_copies_are_found(fmt: str, scale: int, quality: int) -> None:
    found = 0
    originals = _scene_images(40)
    for original in originals:
        landed = _landed([("a", original, "train"), ("b", _recoded(original, fmt, scale, quality), "train")])
        found += "duplicate" in _why(landed, curate(landed)).values()
    assert found >= 0.9 * len(originals)


def test_held_out_pictures_do_not_leak_into_training() -> None:
    image = _scene_images(1)[0]
    samples = [
        ("t", image, "train"),
        ("h", image, "held_out_images"),
        ("j", image, "judge"),
        ("c", _recoded(image), "train"),
    ]
    landed = _landed(samples)
    expected = {"h": "", "j": "duplicate", "t": "duplicate", "c": "duplicate"}
    assert _why(landed, curate(landed)) == expected
    again = _landed([("t", image, "train"), ("c", image, "held_out_concepts")])
    assert _why(again, curate(again)) == {"c": "", "t": "duplicate"}


def test_a_dropped_held_out_image_drops_nothing_else() -> None:
    tiny = picture(0, 20, 20)
    landed = _landed([("h", tiny, "held_out_images"), ("t", _recoded(tiny, "PNG", 2), "train")])
    assert _why(landed, curate(landed)) == {"h": "too_small", "t": ""}


def test_copies_in_different_groups_are_found_together() -> None:
    image = _scene_images(1)[0]
    groups = [_landed([("t", image, "train")]), _landed([("h", _recoded(image), "held_out_images")])]
    curated = pa.concat_tables([curate(group) for group in groups])
    assert all(curated["keep"].to_pylist())
    together = mark_duplicates(curated)
    assert together["sample_id"].equals(curated["sample_id"])
    assert _why(pa.concat_tables(groups), together) == {"t": "duplicate", "h": ""}
    assert mark_duplicates(together).equals(together)


def test_distinct_scenes_are_kept() -> None:
    world = load_world(PROFILES / "demo" / "world.yaml")
    scenes = list(build_scenes(world, "train", 400, 0))
    landed = _landed([(scene.key, encode_png(scene.image), "train") for scene in scenes])
    assert all(curate(landed)["keep"].to_pylist())


def test_same_shape_in_another_colour_is_another_picture() -> None:
    """Red and green of equal grey: the hash alone cannot tell them apart."""
    red, green = np.full((64, 64, 3), 255, np.uint8), np.full((64, 64, 3), 255, np.uint8)
    red[16:48, 16:48] = (200, 0, 0)
    green[16:48, 16:48] = (0, 102, 0)
    landed = _landed([("r", encode_png(red), "train"), ("g", encode_png(green), "train")])
    assert _why(landed, curate(landed)) == {"r": "", "g": ""}


def test_order_of_rows_does_not_matter_and_a_sample_counts_once() -> None:
    samples = [(str(i), picture(i % 7, 40, 40), "train" if i % 3 else "judge") for i in range(20)]
    landed = _landed(samples)
    shuffled = landed.take(pa.array(np.random.default_rng(0).permutation(20)))
    doubled = pa.concat_tables([landed, shuffled])
    assert curate(shuffled).equals(curate(landed))
    assert curate(doubled).equals(curate(landed))


def test_search_by_bands_against_comparing_all_pairs() -> None:
    random = np.random.default_rng(1)
    base = random.integers(0, 2**63, 12, dtype=np.uint64)
    hashes = np.array([base[random.integers(12)] ^ np.uint64(_flips(random)) for _ in range(150)], np.uint64)
    thumbnails = np.zeros((150, 192), np.uint8)
    ids = [str(index) for index in range(150)]
    kept: list[int] = []
    slow = []
    for index in range(150):
        if any(int(hashes[index] ^ hashes[other]).bit_count() <= 4 for other in kept):
            slow.append(index)
        else:
            kept.append(index)
    assert find_duplicates(list(range(150)), ids, hashes, thumbnails) == slow
    assert 20 < len(slow) < 149


def _flips(random: np.random.Generator) -> int:
    """A mask of one to seven bits."""
    return sum(1 << int(bit) for bit in random.choice(64, int(random.integers(1, 8)), replace=False))


def test_an_empty_table_is_curated_to_an_empty_table() -> None:
    curated = curate(LANDED_IMAGES.empty_table())
    assert curated.num_rows == 0
    assert curated.schema.equals(CURATED_IMAGES)


@pytest.mark.parametrize(("side", "aspect"), [(0, 4.0), (32, 0.5)])
def test_impossible_limits_are_refused(side: int, aspect: float) -> None:
    with pytest.raises(FoundryError, match="must be at least 1"):
        curate(LANDED_IMAGES.empty_table(), min_side=side, max_aspect=aspect)
