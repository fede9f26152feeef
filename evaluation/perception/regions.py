"""Class-agnostic foreground regions of an image: whatever differs from the background, in connected pieces.

Knows nothing but "objects on a background". Pixels only; no names, no truth. The steps: fit a background
(:mod:`evaluation.perception.background`), mark what differs from it, take connected components, join the letters
of a word and the loose parts of an object, split pieces with a waist. A photograph, whose background is not fitted,
gives one region: the whole image.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from evaluation.perception.background import Background, fit_background, largest_difference
from evaluation.perception.colors import COLOR_WORDS, color_indices, main_color
from training.errors import FoundryError

ANALYSIS_SIDE_PX = (
    64  # longer side at which regions are sought; boxes are normalised, so nothing is lost to callers
)
_FOREGROUND_DIFFERENCE = 30.0  # largest channel difference (0..255) from which a pixel belongs to an object
_MIN_AREA_FRACTION = 0.008
_JOIN_GAP_PX = 2
_MIN_HALF_PX = 60
_WIDE_PASSAGE = 1.8  # parts joined by a passage this wide, over the narrower part, are one object
_ALIKE = 1.55  # ... as are parts whose passage and whose overlap of colours (0..1 each) sum to more than this

_LETTER_HALF_STROKE = 0.3  # half the width of a letter's strokes, as a share of its height, at most


@dataclass(frozen=True)
class Region:
    """One foreground region.

    ``box_xyxy_norm`` lies in [0, 1]; ``area_fraction`` is foreground pixels over image pixels in (0, 1];
    ``color`` a colour word; ``looks_like_text`` the outcome of a cheap test on the pixels;
    ``mask`` the region's pixels at analysis size.
    """

    box_xyxy_norm: tuple[float, float, float, float]
    area_fraction: float
    color: str
    looks_like_text: bool
    mask: Bool[np.ndarray, "h w"]


@dataclass(frozen=True)
class Layout:
    """Regions of one image, largest first, with the background they stand on."""

    background: Background
    regions: tuple[Region, ...]


@dataclass(frozen=True)
class _Piece:
    """A connected set of pixels during the search: mask, box in pixels (x1, y1, x2, y2; exclusive end)."""

    mask: Bool[np.ndarray, "h w"]
    box: tuple[int, int, int, int]

    @property
    def area(self) -> int:
        return int(self.mask.sum())

    @property
    def width(self) -> int:
        return self.box[2] - self.box[0]

    @property
    def height(self) -> int:
        return self.box[3] - self.box[1]


def shrink(image_hwc: UInt8[np.ndarray, "h w 3"], longer_side_px: int) -> UInt8[np.ndarray, "h2 w2 3"]:
    """The image, reduced by area averaging until its longer side is at most ``longer_side_px`` pixels."""
    height, width = image_hwc.shape[:2]
    if max(height, width) <= longer_side_px:
        return image_hwc
    from PIL import Image

    scale = longer_side_px / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(Image.fromarray(image_hwc).resize(size, Image.Resampling.BOX))


def find_regions(image_hwc: UInt8[np.ndarray, "h w 3"]) -> Layout:
    """Foreground regions of an RGB image, sorted by area, largest first.

    Raises:
        FoundryError: an image of less than 8 pixels on a side.
    """
    if min(image_hwc.shape[:2]) < 8:
        raise FoundryError(
            f"image of {image_hwc.shape[1]}x{image_hwc.shape[0]} pixels: regions need at least 8 on each side"
        )
    image = shrink(image_hwc, ANALYSIS_SIDE_PX)
    background = fit_background(image) if min(image.shape[:2]) >= 8 else None
    if background is None or background.kind == "unknown":
        return _whole_image(image, background)
    pieces = _pieces(_foreground(image, background))
    words, others = _take_words(image, background, pieces)
    objects = [half for piece in _join_parts(others) for half in _split(image, piece)]
    smallest = _MIN_AREA_FRACTION * image.shape[0] * image.shape[1]
    regions = [_region(image, piece, is_text=True) for piece in words]
    regions += [_region(image, piece, is_text=False) for piece in objects if piece.area >= smallest]
    regions.sort(key=lambda region: (-region.area_fraction, region.box_xyxy_norm))
    return Layout(background, tuple(regions))


def _whole_image(image: UInt8[np.ndarray, "h w 3"], background: Background | None) -> Layout:
    everything = np.ones(image.shape[:2], dtype=bool)
    region = Region((0.0, 0.0, 1.0, 1.0), 1.0, main_color(image.reshape(-1, 3)), False, everything)
    unknown = Background("unknown", (), image.astype(np.float64), 0.0)
    return Layout(background or unknown, (region,))


def _foreground(image: UInt8[np.ndarray, "h w 3"], background: Background) -> Bool[np.ndarray, "h w"]:
    from scipy import ndimage

    difference = largest_difference(image.astype(np.float64), background.prediction_hwc)
    mask = difference > _FOREGROUND_DIFFERENCE
    if background.kind in ("two-tone", "checkered"):  # seams between the colours leave hairlines
        mask &= ndimage.binary_opening(mask, np.ones((2, 2), dtype=bool))
    return mask


def _pieces(mask: Bool[np.ndarray, "h w"]) -> list[_Piece]:
    """Connected components (8 neighbours), without single specks."""
    from scipy import ndimage

    labels, count = ndimage.label(mask, structure=np.ones((3, 3), dtype=int))
    boxes = ndimage.find_objects(labels)
    pieces = [
        _Piece(labels == index + 1, (xs.start, ys.start, xs.stop, ys.stop))
        for index, (ys, xs) in enumerate(boxes[:count])
    ]
    return [piece for piece in pieces if piece.area >= 3]


def _union(pieces: list[_Piece]) -> _Piece:
    boxes = np.array([piece.box for piece in pieces])
    box = (*boxes[:, :2].min(0).tolist(), *boxes[:, 2:].max(0).tolist())
    return _Piece(np.any([piece.mask for piece in pieces], axis=0), box)  # type: ignore[arg-type]


def _join_parts(pieces: list[_Piece]) -> list[_Piece]:
    """Join small pieces to a larger one that is at most :data:`_JOIN_GAP_PX` away, largest first."""
    from scipy import ndimage

    rest = sorted(pieces, key=lambda piece: -piece.area)
    joined: list[_Piece] = []
    while rest:
        main = rest.pop(0)
        reach = ndimage.binary_dilation(main.mask, np.ones((3, 3)), iterations=_JOIN_GAP_PX)
        near = [piece for piece in rest if piece.area < 0.25 * main.area and bool((reach & piece.mask).any())]
        rest = [piece for piece in rest if not any(piece is part for part in near)]
        joined.append(_union([main, *near]))
    return joined


def _split(image: UInt8[np.ndarray, "h w 3"], piece: _Piece) -> list[_Piece]:
    """Part touching objects: seeds where the piece is thick, then join again what is one by waist and colour."""
    from scipy import ndimage

    if piece.area < 2 * _MIN_HALF_PX:
        return [piece]
    depth = ndimage.distance_transform_edt(np.pad(ndimage.binary_fill_holes(piece.mask), 1))[1:-1, 1:-1]
    seeds = _seeds(depth)
    if len(seeds) < 2:
        return [piece]
    ys, xs = np.nonzero(piece.mask)
    distance = np.stack([np.hypot(ys - y, xs - x) - depth[y, x] for y, x in seeds])
    parts = np.full(piece.mask.shape, -1)
    parts[ys, xs] = distance.argmin(0)
    owner = _merged(image, parts, np.array([depth[seed] for seed in seeds]))[ys, xs]
    halves = []
    for index in np.unique(owner):
        mask = np.zeros_like(piece.mask)
        mask[ys[owner == index], xs[owner == index]] = True
        halves.append(_boxed(mask))
    return halves


def _boxed(mask: Bool[np.ndarray, "h w"]) -> _Piece:
    ys, xs = np.nonzero(mask)
    return _Piece(mask, (int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1))


def _merged(
    image: UInt8[np.ndarray, "h w 3"], parts: Int[np.ndarray, "h w"], peaks_k: Float[np.ndarray, "k"]
) -> Int[np.ndarray, "h w"]:
    """Join, most alike first, the parts that a wide contact or like colours make one object.

    ``parts`` holds the part of each pixel (-1 outside); ``peaks_k`` the half-thickness of each part in pixels.
    """
    count = len(peaks_k)
    inside = parts >= 0
    colors_kc = np.zeros((count, len(COLOR_WORDS)))
    np.add.at(colors_kc, (parts[inside], color_indices(image[inside])), 1)
    contacts_kk = _contacts(parts, count)
    alive, peaks_k, merged = list(range(count)), peaks_k.copy(), parts.copy()
    while len(alive) > 1:
        pairs = [(a, b) for index, a in enumerate(alive) for b in alive[index + 1 :]]
        best, first, second = max(
            (_likeness(colors_kc[a], colors_kc[b], contacts_kk[a, b], min(peaks_k[a], peaks_k[b])), a, b)
            for a, b in pairs
        )
        if best <= _ALIKE:
            break
        colors_kc[first] += colors_kc[second]
        contacts_kk[first] += contacts_kk[second]
        contacts_kk[:, first] += contacts_kk[:, second]
        peaks_k[first] = max(peaks_k[first], peaks_k[second])
        merged[merged == second] = first
        alive.remove(second)
    return merged


def _contacts(parts: Int[np.ndarray, "h w"], count: int) -> Float[np.ndarray, "k k"]:
    """Length of the border between each two parts, in pixel sides."""
    contacts = np.zeros((count, count))
    for one, other in ((parts[:, :-1], parts[:, 1:]), (parts[:-1], parts[1:])):
        touch = (one >= 0) & (other >= 0) & (one != other)
        np.add.at(contacts, (one[touch], other[touch]), 1)
    return contacts + contacts.T


def _likeness(
    colors_first: Float[np.ndarray, "c"],
    colors_second: Float[np.ndarray, "c"],
    contact_px: float,
    peak_px: float,
) -> float:
    """Contact over thickness (at most 1) plus overlap of colours (at most 1); infinite where it must be one."""
    if contact_px == 0:
        return 0.0
    waist = contact_px / (2 * peak_px)
    if waist > _WIDE_PASSAGE or min(colors_first.sum(), colors_second.sum()) < _MIN_HALF_PX:
        return np.inf
    shares = colors_first / colors_first.sum(), colors_second / colors_second.sum()
    return float(waist + np.minimum(*shares).sum())


def _seeds(depth: Float[np.ndarray, "h w"]) -> list[tuple[int, int]]:
    """Peaks of the distance to the edge, deepest first; plateaus give one."""
    from scipy import ndimage

    peaks = (depth == ndimage.maximum_filter(depth, size=5)) & (depth >= max(3.0, 0.4 * depth.max()))
    labels, count = ndimage.label(peaks, structure=np.ones((3, 3), dtype=int))
    if count < 2:
        return []
    places = ndimage.maximum_position(depth, labels, range(1, count + 1))
    return sorted(((int(y), int(x)) for y, x in places), key=lambda place: -depth[place])[:8]


def _take_words(
    image: UInt8[np.ndarray, "h w 3"], background: Background, pieces: list[_Piece]
) -> tuple[list[_Piece], list[_Piece]]:
    """Rows of letter-like pieces (letters may touch) as words; all other pieces as they are."""
    letters = [piece for piece in pieces if _letter_like(image, background, piece)]
    letters.sort(key=lambda piece: piece.box[0])
    rest, words = list(pieces), []
    while letters:
        row = [letters.pop(0)]
        for letter in list(letters):
            if _same_row(row[-1], letter):
                row.append(letter)
        word = _union(row)
        if word.width < (1.2 if len(row) > 1 else 2.2) * word.height:
            continue
        row += [piece for piece in rest if not _among(piece, row) and _inside_row(word, piece)]
        words.append(_union(row))
        rest = [piece for piece in rest if not _among(piece, row)]
        letters = [piece for piece in letters if not _among(piece, row)]
    return words, rest


def _among(piece: _Piece, pieces: list[_Piece]) -> bool:
    return any(piece is other for other in pieces)


def _inside_row(word: _Piece, piece: _Piece) -> bool:
    """Whether a piece that is not letter-like itself (two letters that touch, a dot) belongs to the word's row."""
    reach = 0.4 * word.height
    return (
        piece.box[1] >= word.box[1] - 2
        and piece.box[3] <= word.box[3] + 2
        and piece.box[2] >= word.box[0] - reach
        and piece.box[0] <= word.box[2] + reach
    )


