"""Words for what was measured: articles, plurals, places, relations, sizes, backgrounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from evaluation.perception.embedded.colors import COLOR_WORDS

NUMBERS = {2: "two", 3: "three", 4: "four", 5: "five", 6: "six"}
LARGE_AREA, MIDDLE_AREA = 0.25, 0.08  # of a box, over the image's
_NEAR = 0.12  # centres closer than this share of the image are neither left of nor above one another
_SAME_IN_PLURAL = frozenset(("fish", "sheep", "deer"))


def with_article(phrase: str) -> str:
    """The phrase after "a" or "an", by its first letter."""
    return f"{'an' if phrase[:1].lower() in 'aeiou' else 'a'} {phrase}"


def plural(noun: str) -> str:
    """The noun in plural by the common rules: "butterflies", "boxes", "two fish"."""
    if noun.split(" ")[-1] in _SAME_IN_PLURAL:
        return noun
    if noun.endswith("y") and noun[-2:-1] not in ("", *"aeiou"):
        return f"{noun[:-1]}ies"
    return f"{noun}es" if noun.endswith(("s", "x", "z", "ch", "sh")) else f"{noun}s"


def noun_phrase(region: Mapping[str, Any]) -> str:
    """Colour and name of a region, such as "red apple"; "red object" where nothing named it.

    The colour is left out where the name says one already.
    """
    names = region["names"]
    if not names:
        return f"{region['color']} object"
    name = str(names[0])
    return name if says_color(name) else f"{region['color']} {name}"


def says_color(text: str) -> bool:
    """Whether a colour word stands in the text."""
    return bool(set(text.lower().split()) & {*COLOR_WORDS, "grey"})


def place_words(box_xyxy_norm: Sequence[float]) -> str:
    """Where a box lies, in a grid of three by three: "at the top left", "in the middle" ..."""
    x, y = (box_xyxy_norm[0] + box_xyxy_norm[2]) / 2, (box_xyxy_norm[1] + box_xyxy_norm[3]) / 2
    row = "top" if y < 1 / 3 else "bottom" if y > 2 / 3 else ""
    column = "left" if x < 1 / 3 else "right" if x > 2 / 3 else ""
    if not row and not column:
        return "in the middle"
    if row:
        return f"at the {row} {column}".rstrip()
    return f"on the {column}"


def relation(first_xy: tuple[float, float], second_xy: tuple[float, float]) -> str:
    """How the first centre lies to the second: "to the left of", "above" ..., "next to" where they nearly coincide."""
    dx, dy = second_xy[0] - first_xy[0], second_xy[1] - first_xy[1]
    if max(abs(dx), abs(dy)) < _NEAR:
        return "next to"
    if abs(dx) >= abs(dy):
        return "to the left of" if dx > 0 else "to the right of"
    return "above" if dy > 0 else "below"


def size_words(box_xyxy_norm: Sequence[float]) -> str:
    """How much of the picture a box takes: "large" from a quarter on, "small" below 8 %, else "of middle size"."""
    area = (box_xyxy_norm[2] - box_xyxy_norm[0]) * (box_xyxy_norm[3] - box_xyxy_norm[1])
    if area >= LARGE_AREA:
        return "large"
    return "of middle size" if area >= MIDDLE_AREA else "small"


def background_phrase(kind: str, color: str) -> str:
    """Such as "on a blue background" or "on a checkered red and white background"; empty where it is not known."""
    if kind == "unknown" or not color:
        return ""
    described = {"plain": color, "gradient": f"{color} gradient"}.get(kind, f"{kind} {color}")
    return f"on {with_article(described)} background"


def joined(phrases: Sequence[str]) -> str:
    """ "a, b and c"."""
    return phrases[0] if len(phrases) == 1 else ", ".join(phrases[:-1]) + " and " + phrases[-1]


def counted(nouns: Sequence[str]) -> str:
    """ "two red balls and a dog": equal nouns are counted."""
    counts = {noun: list(nouns).count(noun) for noun in nouns}
    return joined(
        [
            with_article(noun) if count == 1 else f"{NUMBERS.get(count, str(count))} {plural(noun)}"
            for noun, count in counts.items()
        ]
    )
