"""Which landed images go on: not too small, not too thin, and each picture once.

First the rules of :data:`assets.corpus.curation_rules.CURATION_RULES`, each of which looks at one image alone; the
first that does not keep it is the reason. Then, among those that are kept, ``duplicate``: a sample that stands before
it shows the same picture. Same means equal bytes (``image_id``), or 64-bit perceptual hashes that differ in at most
``HASH_TOLERANCE`` bits **and** thumbnails (8 x 8 mean colours) that differ by at most ``THUMBNAIL_TOLERANCE`` on
average: the hash sees grey low frequencies only, and distinct composed scenes on plain backgrounds come as near in it
as copies do. Within a split the smallest ``sample_id`` stays. Across splits held-out samples stand before judge samples
before train samples, so a training sample that shows a held-out picture is dropped (leakage guard).

A sample whose alt-text differs but whose picture is the same is a duplicate too: one image is trained on once, with
the alt-text of the sample that stays.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Float, UInt8, UInt64

from assets.corpus.curation_rules import CURATION_RULES, CurationRule, first_reasons, thresholds_of
from assets.corpus.image_io import decode_rgb
from assets.graph.schemas import CURATED_IMAGES

_STANDS_FIRST = {"held_out_concepts": 0, "held_out_images": 1, "judge": 2, "train": 3}
_HASH_SIDE, _HASH_FREQUENCIES = 32, 8
_THUMBNAIL_SIDE = 8
_THUMBNAIL_VALUES = _THUMBNAIL_SIDE * _THUMBNAIL_SIDE * 3
HASH_TOLERANCE = 4
"""Most differing bits, of 64, between copies of one picture after recompression or enlarging."""
THUMBNAIL_TOLERANCE = 5.0
"""Largest mean difference of thumbnail values, of 255, between copies of one picture.

