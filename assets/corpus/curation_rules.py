"""Which measures of a landed image drop it, one rule each, in the order in which they are asked.

A rule looks at one column: a number that landed with the image, or one of :data:`MEASURES`. To add a rule, add it to
:data:`CURATION_RULES`; its threshold is then a setting of ``curated_images`` by the rule's ``setting``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Float
from pydantic import Field

from training.errors import FoundryError


def _shorter_side(rows: pa.Table) -> Float[np.ndarray, " n"]:
    return np.minimum(_numbers(rows, "width"), _numbers(rows, "height"))


def _longer_side(rows: pa.Table) -> Float[np.ndarray, " n"]:
    return np.maximum(_numbers(rows, "width"), _numbers(rows, "height"))


MEASURES: Mapping[str, Callable[[pa.Table], Float[np.ndarray, " n"]]] = {
    "shorter_side": _shorter_side,
    "longer_side": _longer_side,
}
"""Columns that no table holds, in pixels, computed of width and height."""


@dataclass(frozen=True)
class CurationRule:
    """Keeps an image where its ``column`` is at least (or at most) the threshold; ``reason`` says why it was dropped.

    Args:
        reason: written into ``dropped_because``.
        column: numeric column of LANDED_IMAGES, or one of :data:`MEASURES`.
        keep: which side of the threshold, itself included, is kept.
        threshold: the default; an integer where only whole numbers make sense.
        setting: name of the threshold among the settings of ``curated_images``.
        about: the setting in words.
        least: smallest threshold that makes sense.
        times: column by which the threshold is multiplied, so that a ratio is compared without rounding it.
    """

    reason: str
    column: str
    keep: Literal["at_least", "at_most"]
    threshold: int | float
    setting: str
    about: str
    least: int | float
    times: str | None = None

    def keeps(self, rows: pa.Table, threshold: int | float) -> Bool[np.ndarray, " n"]:
        """Which of the rows the rule lets through."""
        values = column_of(rows, self.column)
        limit = threshold if self.times is None else threshold * column_of(rows, self.times)
        return values >= limit if self.keep == "at_least" else values <= limit

    def field(self) -> Any:
        """Type and description of the threshold as a field of ``curated_images``' settings."""
        return type(self.threshold), Field(self.threshold, description=self.about, ge=self.least)


CURATION_RULES = (
    CurationRule(
        reason="too_small",
        column="shorter_side",
        keep="at_least",
        threshold=32,
        setting="min_side",
        about="shorter side in pixels below which an image is dropped",
        least=1,
    ),
    CurationRule(
        reason="extreme_aspect_ratio",
        column="longer_side",
        times="shorter_side",
        keep="at_most",
        threshold=4.0,
        setting="max_aspect",
        about="longer over shorter side above which an image is dropped",
        least=1,
    ),
)


def column_of(rows: pa.Table, column: str) -> Float[np.ndarray, " n"]:
    """A measure, or a numeric column of the rows. Raises FoundryError for a column that is neither."""
    if column in MEASURES:
        return MEASURES[column](rows)
    if column not in rows.column_names:
        known = ", ".join([*MEASURES, *rows.column_names])
        raise FoundryError(f"curation rule: there is no column '{column}'; allowed are {known}.")
    return _numbers(rows, column)


def thresholds_of(
    rules: tuple[CurationRule, ...], given: Mapping[str, int | float]
) -> dict[str, int | float]:
    """The threshold of every rule by its setting's name: what is given, else the rule's own.

    Raises FoundryError for an unknown setting and for a threshold below the rule's least.
    """
    known = {rule.setting: rule for rule in rules}
    for name, value in given.items():
        if name not in known:
            raise FoundryError(f"curation: there is no setting '{name}'; allowed are {', '.join(known)}.")
        if value < known[name].least:
            raise FoundryError(f"curation: {name} is {value}; it must be at least {known[name].least:g}.")
    return {name: given.get(name, rule.threshold) for name, rule in known.items()}


def first_reasons(
    rows: pa.Table, rules: tuple[CurationRule, ...], thresholds: Mapping[str, int | float]
) -> list[str]:
    """Why each row is dropped: the reason of the first rule that does not keep it, empty where all do."""
    reasons = np.full(rows.num_rows, "", dtype=object)
    for rule in reversed(rules):  # the first rule has the last word
        reasons[~rule.keeps(rows, thresholds[rule.setting])] = rule.reason
    return [str(reason) for reason in reasons]


def _numbers(rows: pa.Table, column: str) -> Float[np.ndarray, " n"]:
    return rows[column].to_numpy().astype(np.float64)
