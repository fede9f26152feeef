"""What the report shows, as plain data: whoever builds it fills this in, :mod:`assets.reports.html` writes it.

Every text may come from captions or recipes of strangers: nothing here is markup, all of it is escaped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from assets.reports.ledger import LedgerRow
from evaluation.claims.registry import ClaimResult
from evaluation.intervals import Interval


@dataclass(frozen=True)
class ModelRow:
    """One model in the summary table; None reads "unknown".

    ``judge_ceiling``, ``judge_floor``: judge cosine of real held-out pictures and with shuffled prompts.
    """

    recipe: str
    family: str
    parameters: int
    images_seen: int
    denoising_error: Interval | None = None
    judge_cosine: Interval | None = None
    judge_ceiling: float | None = None
    judge_floor: float | None = None
    judge_top1: Interval | None = None
    kid: float | None = None
    kid_standard_error: float | None = None
    seconds: float | None = None
    digest: str = ""
    link: str = ""


@dataclass(frozen=True)
class StudentRow:
    """A few-step student or its teacher at one number of steps; ``above_teacher`` is None for the teacher."""

    recipe: str
    teacher: str
    model: str
    num_steps: int
    judge_cosine: Interval
    above_teacher: Interval | None = None


@dataclass(frozen=True)
class TeacherRow:
    """One score of a shipped teacher, beside its chance or floor and the ceilings, and the bar that it met or missed."""

    teacher: str
    score: str
    value: Interval
    floor: float | None
    in_latents: float
    real: float
    bar: str


@dataclass(frozen=True)
class SmallerRow:
    """A smaller model or the one it was made from; ``relative`` and ``ssim`` are None for the latter."""

    recipe: str
    model: str
    parameters: int
    macs: int
    milliseconds: float
    judge_cosine: Interval
    relative: Interval | None = None
    ssim: float | None = None


@dataclass(frozen=True)
class StudyRow:
    """One contrast of the distillation study. ``difference``: judge's cosine of left minus right, None while it waits."""

    factor: str
    left: str
    right: str
    num_seeds: int
    difference: Interval | None
    outcome: str


@dataclass(frozen=True)
class PrunedRow:
    """A pruned model beside the whole one; shares are of the whole's. ``removed``: share of units, None by threshold."""

    recipe: str
    model: str
    method: str
    recovery: str
    removed: float | None
    parameters_left: float
    macs_left: float
    speedup: float
    memory_left: float
    relative: Interval
    ssim: float
    scoring_seconds: float


@dataclass(frozen=True)
class Verdict:
    """A question the demo must answer for itself, such as whether it has learned something."""

    question: str
    answer: Literal["yes", "no", "unknown"]
    evidence: str


@dataclass(frozen=True)
class SampleRow:
    """One prompt: the real held-out picture and one picture of each model, as PNG or JPEG bytes."""

    prompt: str
    split: str
    real: bytes | None
    by_recipe: Mapping[str, bytes]


@dataclass(frozen=True)
class MeasureRow:
    """One honest number with what guessing and a perfect answer would get; None reads "unknown"."""

    measure: str
    group: str
    value: Interval | float | None
    chance: float | None = None
    oracle: float | None = None
    remark: str = ""
    subject: str = ""


@dataclass(frozen=True)
class CaptionRow:
    """Caption statistics of one set of captions, with the paper's symbols N/I, UN and I-N."""

    captions: str
    images: int
    words_per_caption: float
    nouns_per_image: float
    unique_nouns: int
    image_noun_pairs: int
    near_duplicate_share: float


@dataclass(frozen=True)
class LawRow:
    """One fitted law, or why there is none: ``text`` is the equation or the reason."""

    family: str
    metric: str
    form: str
    num_points: int
    num_sizes: int
    identifiable: bool
    text: str


@dataclass(frozen=True)
class EfficiencyRow:
    """What a cell of the scaling grid needs to reach a score; ``outcome`` says it in words."""

    cell: str
    target: float
    reached: int
    seeds: int
    outcome: str
    gflops: float | None


@dataclass(frozen=True)
class PrintedLawRow:
    """A law of the paper beside what it amounts to."""

    symbol: str
    equation: str
    scores: Sequence[float]
    possible: bool
    remark: str


@dataclass(frozen=True)
class LineageRow:
    """One asset on the way from landed pictures to this report."""

    asset: str
    partition: str
    version: str
    made_from: Sequence[str]
    link: str = ""


@dataclass(frozen=True)
class Figure:
    """A picture with a caption; ``image`` is PNG or JPEG bytes."""

    title: str
    image: bytes
    caption: str = ""


@dataclass(frozen=True)
class ReportData:
    """Everything the report shows. Empty sequences leave their section saying that there is nothing yet."""

    title: str
    profile: str
    created_at: str
    label: str = (
        "Demo-scale results: small models trained for minutes on composed 64-pixel scenes. "
        "They show that the machinery works and is measured honestly; they say nothing about large models."
    )
    facts: Mapping[str, str] = field(default_factory=dict)
    verdicts: Sequence[Verdict] = ()
    models: Sequence[ModelRow] = ()
    teachers: Sequence[TeacherRow] = ()
    students: Sequence[StudentRow] = ()
    smaller: Sequence[SmallerRow] = ()
    smaller_figures: Sequence[Figure] = ()
    study: Sequence[StudyRow] = ()
    study_figures: Sequence[Figure] = ()
    pruned: Sequence[PrunedRow] = ()
    pruned_figures: Sequence[Figure] = ()
    samples: Sequence[SampleRow] = ()
    data_figures: Sequence[Figure] = ()
    training_figures: Sequence[Figure] = ()
    scaling_figures: Sequence[Figure] = ()
    perception: Sequence[MeasureRow] = ()
    judge: Sequence[MeasureRow] = ()
    autoencoder: Sequence[MeasureRow] = ()
    captions: Sequence[CaptionRow] = ()
    caption_figures: Sequence[Figure] = ()
    laws: Sequence[LawRow] = ()
    grid_facts: str = ""
    grid_figures: Sequence[Figure] = ()
    efficiency: Sequence[EfficiencyRow] = ()
    printed_laws: Sequence[PrintedLawRow] = ()
    claims: Sequence[ClaimResult] = ()
    ledger: Sequence[LedgerRow] = ()
    lineage: Sequence[LineageRow] = ()
    credits: Sequence[str] = ()
    limits: Sequence[str] = ()
