"""Drawings of the concept bank found again in a picture, also where one lies partly behind another.

What touches or hides what cannot be told by colours and outlines alone: a cookie before a book is one piece of
foreground. Whoever knows the drawings sees two. A drawing is searched for at all sizes and places by the colour words
of its pixels at half resolution, and what comes out is held against the picture pixel by pixel: a drawing is accepted
where nearly all of it that nothing accepted before it hides has the picture's colours, and where it ends the picture
changes. Objects in front are so found first. What resembles no drawing of the bank is left to the search that knows
none (:mod:`evaluation.perception.embedded.pieces`).

Shape legend: t drawings at a size, w colour words and background, f frequencies, p pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Complex, Float, Int, Int16, UInt8

from evaluation.perception.embedded.colors import COLOR_WORDS, color_indices
from evaluation.perception.embedded.sized_drawings import MARGIN_PX, SizedDrawing, alike, size_drawing

SMALLEST_PX, LARGEST_PX = 18, 48
"""Sides of drawings that are searched for, at analysis size."""
_COARSE = 2  # pixels of the picture to one of the search by colour words
_SEARCH_STEP_PX = 3
_MIN_COARSE = 0.3  # share of a drawing's pixels that must agree in colour words, less those on background
_NUM_PLACES, _SIZES_A_LOOK = 80, 3
_NUM_LIKELY, _MIN_LIKELY = (
    16,
    0.9,
)  # places that are looked at first, and the value from which they are refined
_NUM_CLIMBING = 16  # places, the best, that are refined further
_NUM_SAMPLED = 80  # of a drawing's pixels, while its place is refined
_MIN_SAMPLED = 0.3  # of these, the share that must be seen
_RIM_WEIGHT = 0.5
_CLIMBS = 4  # steps of one pixel by which a place is refined at most
_MIN_CLIMBED, _MIN_VALUE = 0.6, 1.0  # of at most 1.5, below which a place is given up before and after them
# Set on composed scenes of another seed than those measured.
# Of drawings that are there 98 % agree more than this, and none lies on background by more.
_MIN_AGREEMENT, _MIN_PLAIN_AGREEMENT = 0.92, 0.98  # of the solid pixels that nothing in front hides
_MAX_ON_BACKGROUND = 0.02  # of the same pixels: share where the picture shows background instead
_MIN_VISIBLE = 0.45  # of a drawing's pixels
_MIN_COVER = 0.85  # of a patch of one colour, the share that a plain drawing must cover to be taken for it
_MIN_ENDING = 0.85  # or of the pixels around it, the share that is background or of another colour
_MIN_NEW_PX = 40  # pixels that a drawing must explain
_MIN_SEARCHED_PX = 80  # foreground left, below which nothing more is searched for
_ON_BACKGROUND = 1.5  # pixels that count against one where the picture shows background instead


@dataclass(frozen=True)
class _Picture:
    """A picture with a margin of background, so that rims never lie outside, as rows of pixels.

    ``claimed`` is what drawings found so far hide, ``blended`` that and the pixels beside it, where their soft edges
    mix with what is behind; both change while drawings are found.
    """

    side_px: int
    rgb: Int16[np.ndarray, "pixels 3"]
    foreground: Bool[np.ndarray, " pixels"]
    claimed: Bool[np.ndarray, " pixels"]
    blended: Bool[np.ndarray, " pixels"]

    @staticmethod
    def of(image: UInt8[np.ndarray, "h w 3"], foreground: Bool[np.ndarray, "h w"]) -> _Picture:
        """A picture of which nothing is claimed."""
        rgb = np.pad(image.astype(np.int16), ((MARGIN_PX, MARGIN_PX), (MARGIN_PX, MARGIN_PX), (0, 0)))
        inside = np.pad(foreground, MARGIN_PX).ravel()
        return _Picture(len(rgb), rgb.reshape(-1, 3), inside, np.zeros_like(inside), np.zeros_like(inside))

    def claim(self, whole: Bool[np.ndarray, "h w"]) -> None:
        """Take a drawing's pixels for hiding what is behind them."""
        from scipy import ndimage

        square = np.pad(whole, MARGIN_PX)
        self.claimed[:] |= square.ravel()
        self.blended[:] |= np.asarray(ndimage.binary_dilation(square, np.ones((3, 3), dtype=bool))).ravel()

    @property
    def num_left(self) -> int:
        """Pixels of the foreground that no drawing hides."""
        return int((self.foreground & ~self.claimed).sum())

    @property
    def num_unexplained(self) -> int:
        """Of these, the ones that are no soft edge of a drawing either."""
        return int((self.foreground & ~self.blended).sum())

    def rows(self, places: Int[np.ndarray, "*n 2"]) -> Int[np.ndarray, "*n"]:
        """Rows of pixels by (row, column) in the picture without margin."""
        return (places[..., 0] + MARGIN_PX) * self.side_px + places[..., 1] + MARGIN_PX

    def cropped(self, pixels: Bool[np.ndarray, " pixels"]) -> Bool[np.ndarray, "h w"]:
        """One value a pixel, without margin."""
        square = pixels.reshape(self.side_px, self.side_px)
        return square[MARGIN_PX:-MARGIN_PX, MARGIN_PX:-MARGIN_PX]


