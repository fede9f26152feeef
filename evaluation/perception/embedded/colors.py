"""Colour words by measurement: the nearest of twelve everyday words in CIELAB."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int, UInt8

# sRGB prototypes, several to a word where the word covers a wide range (Berlin & Kay's eleven basic terms and teal).
_PROTOTYPES: tuple[tuple[str, tuple[int, int, int]], ...] = (
    ("black", (15, 15, 18)),
    ("black", (40, 45, 50)),
    ("white", (250, 250, 250)),
    ("white", (230, 236, 240)),
    ("gray", (128, 128, 128)),
    ("gray", (170, 175, 180)),
    ("gray", (90, 95, 100)),
    ("red", (215, 35, 45)),
    ("red", (160, 20, 30)),
    ("orange", (245, 135, 20)),
    ("yellow", (250, 210, 60)),
    ("yellow", (255, 235, 120)),
    ("green", (45, 140, 60)),
    ("green", (120, 180, 70)),
    ("green", (20, 80, 40)),
    ("teal", (30, 160, 160)),
    ("teal", (70, 205, 210)),
    ("blue", (30, 90, 200)),
    ("blue", (90, 170, 240)),
    ("blue", (25, 35, 110)),
    ("purple", (120, 50, 160)),
    ("purple", (150, 110, 215)),
    ("pink", (240, 130, 180)),
    ("pink", (245, 180, 200)),
    ("brown", (120, 75, 45)),
    ("brown", (175, 110, 70)),
)
COLOR_WORDS: tuple[str, ...] = tuple(dict.fromkeys(word for word, _ in _PROTOTYPES))
PROTOTYPE_RGB = np.array([rgb for _, rgb in _PROTOTYPES], dtype=np.uint8)
_WORD_OF_PROTOTYPE = np.array([COLOR_WORDS.index(word) for word, _ in _PROTOTYPES])
_ACHROMATIC = frozenset({"black", "white", "gray"})
# A picture with black outlines or white gloss is still called by its hue once the hue has this share of pixels.
_HUE_SHARE = 0.3
_SECOND_SHARE = 0.2
_IS_HUE = np.array([word not in _ACHROMATIC for word in COLOR_WORDS])


def rgb_to_lab(rgb: Float[np.ndarray, "*places 3"]) -> Float[np.ndarray, "*places 3"]:
    """sRGB in [0, 255] to CIELAB (D65): L in [0, 100], a and b about [-128, 127]."""
    linear = rgb / 255.0
    linear = np.where(linear <= 0.04045, linear / 12.92, ((linear + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array(
        [
            [0.4124564, 0.3575761, 0.1804375],
            [0.2126729, 0.7151522, 0.0721750],
            [0.0193339, 0.1191920, 0.9503041],
        ]
    )
    xyz = linear @ to_xyz.T / np.array([0.95047, 1.0, 1.08883])
    f = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    return np.stack(
        [116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], axis=-1
    )


_PROTOTYPES_LAB = rgb_to_lab(PROTOTYPE_RGB.astype(np.float64))


def color_indices(rgb_n3: UInt8[np.ndarray, "n 3"]) -> Int[np.ndarray, " n"]:
    """Index into :data:`COLOR_WORDS` of every pixel."""
    lab = rgb_to_lab(rgb_n3.astype(np.float64))
    # squared distance but for the pixel's own length, which is the same for all prototypes
    distance = (_PROTOTYPES_LAB**2).sum(-1) - 2 * lab @ _PROTOTYPES_LAB.T
    return _WORD_OF_PROTOTYPE[distance.argmin(axis=1)]


def main_color(rgb_n3: UInt8[np.ndarray, "n 3"]) -> str:
    """The word most pixels fall under, hues before black, white and gray; "gray" for no pixels at all."""
    return two_colors(rgb_n3)[0]


def two_colors(rgb_n3: UInt8[np.ndarray, "n 3"]) -> tuple[str, str]:
    """:func:`main_color` and the next word, hues first too; the second is empty below a fifth of the pixels."""
    if len(rgb_n3) == 0:
        return "gray", ""
    counts = np.bincount(color_indices(rgb_n3), minlength=len(COLOR_WORDS))
    first = _leading(counts, len(rgb_n3))
    counts[first] = 0
    second = _leading(counts, len(rgb_n3))
    is_there = counts[second] >= _SECOND_SHARE * len(rgb_n3)
    return COLOR_WORDS[first], COLOR_WORDS[second] if is_there else ""


def _leading(counts: Int[np.ndarray, " words"], num_pixels: int) -> int:
    """Index of the word that describes best."""
    hues = np.where(_IS_HUE, counts, 0)
    return int((hues if hues.max() >= _HUE_SHARE * num_pixels else counts).argmax())