def _letter_like(image: UInt8[np.ndarray, "h w 3"], background: Background, piece: _Piece) -> bool:
    """Small, of thin strokes and one colour: what rendered letters are and pictures of things seldom are."""
    from scipy import ndimage

    height = image.shape[0]
    if not 0.08 * height <= piece.height <= 0.45 * height or piece.width > 5 * piece.height:
        return False
    x1, y1, x2, y2 = piece.box
    stroke_half_width = ndimage.distance_transform_edt(np.pad(piece.mask[y1:y2, x1:x2], 1)).max()
    if stroke_half_width > _LETTER_HALF_STROKE * piece.height:
        return False
    pixels = image[piece.mask].astype(np.float64)
    contrast = largest_difference(pixels, background.prediction_hwc[piece.mask])
    core = pixels[contrast >= 0.7 * contrast.max()]  # without the blended pixels along the edges
    return bool((largest_difference(core, np.median(core, axis=0)) <= 60).mean() >= 0.8)


def _same_row(left: _Piece, right: _Piece) -> bool:
    taller = max(left.height, right.height)
    return (
        abs(left.box[3] - right.box[3]) <= 0.25 * taller
        and min(left.height, right.height) >= 0.65 * taller
        and -1 <= right.box[0] - left.box[2] <= 0.6 * taller
    )


