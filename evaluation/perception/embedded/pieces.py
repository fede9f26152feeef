"""Connected pieces of a foreground: joining the loose parts of an object, parting objects that touch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from evaluation.perception.embedded.colors import COLOR_WORDS, color_indices

_JOIN_GAP_PX = 2
_MIN_HALF_PX = 60
# How alike two touching parts must be to be one object. Set on composed scenes of another seed than those measured.
_WIDE_PASSAGE = 1.8  # contact over thickness: a part joined to another this widely is the same object
_ALIKE = 1.65  # ... as are parts whose contact and whose overlap of colours (0..1) sum to more than this


@dataclass(frozen=True)
class Piece:
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


def connected_pieces(mask: Bool[np.ndarray, "h w"]) -> list[Piece]:
    """Connected components (8 neighbours), without single specks."""
    from scipy import ndimage

    labels, count = ndimage.label(mask, structure=np.ones((3, 3), dtype=int))
    boxes = ndimage.find_objects(labels)
    pieces = [
        Piece(labels == index + 1, (xs.start, ys.start, xs.stop, ys.stop))
        for index, (ys, xs) in enumerate(boxes[:count])
    ]
    return [piece for piece in pieces if piece.area >= 3]


def union_of(pieces: list[Piece]) -> Piece:
    boxes = np.array([piece.box for piece in pieces])
    box = (*boxes[:, :2].min(0).tolist(), *boxes[:, 2:].max(0).tolist())
    return Piece(np.any([piece.mask for piece in pieces], axis=0), box)


def join_parts(pieces: list[Piece]) -> list[Piece]:
    """Join small pieces to a larger one that is at most :data:`_JOIN_GAP_PX` away, largest first."""
    from scipy import ndimage

    rest = sorted(pieces, key=lambda piece: -piece.area)
    joined: list[Piece] = []
    while rest:
        main = rest.pop(0)
        reach = ndimage.binary_dilation(main.mask, np.ones((3, 3), dtype=bool), iterations=_JOIN_GAP_PX)
        near = [piece for piece in rest if piece.area < 0.25 * main.area and bool((reach & piece.mask).any())]
        rest = [piece for piece in rest if not any(piece is part for part in near)]
        joined.append(union_of([main, *near]))
    return joined


def split_touching(image: UInt8[np.ndarray, "h w 3"], piece: Piece) -> list[Piece]:
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


def _boxed(mask: Bool[np.ndarray, "h w"]) -> Piece:
    ys, xs = np.nonzero(mask)
    return Piece(mask, (int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1))


def _merged(
    image: UInt8[np.ndarray, "h w 3"], parts: Int[np.ndarray, "h w"], peaks_k: Float[np.ndarray, " k"]
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
    colors_first: Float[np.ndarray, " c"],
    colors_second: Float[np.ndarray, " c"],
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
    places = np.array(ndimage.maximum_position(depth, labels, np.arange(1, count + 1)), dtype=np.int64)
    deepest_first = places[np.argsort(-depth[places[:, 0], places[:, 1]], kind="stable")]
    return [(int(y), int(x)) for y, x in deepest_first[:8]]
