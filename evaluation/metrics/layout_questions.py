"""The questions of LayoutSAM-Eval, and the attribute words that descriptions are searched for.

A vision-language model is shown the crop of a generated picture at an entity's box: first whether the entity is there
(spatial), then, only where it is, whether colour, texture and shape agree with the detailed description. Hits are
summed over all boxes, so that an attribute can never score above spatial (CreatiLayout, LayoutSAM-Eval).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Literal

from evaluation.perception.embedded.colors import COLOR_WORDS
from training.errors import FoundryError

Attribute = Literal["color", "texture", "shape"]
ATTRIBUTES: tuple[Attribute, ...] = ("color", "texture", "shape")

# Per attribute the words a description may use, each with the word that is recorded. The first of each list are those
# that embedded perception measures; the others are everyday words of larger models.
_COLORS = {word: word for word in COLOR_WORDS} | {
    "grey": "gray",
    "golden": "gold",
    "gold": "gold",
    "silver": "silver",
    "beige": "beige",
    "turquoise": "turquoise",
    "violet": "violet",
    "maroon": "maroon",
    "navy": "navy",
    "magenta": "magenta",
    "cyan": "cyan",
    "multicolored": "multicolored",
    "colorful": "multicolored",
}
_TEXTURES = {
    "smooth": "smooth",
    "striped": "striped",
    "spotted": "spotted",
    "detailed": "detailed",
    "rough": "rough",
    "shiny": "shiny",
    "glossy": "glossy",
    "matte": "matte",
    "furry": "furry",
    "fluffy": "fluffy",
    "wooden": "wooden",
    "metallic": "metallic",
    "knitted": "knitted",
    "woven": "woven",
    "textured": "textured",
    "checkered": "checkered",
    "plaid": "plaid",
    "floral": "floral",
    "transparent": "transparent",
    "wrinkled": "wrinkled",
}
_SHAPES = {
    "round": "round",
    "square": "square",
    "tall": "tall",
    "wide": "wide",
    "irregular": "irregular",
    "circular": "round",
    "spherical": "round",
    "oval": "oval",
    "rectangular": "rectangular",
    "triangular": "triangular",
    "cylindrical": "cylindrical",
    "conical": "conical",
    "curved": "curved",
    "slender": "slender",
    "narrow": "narrow",
    "pointed": "pointed",
}
ATTRIBUTE_WORDS: Mapping[Attribute, Mapping[str, str]] = {
    "color": _COLORS,
    "texture": _TEXTURES,
    "shape": _SHAPES,
}

_STRICT = 'Strictly answer with "Yes" or "No", without any irrelevant words.'


def attributes_of(description: str) -> dict[Attribute, str]:
    """Colour, texture and shape that a description names, empty where it names none.

    Several are joined in the order in which they stand: "red and white". What stands in double quotes was read in the
    picture and describes nothing.
    """
    unquoted = re.sub(r'"[^"]*"', " ", description.lower())
    words = re.findall(r"[a-z]+", unquoted)
    found: dict[Attribute, str] = {}
    for attribute in ATTRIBUTES:
        known = ATTRIBUTE_WORDS[attribute]
        found[attribute] = " and ".join(dict.fromkeys(known[word] for word in words if word in known))
    return found


def spatial_question(region: str) -> str:
    """Whether the entity is in the crop at all; ``region`` is its short phrase. Slashes are stripped, as published."""
    return f'Is the subject "{_without_slashes(region)}" present in the image? {_STRICT}'


def attribute_question(region: str, attribute: str, detail: str) -> str:
    """Whether an attribute of the crop agrees with the detailed description.

    Raises FoundryError for an attribute that the benchmark does not ask for.
    """
    if attribute not in ATTRIBUTES:
        raise FoundryError(
            f"attribute is '{attribute}'; allowed are {', '.join(ATTRIBUTES)}. Use one of them."
        )
    region, detail = _without_slashes(region), _without_slashes(detail)
    return (
        f'Is the subject in "{region}" in the image consistent with the {attribute} described in the detailed '
        f'description: "{detail}"? {_STRICT} If the {attribute} is not mentioned in the detailed description, '
        'the answer is "Yes".'
    )


def is_yes(answer: str) -> bool:
    """Whether an answer counts as a hit: it contains "Yes" or "yes", as the published script has it."""
    return "Yes" in answer or "yes" in answer


def crop_box_px(box_xyxy_norm: Sequence[float], width: int, height: int) -> tuple[int, int, int, int]:
    """Where to crop a generated picture: x1, y1, x2, y2 in *its own* pixels, at least one pixel wide and high.

    The published script scales boxes by a constant (1024 or 512); on a picture of another size it then asks about the
    wrong places, and spatial falls from 0.925 to 0.318. Width and height are therefore the picture's own.

    Raises FoundryError for an empty picture or a box out of order or range.
    """
    x1, y1, x2, y2 = box_xyxy_norm
    if width < 1 or height < 1:
        raise FoundryError(f"crop: the picture is {width} x {height} pixels; at least 1 x 1 is needed")
    if not (0 <= x1 < x2 <= 1 and 0 <= y1 < y2 <= 1):
        raise FoundryError(
            f"crop: box is {[x1, y1, x2, y2]}; allowed is x1 < x2, y1 < y2 in [0, 1]. Give normalised corners."
        )
    left, top = min(int(x1 * width), width - 1), min(int(y1 * height), height - 1)
    right, bottom = (
        min(width, max(left + 1, round(x2 * width))),
        min(height, max(top + 1, round(y2 * height))),
    )
    return left, top, right, bottom


def scores_of(hits: Sequence[Mapping[str, bool]]) -> dict[str, float]:
    """Spatial, colour, texture and shape in [0, 1] over all boxes: an attribute counts only where spatial does.

    ``hits`` holds for every box the keys ``spatial`` and, where that is true, ``color``, ``texture`` and ``shape``.
    Raises FoundryError for no boxes: their score is not zero but unknown.
    """
    if not hits:
        raise FoundryError(
            "layout scores: found no boxes; at least one is needed. Check the benchmark's rows."
        )
    counted = {"spatial": sum(hit["spatial"] for hit in hits)}
    for attribute in ATTRIBUTES:
        counted[attribute] = sum(hit["spatial"] and hit.get(attribute, False) for hit in hits)
    return {name: count / len(hits) for name, count in counted.items()}


def _without_slashes(text: str) -> str:
    return text.replace("/", "")