def _region(image: UInt8[np.ndarray, "h w 3"], piece: _Piece, *, is_text: bool) -> Region:
    height, width = image.shape[:2]
    x1, y1, x2, y2 = piece.box
    return Region(
        (x1 / width, y1 / height, x2 / width, y2 / height),
        piece.area / (height * width),
        main_color(image[piece.mask]),
        is_text,
        piece.mask,
    )


def crop_box(
    image_hwc: UInt8[np.ndarray, "h w 3"],
    box_xyxy_norm: tuple[float, float, float, float],
    margin: float = 0.0,
) -> UInt8[np.ndarray, "h2 w2 3"]:
    """The pixels in a normalised box widened by ``margin`` of its own size on each side; at least 1x1."""
    corners: Int[np.ndarray, "4"] = _pixel_box(image_hwc, box_xyxy_norm, margin)
    x1, y1, x2, y2 = corners.tolist()
    return image_hwc[y1:y2, x1:x2]


def _pixel_box(
    image_hwc: UInt8[np.ndarray, "h w 3"], box: tuple[float, float, float, float], margin: float
) -> Int[np.ndarray, "4"]:
    height, width = image_hwc.shape[:2]
    extra_x, extra_y = margin * (box[2] - box[0]), margin * (box[3] - box[1])
    x1 = int(np.clip(np.floor((box[0] - extra_x) * width), 0, width - 1))
    y1 = int(np.clip(np.floor((box[1] - extra_y) * height), 0, height - 1))
    x2 = int(np.clip(np.ceil((box[2] + extra_x) * width), x1 + 1, width))
    y2 = int(np.clip(np.ceil((box[3] + extra_y) * height), y1 + 1, height))
    return np.array([x1, y1, x2, y2])
