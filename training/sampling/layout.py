"""Sampling with a layout: guidance from a null layout, and the share of steps in which the branch takes part."""

from __future__ import annotations

from dataclasses import replace

from training.conditioning import Condition, Placed
from training.errors import FoundryError
from training.sampling.control import Changed, Control, Window


def with_layout(condition: Condition, layout: Placed, strength: float = 1.0) -> Condition:
    """Texts and where things stand; the null has neither, so that guidance extrapolates from both.

    Raises FoundryError where pictures and layouts differ in number, or ``strength`` s is negative.
    """
    if len(layout) != len(condition):
        raise FoundryError(f"{len(condition)} prompts but {len(layout)} layouts; give one layout a prompt")
    if strength < 0:
        raise FoundryError(f"strength is {strength:g}; give 0 (the base alone) or more, 1 is as trained")
    told = replace(layout, strength=strength)
    nothing = told.left_out().each(lambda rows: rows[:1])
    null = None if condition.null is None else replace(condition.null, layout=nothing)
    return replace(condition, layout=told, null=null)


def layout_window(share: float) -> Control:
    """Tells the layout in the first ``share`` of the steps alone, [0, int(share N)): a hard switch, as released (.3).

    After it the branch is not computed at all. Raises FoundryError for a share outside [0, 1].
    """
    if not 0 <= share <= 1:
        raise FoundryError(
            f"window is {share:g}; give the share of the steps that are told the layout, [0, 1]"
        )
    return Changed(without_layout, Window(share, 1.0))


def without_layout(condition: Condition) -> Condition:
    """Texts alone."""
    null = None if condition.null is None else replace(condition.null, layout=None)
    return replace(condition, layout=None, null=null)
