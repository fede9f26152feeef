"""From counts of single images to figures: groups of images, chance and oracle beside, bootstrap intervals.

A metric is a ratio of sums over images, such as names that are right over names given. *Chance* gives each image what
was said of another one; the *oracle* says the truth, which is what the metric itself can reach.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TypeVar

import numpy as np
import pyarrow as pa
from jaxtyping import Float
from numpy import ndarray

from evaluation.metrics.scene_truth import Truth

NUMBERS_OF_OBJECTS = ("1 object", "2 objects", "3 objects", "4 objects or more")
GROUPS = ("all", "training_concepts", "held_out_concepts", *NUMBERS_OF_OBJECTS)
SYSTEMS = ("perceived", "chance", "oracle")
_CHANCE_SHIFTS = 3

SCORES = pa.schema(
    [
        pa.field("metric", pa.string(), False, {"description": "name of the figure"}),
        pa.field("about", pa.string(), False, {"description": "what it counts"}),
        pa.field("group", pa.string(), False, {"description": "one of " + ", ".join(GROUPS)}),
        pa.field("system", pa.string(), False, {"description": "one of " + ", ".join(SYSTEMS)}),
        pa.field("value", pa.float64(), True, {"description": "in [0, 1]; null is unknown"}),
        pa.field("low", pa.float64(), True, {"description": "lower end of the 95 % bootstrap interval"}),
        pa.field("high", pa.float64(), True, {"description": "upper end of the 95 % bootstrap interval"}),
        pa.field("num_images", pa.int64(), False, {"description": "images with something to count"}),
        pa.field("num_items", pa.int64(), False, {"description": "objects, names or boxes counted"}),
    ]
)
Counts = Mapping[str, tuple[int | float, int | float]]
Said = TypeVar("Said")
Count = Callable[[Said, Truth, frozenset[str] | None], Counts]


@dataclass(frozen=True)
class Score:
    """One figure; the fields are those of :data:`SCORES`."""

    metric: str
    about: str
    group: str
    system: str
    value: float | None
    low: float | None
    high: float | None
    num_images: int
    num_items: int


def scores_table(scores: Sequence[Score]) -> pa.Table:
    """Rows of :data:`SCORES`."""
    return pa.Table.from_pylist([asdict(score) for score in scores], schema=SCORES)


def in_group(truth: Truth, group: str, held_out_names: Collection[str]) -> bool:
    """Whether an image belongs to a group. Held-out are images with at least one held-out concept."""
    if group == "all":
        return True
    if group in NUMBERS_OF_OBJECTS:
        return NUMBERS_OF_OBJECTS.index(group) == min(len(truth.objects), len(NUMBERS_OF_OBJECTS)) - 1
    has_held_out = any(name in held_out_names for name, _ in truth.objects)
    return has_held_out == (group == "held_out_concepts")


def score_images(
    pairs: Sequence[tuple[Said, Truth]],
    metrics: Mapping[str, str],
    count: Count[Said],
    oracle: Callable[[Truth], Said],
    held_out_names: Collection[str],
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> list[Score]:
    """Every metric for every group and system.

    Args:
        pairs: what was said of each image, and the truth.
        metrics: name -> what it counts.
        count: (numerator, denominator) of every metric for one image; its last argument, where given, are the names
            of the objects that recalls count: in the group ``held_out_concepts`` held-out ones alone.
        oracle: what a perfect system says of an image.
        held_out_names: concepts that training never shows.
    """
    scores = []
    for only in (None, frozenset(held_out_names)):
        groups = [group for group in GROUPS if (group == "held_out_concepts") == (only is not None)]
        chosen = [any(in_group(truth, group, held_out_names) for group in groups) for _, truth in pairs]
        places = [index for index, is_chosen in enumerate(chosen) if is_chosen]
        truths = [pairs[index][1] for index in places]
        for system in SYSTEMS:
            counts = _system_counts(system, pairs, places, metrics, count, oracle, only)
            for group in groups:
                inside = np.array([in_group(truth, group, held_out_names) for truth in truths], dtype=bool)
                values = (counts[inside] if len(counts) else counts).reshape(-1, len(metrics), 2)
                scores += summarise(values, metrics, group, system, resamples, seed)
    order = {group: number for number, group in enumerate(GROUPS)}
    return sorted(scores, key=lambda score: order[score.group])


def _system_counts(
    system: str,
    pairs: Sequence[tuple[Said, Truth]],
    places: Sequence[int],
    metrics: Mapping[str, str],
    count: Count[Said],
    oracle: Callable[[Truth], Said],
    only: frozenset[str] | None,
) -> Float[ndarray, "n metrics 2"]:
    """Counts of the images at ``places``; chance is the mean over what was said of some other images."""

    def counted(said: Said, truth: Truth) -> Float[ndarray, "metrics 2"]:
        found = count(said, truth, only)
        return np.array([found[metric] for metric in metrics], dtype=np.float64).reshape(-1, 2)

    if system == "chance" and len(pairs) < 2:
        return np.zeros((0, len(metrics), 2))
    rows = []
    for index in places:
        said, truth = pairs[index]
        if system == "perceived":
            rows.append(counted(said, truth))
        elif system == "oracle":
            rows.append(counted(oracle(truth), truth))
        else:
            others = [pairs[(index + shift) % len(pairs)][0] for shift in _shifts(len(pairs))]
            rows.append(np.mean([counted(other, truth) for other in others], axis=0))
    return np.stack(rows) if rows else np.zeros((0, len(metrics), 2))


def _shifts(count: int) -> list[int]:
    """Distances, all over the table, of the images whose answers stand in for a guess."""
    shifts = range(1, min(_CHANCE_SHIFTS, count - 1) + 1)
    return [1 + (shift - 1) * ((count - 1) // len(shifts)) for shift in shifts]


def summarise(
    counts_nm2: Float[ndarray, "n metrics 2"],
    metrics: Mapping[str, str],
    group: str,
    system: str,
    resamples: int = 1000,
    seed: int = 0,
) -> list[Score]:
    """Sums of numerators over sums of denominators with intervals; None where there is nothing to divide by."""
    intervals = ratio_intervals(counts_nm2, resamples, seed)
    scores = []
    for index, ((metric, about), interval) in enumerate(zip(metrics.items(), intervals, strict=True)):
        of_metric = counts_nm2[:, index]
        num_images = int((of_metric != 0).any(axis=1).sum())
        num_items = round(float(of_metric[:, 1].sum()))
        scores.append(Score(metric, about, group, system, *interval, num_images, num_items))
    return scores


def ratio_intervals(
    counts_nm2: Float[ndarray, "n metrics 2"], resamples: int = 1000, seed: int = 0
) -> list[tuple[float | None, float | None, float | None]]:
    """Ratio of sums with a 95 % percentile bootstrap over rows, for each metric; None where the sum is 0.

    All metrics share the same draws of images, so that figures of one group vary together.
    """
    count, num_metrics, _ = counts_nm2.shape
    totals = counts_nm2.sum(axis=0)
    if count == 0:
        return [(None, None, None)] * num_metrics
    draws = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=resamples)
    sums = (draws.astype(np.float64) @ counts_nm2.reshape(count, -1)).reshape(resamples, num_metrics, 2)
    answers: list[tuple[float | None, float | None, float | None]] = []
    for index in range(num_metrics):
        above, below = sums[:, index].T
        if totals[index, 1] == 0:
            answers.append((None, None, None))
            continue
        low, high = np.quantile(above[below > 0] / below[below > 0], [0.025, 0.975])
        answers.append((float(totals[index, 0] / totals[index, 1]), float(low), float(high)))
    return answers
