"""How right perception is, against the scenes' hidden truth: the only reader of that truth.

Plain Arrow tables in: regions (:data:`evaluation.schemas.REGIONS`), recaptions (sample_id, caption, kept_original),
truth (sample_id, objects, word, background). Every figure comes with the number of images, a 95 % bootstrap interval
over images, the same figure for a *chance* system (each image gets what was perceived in another one) and for an
*oracle* (perception equals truth: what the metric itself can reach). Without truth every figure is None: unknown, not
zero.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Float

from evaluation.metrics.boxes import MIN_IOU, match_boxes
from evaluation.perception.colors import COLOR_WORDS
from training.errors import FoundryError

METRICS: dict[str, str] = {
    "name_precision": "names given that are the exact name of something in the image",
    "name_recall": "objects in the image whose exact name was given",
    "mention_precision": "concepts mentioned in the recaptions that are in the image",
    "mention_recall": "objects in the image that the recaptions mention by their exact name",
    "box_precision": "boxes found that match an object's box, any class, IoU at least 0.5",
    "box_recall": "objects whose box was found, any class, IoU at least 0.5",
    "box_mean_iou": "mean IoU of the boxes that match",
    "word_exact_match": "rendered words read exactly, over images with a word",
    "word_precision": "readings that are exactly the rendered word, over all readings",
    "background_color_accuracy": "images whose background colours are named exactly",
}
GROUPS = ("all", "training_concepts", "held_out_concepts")
SYSTEMS = ("perceived", "chance", "oracle")
_CHANCE_SHIFTS = 7

PERCEPTION_SCORES = pa.schema(
    [
        pa.field("metric", pa.string(), False, {"description": "one of " + ", ".join(METRICS)}),
        pa.field("about", pa.string(), False, {"description": "what the metric counts"}),
        pa.field(
            "group",
            pa.string(),
            False,
            {"description": "all images, those without held-out concepts, or with"},
        ),
        pa.field("system", pa.string(), False, {"description": "perceived, chance or oracle"}),
        pa.field("value", pa.float64(), True, {"description": "in [0, 1]; null is unknown"}),
        pa.field("low", pa.float64(), True, {"description": "lower end of the 95 % bootstrap interval"}),
        pa.field("high", pa.float64(), True, {"description": "upper end of the 95 % bootstrap interval"}),
        pa.field("num_images", pa.int64(), False, {"description": "images with something to count"}),
        pa.field("num_items", pa.int64(), False, {"description": "objects, names or boxes counted"}),
    ]
)


@dataclass(frozen=True)
class Perceived:
    """What perception said about one image. ``colors`` of the background, boxes normalised xyxy."""

    names: frozenset[str]
    boxes: tuple[tuple[float, ...], ...]
    word: str
    colors: frozenset[str]
    captions: tuple[str, ...]


@dataclass(frozen=True)
class Truth:
    """What the builder drew in one image."""

    objects: tuple[tuple[str, tuple[float, ...]], ...]
    word: str
    colors: frozenset[str]


@dataclass(frozen=True)
class PerceptionScore:
    """One figure; the fields are those of :data:`PERCEPTION_SCORES`."""

    metric: str
    about: str
    group: str
    system: str
    value: float | None
    low: float | None
    high: float | None
    num_images: int
    num_items: int


def color_words(description: str) -> frozenset[str]:
    """The colour words in a description such as "two-tone blue and red"; grey is gray."""
    found = {word.replace("grey", "gray") for word in re.findall(r"[a-z]+", description.lower())}
    return frozenset(found & set(COLOR_WORDS))


def mentions(caption: str, concepts: Collection[str]) -> frozenset[str]:
    """Concepts a text names as whole words (a plural s may follow); longer names are looked for first."""
    rest, found = caption.lower(), set()
    for concept in sorted(concepts, key=lambda name: (-len(name), name)):
        shorter = re.sub(rf"\b{re.escape(concept.lower())}s?\b", " ", rest)
        if shorter != rest:
            found.add(concept)
            rest = shorter
    return frozenset(found)


def perception_scores(
    regions: pa.Table,
    truth: pa.Table,
    recaptions: pa.Table | None = None,
    held_out_names: Collection[str] = (),
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> pa.Table:
    """All figures as rows of :data:`PERCEPTION_SCORES`: every metric, group and system.

    In the group ``held_out_concepts`` (images with at least one of ``held_out_names``) recalls count held-out
    objects alone. Only samples in both ``regions`` and ``truth`` count; names are compared exactly.

    Raises:
        FoundryError: a column is missing.
    """
    _require(regions, "regions", ("sample_id", "names", "box_xyxy_norm", "text", "background_color"))
    _require(truth, "truth", ("sample_id", "objects", "word", "background"))
    said = read_perceived(regions, recaptions)
    known = read_truth(truth)
    sample_ids = sorted(set(said) & set(known))
    pairs = [(said[sample_id], known[sample_id]) for sample_id in sample_ids]
    concepts = frozenset(name for item in known.values() for name, _ in item.objects)
    scores: list[PerceptionScore] = []
    for group in GROUPS:
        chosen = [(found, item) for found, item in pairs if _in_group(item, group, held_out_names)]
        only = frozenset(held_out_names) if group == "held_out_concepts" else None
        for system in SYSTEMS:
            counts = _system_counts(system, chosen, concepts, only)
            scores += _summaries(counts, group, system, resamples, seed)
    if recaptions is None:  # without captions nothing can be said about them
        scores = [
            replace(score, value=None, low=None, high=None) if score.metric.startswith("mention") else score
            for score in scores
        ]
    return pa.Table.from_pylist([asdict(score) for score in scores], schema=PERCEPTION_SCORES)


def _require(table: pa.Table, name: str, columns: Sequence[str]) -> None:
    missing = [column for column in columns if column not in table.column_names]
    if missing:
        raise FoundryError(
            f"{name} table lacks the columns {', '.join(missing)}; it has {table.column_names}"
        )


def read_perceived(regions: pa.Table, recaptions: pa.Table | None = None) -> dict[str, Perceived]:
    """What was perceived, by sample. Whole-image rows without a name (nothing was found) give no box."""
    captions: dict[str, list[str]] = {}
    for row in recaptions.to_pylist() if recaptions is not None else []:
        if not row["kept_original"]:  # an alt-text is no achievement of perception
            captions.setdefault(row["sample_id"], []).append(row["caption"])
    grouped: dict[str, list[dict[str, Any]]] = {}
    for row in regions.sort_by([("sample_id", "ascending"), ("region_index", "ascending")]).to_pylist():
        grouped.setdefault(row["sample_id"], []).append(row)
    return {
        sample_id: Perceived(
            names=frozenset(row["names"][0] for row in rows if row["names"]),
            boxes=tuple(tuple(row["box_xyxy_norm"]) for row in rows if _is_object(row)),
            word=" ".join(row["text"] for row in rows if row["text"]),
            colors=color_words(rows[0]["background_color"]),
            captions=tuple(captions.get(sample_id, ())),
        )
        for sample_id, rows in grouped.items()
    }


def _is_object(row: Mapping[str, Any]) -> bool:
    whole = list(row["box_xyxy_norm"]) == [0.0, 0.0, 1.0, 1.0]
    return not row["text"] and (bool(row["names"]) or not whole)


def read_truth(truth: pa.Table) -> dict[str, Truth]:
    """What the builder drew, by sample."""
    return {
        row["sample_id"]: Truth(
            objects=tuple((item["name"], tuple(item["box_xyxy_norm"])) for item in row["objects"]),
            word=row["word"],
            colors=color_words(row["background"]),
        )
        for row in truth.to_pylist()
    }


def _in_group(item: Truth, group: str, held_out_names: Collection[str]) -> bool:
    has_held_out = any(name in held_out_names for name, _ in item.objects)
    return group == "all" or has_held_out == (group == "held_out_concepts")


def _oracle(item: Truth) -> Perceived:
    names = frozenset(name for name, _ in item.objects)
    caption = " and ".join(sorted(names))
    return Perceived(names, tuple(box for _, box in item.objects), item.word, item.colors, (caption,))


def _system_counts(
    system: str,
    pairs: Sequence[tuple[Perceived, Truth]],
    concepts: frozenset[str],
    only: frozenset[str] | None,
) -> list[dict[str, tuple[float, float]]]:
    """Numerators and denominators of every metric, one entry an image (chance: the mean over several shifts)."""
    if system == "perceived":
        return [image_counts(found, item, concepts, only) for found, item in pairs]
    if system == "oracle":
        return [image_counts(_oracle(item), item, concepts, only) for _, item in pairs]
    if len(pairs) < 2:
        return []
    shifts = range(1, min(_CHANCE_SHIFTS, len(pairs) - 1) + 1)
    return [
        _mean_counts(
            [image_counts(pairs[(index + shift) % len(pairs)][0], item, concepts, only) for shift in shifts]
        )
        for index, (_, item) in enumerate(pairs)
    ]


def _mean_counts(each: Sequence[Mapping[str, tuple[float, float]]]) -> dict[str, tuple[float, float]]:
    means = {metric: np.mean([one[metric] for one in each], axis=0) for metric in METRICS}
    return {metric: (float(above), float(below)) for metric, (above, below) in means.items()}


def image_counts(
    found: Perceived, item: Truth, concepts: frozenset[str], only: frozenset[str] | None = None
) -> dict[str, tuple[float, float]]:
    """(numerator, denominator) of every metric for one image; recalls count the names in ``only`` when given."""
    present = {name for name, _ in item.objects}
    wanted = present if only is None else present & only
    mentioned = {name for caption in found.captions for name in mentions(caption, concepts)}
    overlaps = match_boxes(found.boxes, [box for _, box in item.objects])
    matched = [(row, iou) for row, iou in enumerate(overlaps) if iou >= MIN_IOU]
    wanted_rows = {row for row, (name, _) in enumerate(item.objects) if only is None or name in only}
    read_right = float(bool(item.word) and found.word == item.word)
    counts: dict[str, tuple[float, float]] = {
        "name_precision": (len(found.names & present), len(found.names)),
        "name_recall": (len(found.names & wanted), len(wanted)),
        "mention_precision": (len(mentioned & present), len(mentioned)),
        "mention_recall": (len(mentioned & wanted), len(wanted)),
        "box_precision": (len(matched), len(found.boxes)),
        "box_recall": (sum(row in wanted_rows for row, _ in matched), len(wanted_rows)),
        "box_mean_iou": (sum(iou for _, iou in matched), len(matched)),
        "word_exact_match": (read_right, float(bool(item.word))),
        "word_precision": (read_right, float(bool(found.word))),
        "background_color_accuracy": (float(found.colors == item.colors), float(bool(item.colors))),
    }
    return {name: (float(above), float(below)) for name, (above, below) in counts.items()}


def _summaries(
    counts: Sequence[Mapping[str, tuple[float, float]]], group: str, system: str, resamples: int, seed: int
) -> list[PerceptionScore]:
    scores = []
    for metric, about in METRICS.items():
        pairs = np.array([entry[metric] for entry in counts], dtype=np.float64).reshape(-1, 2)
        pairs = pairs[(pairs != 0).any(axis=1)]
        value, low, high = ratio_interval(pairs, resamples, seed)
        scores.append(
            PerceptionScore(
                metric, about, group, system, value, low, high, len(pairs), round(float(pairs[:, 1].sum()))
            )
        )
    return scores


def ratio_interval(
    counts_n2: Float[np.ndarray, "n 2"], resamples: int = 1000, seed: int = 0
) -> tuple[float | None, float | None, float | None]:
    """Sum of numerators over sum of denominators, with a 95 % percentile bootstrap over rows; None for no rows."""
    if len(counts_n2) == 0 or counts_n2[:, 1].sum() == 0:
        return None, None, None
    random = np.random.default_rng(seed)
    draws = random.multinomial(len(counts_n2), np.full(len(counts_n2), 1 / len(counts_n2)), size=resamples)
    sums = draws @ counts_n2
    ratios = sums[sums[:, 1] > 0, 0] / sums[sums[:, 1] > 0, 1]
    low, high = np.quantile(ratios, [0.025, 0.975])
    return float(counts_n2[:, 0].sum() / counts_n2[:, 1].sum()), float(low), float(high)
