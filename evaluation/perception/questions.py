"""The questions of LayoutSAM-Eval (CreatiLayout, arXiv 2412.03859), and the attribute words that descriptions are searched for.

A judge is shown the crop of a generated picture at an entity's box: first whether the entity is there (spatial), then
whether colour, texture and shape agree with the detailed description. How answers become scores is in
:mod:`evaluation.benchmarks.layoutsam_eval`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
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

SPATIAL = "spatial"
"""What the first question about a box asks for."""
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


@dataclass(frozen=True)
class Asked:
    """What a question asks: ``about`` is :data:`SPATIAL` or an attribute, ``detail`` is empty where it is spatial."""

    about: str
    region: str
    detail: str = ""


_SPATIAL_FORM = re.compile(
    r'Is the subject "(?P<region>.*)" present in the image\? ' + re.escape(_STRICT), re.DOTALL
)
_ATTRIBUTE_FORM = re.compile(
    r'Is the subject in "(?P<region>.*)" in the image consistent with the (?P<about>'
    + "|".join(ATTRIBUTES)
    + r') described in the detailed description: "(?P<detail>.*)"\? '
    + re.escape(_STRICT)
    + r' If the (?P=about) is not mentioned in the detailed description, the answer is "Yes"\.',
    re.DOTALL,
)


def read_question(question: str) -> Asked | None:
    """What one of the questions above asks, for judges that are no language models; None for any other question."""
    if found := _SPATIAL_FORM.fullmatch(question):
        return Asked(SPATIAL, found["region"])
    if found := _ATTRIBUTE_FORM.fullmatch(question):
        return Asked(found["about"], found["region"], found["detail"])
    return None


def is_yes(answer: str) -> bool:
    """Whether an answer counts as a hit: it contains "Yes" or "yes", as the published script has it."""
    return "Yes" in answer or "yes" in answer


def _without_slashes(text: str) -> str:
    return text.replace("/", "")
