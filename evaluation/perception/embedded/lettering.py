"""Which pieces look like the letters of a word: a cheap test on pixels that decides where OCR is worth its time."""

from __future__ import annotations

import numpy as np
from jaxtyping import UInt8

from evaluation.perception.embedded.background import Background, largest_difference
from evaluation.perception.embedded.pieces import Piece, union_of

_LETTER_HALF_STROKE = 0.3  # half the width of a letter's strokes, as a share of its height, at most


def take_words(
    image: UInt8[np.ndarray, "h w 3"], background: Background, pieces: list[Piece]
) -> tuple[list[Piece], list[Piece]]:
    """Rows of letter-like pieces (letters may touch) as words; all other pieces as they are."""
    letters = [piece for piece in pieces if _letter_like(image, background, piece)]
    letters.sort(key=lambda piece: piece.box[0])
    rest, words = list(pieces), []
    while letters:
        row = [letters.pop(0)]
        for letter in list(letters):
            if _same_row(row[-1], letter):
                row.append(letter)
        word = union_of(row)
        if word.width < (1.2 if len(row) > 1 else 2.2) * word.height:
            continue
        row += [piece for piece in rest if not _among(piece, row) and _inside_row(word, piece)]
        words.append(union_of(row))
        rest = [piece for piece in rest if not _among(piece, row)]
        letters = [piece for piece in letters if not _among(piece, row)]
    return words, rest


def _among(piece: Piece, pieces: list[Piece]) -> bool:
    return any(piece is other for other in pieces)


def _inside_row(word: Piece, piece: Piece) -> bool:
    """Whether a piece that is not letter-like itself (two letters that touch, a dot) belongs to the word's row."""
    reach = 0.4 * word.height
    return (
        piece.box[1] >= word.box[1] - 2
        and piece.box[3] <= word.box[3] + 2
        and piece.box[2] >= word.box[0] - reach
        and piece.box[0] <= word.box[2] + reach
    )


def _letter_like(image: UInt8[np.ndarray, "h w 3"], background: Background, piece: Piece) -> bool:
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


def _same_row(left: Piece, right: Piece) -> bool:
    taller = max(left.height, right.height)
    return (
        abs(left.box[3] - right.box[3]) <= 0.25 * taller
        and min(left.height, right.height) >= 0.65 * taller
        and -1 <= right.box[0] - left.box[2] <= 0.6 * taller
    )
