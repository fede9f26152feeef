"""Alt-texts as the web writes them: short, often incomplete, sometimes vague, never wrong."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from assets.corpus.scene_drawing import Background
from assets.corpus.world import AltTextHabits, Look

_FILLER = ("clipart", "stock image", "icon", "sticker", "free picture")
_JOINERS = (" and ", ", ", " with ", " & ")


@dataclass(frozen=True)
class Shown:
    """An object that an alt-text may mention: what it is and where its centre lies, in [0, 1].

    ``has_twin`` says that the scene shows its silhouette in another colour too, so that only its colour tells it.
    """

    look: Look
    center_x: float
    center_y: float
    has_twin: bool = False


def write_alt_text(
    habits: AltTextHabits,
    shown: list[Shown],
    background: Background,
    word: str,
    random: np.random.Generator,
) -> str:
    """A terse text about a scene. It leaves things out and generalises, but states nothing false."""
    mentioned = _choose(habits, shown, random)
    mentions = [_mention(habits, thing, random) for thing in mentioned]
    text = _join(mentions, random)
    place = _place(mentioned[0])
    if place and len(mentioned) == 1 and random.random() < habits.position:
        text += f" {place}"
    if random.random() < habits.background:
        text += str(random.choice([", {} background", " on {}"])).format(" and ".join(background.colors))
    if word and random.random() < habits.word:
        text += str(random.choice([', "{}"', ", says {}", ", the word {}"])).format(word)
    if random.random() < habits.noise:
        text += f" {random.choice(_FILLER)}"
    return text


def _choose(habits: AltTextHabits, shown: list[Shown], random: np.random.Generator) -> list[Shown]:
    order = [shown[index] for index in random.permutation(len(shown))]
    if len(order) == 1 or random.random() < habits.mention_all:
        return order
    return order[: int(random.integers(1, len(order)))]


def _mention(habits: AltTextHabits, thing: Shown, random: np.random.Generator) -> str:
    look, concept = thing.look, thing.look.concept
    if thing.has_twin:
        phrase = look.phrase
    elif concept.category and random.random() < habits.vague:
        phrase = concept.category
    elif look.color and random.random() < habits.color:
        phrase = f"{look.color} {concept.name}"
    else:
        phrase = concept.name
    if random.random() < habits.article:
        phrase = f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"
    return phrase


def _join(mentions: list[str], random: np.random.Generator) -> str:
    if len(mentions) == 1:
        return mentions[0]
    last = str(random.choice(_JOINERS))
    return ", ".join(mentions[:-1]) + last + mentions[-1]


def _place(thing: Shown) -> str:
    """Where an object clearly lies, or an empty string when it lies near the middle."""
    sideways, upright = thing.center_x - 0.5, thing.center_y - 0.5
    if max(abs(sideways), abs(upright)) < 0.12:
        return ""
    if abs(sideways) >= abs(upright):
        return "on the left" if sideways < 0 else "on the right"
    return "at the top" if upright < 0 else "at the bottom"
