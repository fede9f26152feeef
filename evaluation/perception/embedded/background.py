"""What lies behind the objects: a smooth or patterned background fitted to an image from its pixels.

Five kinds are tried, from simple to complex: plain, gradient (colour affine in x and y), two-tone (two colours
parted by a straight line), checkered, and none of these ("unknown", as in most photographs). The fit whose colours
explain most of the image and of its border wins, with a handicap for the complex ones. Colours come from the image's border, because objects
rarely fill it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Float, UInt8

from evaluation.perception.embedded.colors import main_color

KINDS = ("plain", "gradient", "two-tone", "checkered", "unknown")
TOLERANCE = 22.0  # largest channel difference (0..255) at which a pixel still counts as background
_ASLANT = "aslant"  # two-tone, parted by a line that is neither upright nor level
_HANDICAP = {"plain": 0.0, "gradient": 0.015, "two-tone": 0.02, _ASLANT: 0.02, "checkered": 0.03}
_MIN_EXPLAINED_IMAGE = 0.2
_MIN_EXPLAINED_BORDER = 0.5
# A square thing in a corner looks like half of a picture parted aslant, but for what it leaves of the border.
_MIN_EXPLAINED_BORDER_ASLANT = 0.97


@dataclass(frozen=True)
class Background:
    """A fitted background.

    ``kind`` is one of :data:`KINDS`; ``colors`` are one or two colour words, empty when unknown;
    ``prediction_hwc`` is the background's colour at each pixel (0..255); ``explained`` the share of the
    border's pixels within :data:`TOLERANCE` of it.
    """

    kind: str
    colors: tuple[str, ...]
    prediction_hwc: Float[np.ndarray, "h w 3"]
    explained: float


def largest_difference(
    a: Float[np.ndarray, "... 3"], b: Float[np.ndarray, "... 3"]
) -> Float[np.ndarray, ...]:
    """Largest of the three channels' differences (three slices are faster than a reduction over a short axis)."""
    difference = np.abs(a - b)
    return np.maximum(np.maximum(difference[..., 0], difference[..., 1]), difference[..., 2])


def _border_mask(height: int, width: int) -> Bool[np.ndarray, "h w"]:
    mask = np.zeros((height, width), dtype=bool)
    mask[0], mask[-1], mask[:, 0], mask[:, -1] = True, True, True, True
    return mask


def _palette(border_n3: Float[np.ndarray, "n 3"], num_colors: int) -> list[Float[np.ndarray, " 3"]]:
    """The colours with most border pixels close by, greedily: at most ``num_colors`` of them."""
    colors: list[np.ndarray] = []
    rest = border_n3
    while len(rest) >= 0.1 * len(border_n3) and len(colors) < num_colors:
        near = largest_difference(rest[:, None], rest[None]) <= TOLERANCE
        chosen = near[near.sum(1).argmax()]
        colors.append(np.median(rest[chosen], axis=0))
        rest = rest[largest_difference(rest, colors[-1]) > TOLERANCE]
    return colors