@dataclass(frozen=True)
class Found:
    """A drawing in a picture: its concept, its whole extent in pixels (x1, y1, x2, y2), what of it is seen.

    ``whole`` is its outline where nothing would hide it; ``agreement`` the share of the seen pixels that have the
    drawing's colours, in (0, 1].
    """

    concept: str
    box: tuple[int, int, int, int]
    mask: Bool[np.ndarray, "h w"]
    whole: Bool[np.ndarray, "h w"]
    agreement: float


@dataclass(frozen=True)
class _Place:
    """A drawing (by its number) at a size, its opaque pixels from row ``top`` and column ``left`` on."""

    look: int
    side_px: int
    top: int
    left: int


class KnownDrawings:
    """Finds the drawings of a bank in pictures at analysis size.

    Args:
        concepts: the concept that each drawing shows.
        pictures: the drawings as RGBA, at least :data:`LARGEST_PX` on a side.
        side_px: side of the pictures that are searched.
    """

    def __init__(
        self, concepts: tuple[str, ...], pictures: UInt8[np.ndarray, "looks s s 4"], side_px: int
    ) -> None:
        self.concepts = concepts
        self.pictures = pictures
        self.side_px = side_px
        self._sized: dict[tuple[int, int], SizedDrawing] = {}

    def find(self, image: UInt8[np.ndarray, "h w 3"], foreground: Bool[np.ndarray, "h w"]) -> list[Found]:
        """Drawings in the foreground of a picture, those in front first; none in a picture of another size."""
        if image.shape[:2] != (self.side_px, self.side_px):
            return []
        picture = _Picture.of(image, foreground)
        words = _coarse_words(image, ~foreground)
        places = self._places(words)
        found = self._find_behind(picture, places[:_NUM_LIKELY], _MIN_LIKELY)
        if picture.num_unexplained < _MIN_SEARCHED_PX:
            return found  # as in most scenes: what is likely at once explains all there is
        picture, found = _Picture.of(image, foreground), []
        while new := self._find_behind(picture, places):
            found += new
            if picture.num_left < _MIN_SEARCHED_PX:
                break
            # A new search each time: what was found no longer draws other drawings to itself.
            places = self._places(words * _coarse(~picture.cropped(picture.claimed)))
        return found

    def _find_behind(self, picture: _Picture, places: list[_Place], least: float = -np.inf) -> list[Found]:
        """Drawings behind what is claimed, those in front first; they are claimed, too.

        Places of less value than ``least`` are not refined.
        """
        found: list[Found] = []
        touched = places
        while True:
            # What a drawing in front hides says nothing of where the one behind it lies.
            places = [place for place in places if place not in touched]
            places += self._refined(touched, picture, least)
            looked_at = [self._look(place, picture) for place in places]
            best = max(
                (item for item in looked_at if item is not None), key=lambda item: item[0], default=None
            )
            if best is None:
                return found
            found.append(best[1])
            picture.claim(best[1].whole)
            places = [place for place in places if place != best[2]]
            touched = [place for place in places if self._meets(place, best[1].whole)]

    def _places(self, words: Float[np.ndarray, "words h w"]) -> list[_Place]:
        """Where each drawing agrees best with the picture's colour words, at its best sizes; the likeliest first."""
        from scipy import fft

        present = np.flatnonzero(words.any(axis=(1, 2)))  # a scene has few of the colours
        spectra = fft.rfft2(words[present]).astype(np.complex64)
        products = np.zeros(self._spectra.shape[1:], np.complex64)
        for word, spectrum in zip(present, spectra, strict=True):
            products += self._spectra[word] * spectrum
        gains = fft.irfft2(products, s=self._coarse_shape)
        gains[self._outside] = -np.inf
        flat = gains.reshape(len(gains), -1)
        best, score = flat.argmax(axis=1), flat.max(axis=1) / self._areas
        worth = np.where(score >= _MIN_COARSE, score**3 * self._areas, -1.0)
        places: list[_Place] = []
        for index in np.argsort(-worth, kind="stable"):
            look, side_px = self._searched[index]
            if worth[index] < 0 or len(places) == _NUM_PLACES:
                break
            if sum(place.look == look for place in places) < _SIZES_A_LOOK:
                row, column = np.unravel_index(best[index], self._coarse_shape)
                places.append(_Place(look, side_px, _COARSE * int(row), _COARSE * int(column)))
        return places

    def _meets(self, place: _Place, mask: Bool[np.ndarray, "h w"]) -> bool:
        sized = self._at(place.look, place.side_px)
        bottom, right = place.top + sized.height, place.left + sized.width
        return bool(mask[place.top : bottom, place.left : right].any())

    def _refined(self, places: list[_Place], picture: _Picture, least: float) -> list[_Place]:
        """The likely ones of some places, moved to where drawing, background and rim agree best with the picture."""
        near = [self._best_near(place, place.side_px, _COARSE, picture) for place in places]
        near = sorted((option for option in near if option[0] >= least), key=lambda option: -option[0])
        climbed = [self._climbed(value, place, picture) for value, place in near[:_NUM_CLIMBING]]
        return [place for value, place in climbed if value >= _MIN_VALUE]

    def _climbed(self, value: float, place: _Place, picture: _Picture) -> tuple[float, _Place]:
        """The best place and size that steps of one pixel reach, with its value."""
        for _ in range(_CLIMBS):
            if value < _MIN_CLIMBED:
                break
            options = [self._best_near(place, place.side_px + larger, 1, picture) for larger in (-1, 0, 1)]
            best_value, best = max(options, key=lambda option: option[0])
            if best_value <= value:
                break
            value, place = best_value, best
        return value, place

    def _best_near(
        self, place: _Place, side_px: int, reach_px: int, picture: _Picture
    ) -> tuple[float, _Place]:
        """The best place of the drawing at a size within ``reach_px`` pixels, with its value."""
        sized, shift = self._at(place.look, side_px), (side_px - place.side_px) // 2
        around = np.arange(-reach_px, reach_px + 1) - shift
        tops, lefts = place.top + around, place.left + around
        tops = tops[(tops >= 0) & (tops <= self.side_px - sized.height)]
        lefts = lefts[(lefts >= 0) & (lefts <= self.side_px - sized.width)]
        if not len(tops) or not len(lefts):
            return -np.inf, place
        corners = np.stack(np.meshgrid(tops, lefts, indexing="ij"), axis=-1).reshape(-1, 2)
        values = _values(sized, corners, picture)
        top, left = corners[int(values.argmax())]
        return float(values.max()), _Place(place.look, side_px, int(top), int(left))

    def _look(self, place: _Place, picture: _Picture) -> tuple[float, Found, _Place] | None:
        """How much a drawing explains behind what is claimed; None where it is not there."""
        sized = self._at(place.look, place.side_px)
        rows = picture.rows(sized.places + np.array([place.top, place.left]))
        seen, foreground = ~picture.claimed[rows], picture.foreground[rows]
        agrees = alike(picture.rgb[rows], sized.rgb)
        judged = sized.solid & ~picture.blended[rows]
        num_new = int((agrees & seen & foreground).sum())
        if seen.mean() < _MIN_VISIBLE or num_new < _MIN_NEW_PX or not judged.any():
            return None
        agreement = float(agrees[judged].mean())
        enough = _MIN_AGREEMENT if sized.plain_rgb is None else _MIN_PLAIN_AGREEMENT
        if agreement < enough or (~agrees & ~foreground)[judged].mean() > _MAX_ON_BACKGROUND:
            return None
        mask, whole = np.zeros_like(picture.foreground), np.zeros_like(picture.foreground)
        mask[rows[seen]], whole[rows] = True, True
        rim = picture.rows(sized.rim_places + np.array([place.top, place.left]))
        if sized.plain_rgb is not None and not _stands_alone(sized.plain_rgb, rim, mask, picture):
            return None
        box = (place.left, place.top, place.left + sized.width, place.top + sized.height)
        concept = self.concepts[place.look]
        found = Found(concept, box, picture.cropped(mask), picture.cropped(whole), agreement)
        return agreement**3 * num_new, found, place

    def _at(self, look: int, side_px: int) -> SizedDrawing:
        """A drawing at a size, made once."""
        if (look, side_px) not in self._sized:
            self._sized[look, side_px] = size_drawing(self.pictures[look], side_px)
        return self._sized[look, side_px]

    @cached_property
    def _searched(self) -> list[tuple[int, int]]:
        sides = range(SMALLEST_PX, LARGEST_PX + 1, _SEARCH_STEP_PX)
        return [(look, side_px) for look in range(len(self.concepts)) for side_px in sides]

    @property
    def _coarse_shape(self) -> tuple[int, int]:
        return self.side_px // _COARSE, self.side_px // _COARSE

    @cached_property
    def _areas(self) -> Float[np.ndarray, " t"]:
        """Opaque pixels of each searched drawing, in pixels of the search."""
        return np.array([len(self._at(*key).places) for key in self._searched]) / _COARSE**2

    @cached_property
    def _outside(self) -> Bool[np.ndarray, "t h w"]:
        """Places at which a searched drawing would not lie wholly in the picture."""
        outside = np.ones((len(self._searched), *self._coarse_shape), dtype=bool)
        for index, key in enumerate(self._searched):
            sized = self._at(*key)
            rows, columns = ((self.side_px - length) // _COARSE + 1 for length in (sized.height, sized.width))
            outside[index, : max(0, rows), : max(0, columns)] = False
        return outside

    @cached_property
    def _spectra(self) -> Complex[np.ndarray, "words t h f"]:
        """Conjugate spectra of the searched drawings' colour words, what lies on background counting against them."""
        from scipy import fft

        spectra = []
        for key in self._searched:
            sized = self._at(*key)
            image = np.zeros((self.side_px, self.side_px, 3), np.uint8)
            opaque = np.zeros((self.side_px, self.side_px), dtype=bool)
            inside = (sized.places < self.side_px).all(axis=1)
            ys, xs = sized.places[inside].T
            image[ys, xs], opaque[ys, xs] = sized.rgb[inside], True
            words = _coarse_words(image, opaque)
            words[:-1] *= _coarse(opaque)  # blocks that the drawing fills in part count in part
            words[-1] *= -_ON_BACKGROUND
            spectra.append(np.conj(fft.rfft2(words)).astype(np.complex64))
        return np.stack(spectra, axis=1)


def _stands_alone(
    plain_rgb: Int16[np.ndarray, " 3"],
    rim: Int[np.ndarray, " r"],
    mask: Bool[np.ndarray, " pixels"],
    picture: _Picture,
) -> bool:
    """Whether a plain drawing is a thing of its own and no part of a larger patch of its colour."""
    if _cover(plain_rgb, mask, picture) >= _MIN_COVER:
        return True
    seen = rim[~picture.blended[rim]]
    ends = ~picture.foreground[seen] | ~alike(picture.rgb[seen], plain_rgb)
    return bool(len(seen)) and float(ends.mean()) >= _MIN_ENDING


def _cover(plain_rgb: Int16[np.ndarray, " 3"], mask: Bool[np.ndarray, " pixels"], picture: _Picture) -> float:
    """Share of the patches of a colour that a mask covers, of those that it meets: less than 1 where they go on."""
    from scipy import ndimage

    patches, _ = ndimage.label(
        picture.cropped(alike(picture.rgb, plain_rgb) & picture.foreground & ~picture.claimed)
    )
    sizes = np.bincount(patches.ravel())
    inside = np.bincount(patches[picture.cropped(mask)], minlength=len(sizes))
    met = inside > 0
    met[0] = False
    return float(inside[met].sum() / max(1, sizes[met].sum()))


def _values(
    sized: SizedDrawing, corners: Int[np.ndarray, "n 2"], picture: _Picture
) -> Float[np.ndarray, " n"]:
    """How well a drawing fits at each of some places: its pixels, less background where it should be, plus its rim.

    All are shares of what is not claimed; a place of which too little is seen is worth nothing.
    """
    solid = np.flatnonzero(sized.solid)
    sample = solid[:: max(1, len(solid) // _NUM_SAMPLED)]
    rows = picture.rows(sized.places[sample][None] + corners[:, None])
    seen = ~picture.blended[rows]
    agrees = alike(picture.rgb[rows], sized.rgb[sample])
    fits = agrees - _ON_BACKGROUND * (~agrees & ~picture.foreground[rows])
    rim = picture.rows(sized.rim_places[None, ::3] + corners[:, None])
    rim_seen = ~picture.blended[rim]
    ends = ~picture.foreground[rim] | ~alike(picture.rgb[rim], sized.rim_rgb[::3])
    value = (fits * seen).sum(axis=1) / np.maximum(1, seen.sum(axis=1))
    value += _RIM_WEIGHT * (ends & rim_seen).sum(axis=1) / np.maximum(1, rim_seen.sum(axis=1))
    return np.where(seen.mean(axis=1) >= _MIN_SAMPLED, value, -np.inf)


def _coarse(values: Bool[np.ndarray, "h w"]) -> Float[np.ndarray, "h2 w2"]:
    """Means of blocks."""
    height, width = values.shape
    blocks = values.reshape(height // _COARSE, _COARSE, width // _COARSE, _COARSE)
    return blocks.mean(axis=(1, 3), dtype=np.float32)


def _coarse_words(
    image: UInt8[np.ndarray, "h w 3"], marked: Bool[np.ndarray, "h w"]
) -> Float[np.ndarray, "words h2 w2"]:
    """Share of each colour word in each block, and last the share of marked pixels."""
    words = color_indices(image.reshape(-1, 3)).reshape(image.shape[:2])
    layers = [words == index for index in range(len(COLOR_WORDS))]
    return np.stack([_coarse(layer) for layer in [*layers, marked]])