Of 3,956 composed scenes the nearest distinct pair within HASH_TOLERANCE differs by 6.5.
"""
_BANDS = ((0, 13), (13, 13), (26, 13), (39, 13), (52, 12))
"""First bit and number of bits: hashes that differ in at most four bits agree in one of five bands."""


def curate(
    landed: pa.Table,
    known: pa.Table | None = None,
    rules: tuple[CurationRule, ...] = CURATION_RULES,
    **thresholds: int | float,
) -> pa.Table:
    """A row of CURATED_IMAGES for each distinct ``sample_id`` of LANDED_IMAGES, sorted by it.

    The result does not depend on the order of rows.

    Args:
        landed: rows of LANDED_IMAGES.
        known: CURATED_IMAGES of an earlier time; spares decoding images whose fingerprints it holds.
        rules: asked in their order, before duplicates are looked for.
        thresholds: by the setting's name; a rule whose threshold is left out has its own.

    Raises FoundryError for impossible thresholds and ImageProblem for an image that cannot be decoded, which landing
    does not let through.
    """
    limits = thresholds_of(rules, thresholds)
    rows = _distinct(landed)
    hashes, thumbnails = _all_fingerprints(rows, known)
    reasons = first_reasons(rows, rules, limits)
    columns = {
        "sample_id": rows["sample_id"],
        "image_id": rows["image_id"],
        "split": rows["split"],
        "perceptual_hash": pa.array(hashes, pa.uint64()),
        "thumbnail": pa.array([thumbnail.tobytes() for thumbnail in thumbnails], pa.binary(192)),
        "keep": pa.array([reason == "" for reason in reasons], pa.bool_()),
        "dropped_because": pa.array(reasons, pa.string()),
    }
    return mark_duplicates(pa.table(columns, schema=CURATED_IMAGES))


def mark_duplicates(curated: pa.Table) -> pa.Table:
    """CURATED_IMAGES with the duplicates among the kept rows marked as dropped; rows keep their order.

    One shard group cannot see another: apply this to the rows of all groups together to find copies, and leaks of
    held-out pictures into training, that lie in different groups.
    """
    image_ids, splits = curated["image_id"].to_pylist(), curated["split"].to_pylist()
    sample_ids, keep = curated["sample_id"].to_pylist(), curated["keep"].to_pylist()
    reasons = curated["dropped_because"].to_pylist()
    hashes, thumbnails = _fingerprints_of(curated)
    kept = [index for index, stays in enumerate(keep) if stays]
    order = sorted(kept, key=lambda index: (_STANDS_FIRST[splits[index]], sample_ids[index]))
    for index in find_duplicates(order, image_ids, hashes, thumbnails):
        keep[index], reasons[index] = False, "duplicate"
    names = ["sample_id", "image_id", "split", "perceptual_hash", "thumbnail"]
    columns = [curated[name] for name in names] + [pa.array(keep, pa.bool_()), pa.array(reasons, pa.string())]
    return pa.Table.from_arrays(columns, schema=CURATED_IMAGES)


def find_duplicates(
    order: list[int],
    image_ids: list[str],
    hashes: UInt64[np.ndarray, " n"],
    thumbnails: UInt8[np.ndarray, "n values"],
) -> list[int]:
    """Of the indices in ``order``, those that show what an earlier, kept one shows."""
    kept_ids: set[str] = set()
    kept_by_band: dict[tuple[int, int], list[int]] = {}
    duplicates = []
    for index in order:
        keys = _band_keys(int(hashes[index]))
        near = sorted({other for key in keys for other in kept_by_band.get(key, ())})
        if image_ids[index] in kept_ids or _matches_any(index, near, hashes, thumbnails):
            duplicates.append(index)
            continue
        kept_ids.add(image_ids[index])
        for key in keys:
            kept_by_band.setdefault(key, []).append(index)
    return duplicates


def leaks_into_training(curated: pa.Table) -> list[int]:
    """Rows of the split ``train``, kept or dropped, that show a picture of another split, ascending.

    A dropped row may still be trained on where all that landed is asked for; one of these may never.
    """
    image_ids, splits = curated["image_id"].to_pylist(), curated["split"].to_pylist()
    hashes, thumbnails = _fingerprints_of(curated)
    others = [index for index, split in enumerate(splits) if split != "train"]
    other_ids = {image_ids[index] for index in others}
    by_band: dict[tuple[int, int], list[int]] = {}
    for index in others:
        for key in _band_keys(int(hashes[index])):
            by_band.setdefault(key, []).append(index)
    leaks = []
    for index, split in enumerate(splits):
        if split == "train":
            near = sorted({other for key in _band_keys(int(hashes[index])) for other in by_band.get(key, ())})
            if image_ids[index] in other_ids or _matches_any(index, near, hashes, thumbnails):
                leaks.append(index)
    return leaks


def perceptual_hashes(grey: Float[np.ndarray, "n 32 32"]) -> UInt64[np.ndarray, " n"]:
    """64-bit DCT hash of grey pictures in [0, 255]: which of the 8 x 8 lowest frequencies exceed their median.

    The median is over the 63 frequencies without the mean, whose own bit is set when it exceeds it, too. Values are
    rounded to a ten-thousandth, so that noise of the arithmetic decides nothing on flat pictures.
    """
    basis = _dct_basis()
    low = np.einsum("fi,nij,gj->nfg", basis, grey.astype(np.float64), basis, optimize=True)
    flat = np.round(low.reshape(len(grey), _HASH_FREQUENCIES**2), 4) + 0.0
    bits = flat > np.median(flat[:, 1:], axis=1, keepdims=True)
    packed = np.packbits(bits, axis=1)
    return packed.view(">u8").reshape(-1).astype(np.uint64)


@functools.cache
def _dct_basis() -> Float[np.ndarray, "8 32"]:
    """Rows of the DCT-II for the lowest frequencies: cos(pi (2 i + 1) f / 2 n)."""
    position = np.arange(_HASH_SIDE)
    frequency = np.arange(_HASH_FREQUENCIES)[:, None]
    return np.cos(np.pi * (2 * position + 1) * frequency / (2 * _HASH_SIDE))


def _distinct(landed: pa.Table) -> pa.Table:
    """One row per sample, sorted by ``sample_id``."""
    ids = landed["sample_id"].to_pylist()
    first: dict[str, int] = {}
    for index, sample_id in enumerate(ids):
        first.setdefault(sample_id, index)
    return landed.take(pa.array([first[key] for key in sorted(first)], pa.int64()))


def _fingerprints_of(curated: pa.Table) -> tuple[UInt64[np.ndarray, " n"], UInt8[np.ndarray, "n values"]]:
    """Perceptual hashes and thumbnails that rows of CURATED_IMAGES hold."""
    raw = b"".join(curated["thumbnail"].to_pylist())
    thumbnails = np.frombuffer(raw, np.uint8).reshape(curated.num_rows, _THUMBNAIL_VALUES)
    return curated["perceptual_hash"].to_numpy(), thumbnails


def _all_fingerprints(
    rows: pa.Table, known: pa.Table | None
) -> tuple[UInt64[np.ndarray, " n"], UInt8[np.ndarray, "n values"]]:
    """Fingerprints of all rows; only images that ``known`` lacks are decoded."""
    hashes = np.zeros(rows.num_rows, np.uint64)
    thumbnails = np.zeros((rows.num_rows, _THUMBNAIL_VALUES), np.uint8)
    places = np.full(rows.num_rows, -1)
    if known is not None and known.num_rows:
        found = pc.index_in(rows["image_id"], value_set=known["image_id"].combine_chunks())
        places = pc.fill_null(found, -1).to_numpy()
        old = np.flatnonzero(places >= 0)
        known_hashes, known_thumbnails = _fingerprints_of(known)
        hashes[old], thumbnails[old] = known_hashes[places[old]], known_thumbnails[places[old]]
    new = np.flatnonzero(places < 0)
    hashes[new], thumbnails[new] = _fingerprints(rows["image"].take(pa.array(new)).to_pylist())
    return hashes, thumbnails


def _fingerprints(
    images: list[bytes],
) -> tuple[UInt64[np.ndarray, " n"], UInt8[np.ndarray, "n values"]]:
    """Perceptual hashes and thumbnails. Images are squeezed to a square, so nothing at the border is missed."""
    from PIL import Image

    grey = np.zeros((len(images), _HASH_SIDE, _HASH_SIDE))
    thumbnails = np.zeros((len(images), _THUMBNAIL_VALUES), np.uint8)
    area = Image.Resampling.BOX
    for index, data in enumerate(images):
        picture: Any = Image.fromarray(decode_rgb(data, max_pixels=2**31))
        grey[index] = np.asarray(picture.convert("L").resize((_HASH_SIDE, _HASH_SIDE), area))
        small = picture.resize((_THUMBNAIL_SIDE, _THUMBNAIL_SIDE), area)
        thumbnails[index] = np.asarray(small).reshape(-1)
    return perceptual_hashes(grey), thumbnails


def _band_keys(value: int) -> list[tuple[int, int]]:
    """Number and content of each band of a hash."""
    return [(number, value >> start & (1 << bits) - 1) for number, (start, bits) in enumerate(_BANDS)]


def _matches_any(
    index: int,
    others: list[int],
    hashes: UInt64[np.ndarray, " n"],
    thumbnails: UInt8[np.ndarray, "n values"],
) -> bool:
    """Whether any of the other pictures is a copy of this one, by hash and thumbnail."""
    if not others:
        return False
    bits = np.bitwise_count(hashes[others] ^ hashes[index])
    difference = np.abs(thumbnails[others].astype(np.int16) - thumbnails[index].astype(np.int16))
    return bool(((bits <= HASH_TOLERANCE) & (difference.mean(axis=1) <= THUMBNAIL_TOLERANCE)).any())
