"""The rules of the detail renderer, and which of them hold at a step and in a layer (3DIS-FLUX, arXiv 2501.05131, section 3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, NamedTuple, get_args

from training.errors import FoundryError
from training.recipes.validation import nearest

Rule = Literal["i2i", "i2t", "t2i", "t2t"]
RULES: tuple[Rule, ...] = get_args(Rule)
PUBLISHED_STEPS = 20
PUBLISHED_STRICT: tuple[tuple[int, int], ...] = ((512, 4), (768, 3), (1024, 2))
"""Side in pixels, and gamma of 20 steps there (paper)."""


class Mode(NamedTuple):
    """What of the rules depends on step and layer. ``strict``: instances see neither global text nor background. ``controlled``:
    texts of instances take part at all."""

    strict: bool
    controlled: bool


@dataclass(frozen=True)
class Rules:
    """Which rules are on, and for how many steps.

    ``i2i``: image tokens of an instance look at their own instances alone, in the first ``strict_steps`` (gamma). ``i2t``: they look
    at no other instance's text at any step, and in the strict steps not at the global text either. ``t2i``: an instance's text looks at
    its own image tokens alone; ``t2t``: and at itself alone. ``controlled_steps``: after so many, texts of instances take no part and
    only the global text is left; None for never. ``strict_layers``: blocks, in the order of execution, in which the strict steps are
    strict; None for all (DreamRenderer binds hard in some layers only). ``one_step_longer``: as the official code counts, the first
    block of the step after the strict ones is strict too.
    """

    i2i: bool = True
    i2t: bool = True
    t2i: bool = True
    t2t: bool = True
    strict_steps: int = 4
    controlled_steps: int | None = None
    strict_layers: frozenset[int] | None = None
    one_step_longer: bool = False

    def __post_init__(self) -> None:
        for name in ("strict_steps", "controlled_steps"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise FoundryError(f"rules: '{name}' is {value}; give 0 or more steps")

    @classmethod
    def named(cls, names: Sequence[str], **others: object) -> Rules:
        """With these rules alone; none is no renderer. Raises FoundryError for a rule that there is not."""
        for name in names:
            if name not in RULES:
                raise FoundryError(f"rules: '{name}' found; {nearest(name, list(RULES))}")
        return cls(**{rule: rule in names for rule in RULES}, **others)  # type: ignore[arg-type]

    @property
    def names(self) -> tuple[Rule, ...]:
        """The rules that are on."""
        return tuple(rule for rule in RULES if getattr(self, rule))

    def mode(self, step: int, layer: int) -> Mode:
        """What holds in block ``layer`` at ``step``, both counted from 0."""
        strict = step < self.strict_steps or (
            self.one_step_longer and layer == 0 and step == self.strict_steps
        )
        if self.strict_layers is not None and layer not in self.strict_layers:
            strict = False
        return Mode(strict, self.controlled_steps is None or step < self.controlled_steps)


def strict_steps_of(size_px: tuple[int, int], num_steps: int) -> int:
    """Gamma for a picture of height and width and so many steps: as published at 512, 768 and 1,024 px for 20, between them
    by the side of a square as large, beyond them as at the end, and in proportion to the steps; at least 1."""
    side = (size_px[0] * size_px[1]) ** 0.5
    low = PUBLISHED_STRICT[0]
    strict = float(low[1])
    for (first, before), (second, after) in pairwise(PUBLISHED_STRICT):
        if side >= first:
            share = min(1.0, (side - first) / (second - first))
            strict = before + share * (after - before)
    return max(1, round(strict * num_steps / PUBLISHED_STEPS))