@lru_cache(maxsize=8)
def _layouts(height: int, width: int) -> tuple[Float[np.ndarray, "layouts h w"], tuple[str, ...]]:
    """Which of two colours lies where, for all straight partings and checker sizes that are tried."""
    y, x = np.mgrid[0:height, 0:width]
    maps: list[np.ndarray] = []
    kinds: list[str] = []
    step = max(1, min(height, width) // 64)
    partings = [(x, width), (y, height), (x * height + y * width, 2 * height * width)]
    for ramp, top in partings:
        is_aslant = top > max(height, width)
        shifts = np.linspace(0.25, 0.75, 9) * top if is_aslant else np.arange(4 * step, top - 3, step)
        maps += [ramp >= shift for shift in shifts]
        kinds += [_ASLANT if is_aslant else "two-tone"] * len(shifts)
    falling = x * height - y * width
    maps += [falling >= shift for shift in np.linspace(-0.5, 0.5, 9) * height * width]
    kinds += [_ASLANT] * (len(maps) - len(kinds))
    for cell in range(4 * step, min(height, width) // 2 + 1):
        maps.append(((x // cell + y // cell) % 2).astype(bool))
        kinds.append("checkered")
    return np.stack(maps).astype(np.float32), tuple(kinds)


def _two_colored(
    image: Float[np.ndarray, "h w 3"], palette: list[Float[np.ndarray, " 3"]]
) -> list[tuple[str, Float[np.ndarray, "h w 3"]]]:
    """The best predictions for a palette of two colours: parted upright or level, parted aslant, checkered."""
    layouts_lhw, kinds = _layouts(image.shape[0], image.shape[1])
    is_first, is_second = (largest_difference(image, color) <= TOLERANCE for color in palette)
    flat = layouts_lhw.reshape(len(kinds), -1)
    gain = (is_second.astype(np.float32) - is_first.astype(np.float32)).reshape(-1)
    # matches = sum over pixels of (layout ? second : first), for the layout and for its negative
    gained = flat @ gain
    straight, swapped = gained + is_first.sum(), is_second.sum() - gained
    found = []
    for kind in ("two-tone", _ASLANT, "checkered"):
        allowed = np.array([name == kind for name in kinds])
        best = int(np.where(allowed, np.maximum(straight, swapped), -1).argmax())
        second_here = (layouts_lhw[best] > 0) == bool(straight[best] >= swapped[best])
        found.append((kind, np.where(second_here[..., None], palette[1], palette[0])))
    return found


def _gradient(
    image: Float[np.ndarray, "h w 3"], border: Bool[np.ndarray, "h w"]
) -> Float[np.ndarray, "h w 3"]:
    """Colour affine in x and y by trimmed least squares: first the border, then every pixel that fits."""
    height, width = border.shape
    y, x = np.mgrid[0:height, 0:width]
    design = np.stack([np.ones(border.size), x.ravel() / width, y.ravel() / height], axis=1)
    pixels = image.reshape(-1, 3)
    allowed = border.ravel()
    use = allowed
    prediction = pixels
    for round_index in range(6):
        coefficients, *_ = np.linalg.lstsq(design[use], pixels[use], rcond=None)
        prediction = design @ coefficients
        residual = largest_difference(prediction, pixels)
        if round_index == 3:
            allowed = np.ones_like(allowed)
        keep_share = 0.75 if round_index < 3 else 1.0
        limit = max(
            TOLERANCE / 2, float(np.quantile(residual[use], keep_share)) if round_index < 3 else TOLERANCE
        )
        use = allowed & (residual <= limit)
        if use.sum() < 12:
            break
    return prediction.reshape(image.shape)


def _color_words(kind: str, prediction: Float[np.ndarray, "h w 3"]) -> tuple[str, ...]:
    """One word for a plain background; the words at both ends of a gradient, or of both colours of a pattern."""
    pixels = prediction.reshape(-1, 3)
    if kind == "plain":
        samples = [pixels[:1]]
    elif kind == "gradient":
        corners = prediction[[0, 0, -1, -1], [0, -1, 0, -1]]
        span = np.abs(corners[:, None] - corners[None]).sum(-1)
        first, second = np.unravel_index(span.argmax(), span.shape)
        samples = [corners[[first]], corners[[second]]]
    else:
        samples = [row[None] for row in np.unique(pixels, axis=0)]
    words = [main_color(np.clip(np.rint(sample), 0, 255).astype(np.uint8)) for sample in samples]
    return tuple(dict.fromkeys(words))


def fit_background(image_hwc: UInt8[np.ndarray, "h w 3"]) -> Background:
    """The background that explains most of the image, or one of kind "unknown" when none explains enough."""
    image = image_hwc.astype(np.float64)
    border = _border_mask(*image_hwc.shape[:2])
    palette = _palette(image[border][::2], 2)  # every second pixel says as much
    candidates = [("plain", np.broadcast_to(palette[0], image.shape)), ("gradient", _gradient(image, border))]
    if len(palette) == 2:
        candidates += _two_colored(image, palette)
    best_score, best = -1.0, Background("unknown", (), image, 0.0)
    for kind, prediction in candidates:
        fits = largest_difference(image, prediction) <= TOLERANCE
        border_share = float(fits[border].mean())
        # The border counts as much as the whole: an object at the edge must not pass for a second colour.
        score = (float(fits.mean()) + border_share) / 2 - _HANDICAP[kind]
        enough = _MIN_EXPLAINED_BORDER_ASLANT if kind == _ASLANT else _MIN_EXPLAINED_BORDER
        if fits.mean() >= _MIN_EXPLAINED_IMAGE and border_share >= enough and score > best_score:
            best_score, shown = score, "two-tone" if kind == _ASLANT else kind
            best = Background(shown, (), np.ascontiguousarray(prediction), border_share)
    return Background(best.kind, _words_or_none(best), best.prediction_hwc, best.explained)


def _words_or_none(background: Background) -> tuple[str, ...]:
    if background.kind == "unknown":
        return ()
    return _color_words(background.kind, background.prediction_hwc)
