"""The report: sections of all systems, in order, on one page."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from pathlib import Path

from assets.captions.report_section import captions_section
from assets.corpus.report_section import credits_section
from assets.distillation.report_section import few_steps_section, study_section, teachers_section
from assets.encodings.report_section import autoencoder_section
from assets.entities.report_section import perception_section
from assets.evaluation.report_section import (
    judge_section,
    learned_section,
    models_section,
    opening_section,
    samples_section,
)
from assets.layout.report_section import layouts_section
from assets.models.report_section import smaller_section, training_section
from assets.pages.html import write_page
from assets.pages.sections import Page, Section, Sources
from assets.pages.tables import Column, Table
from assets.pruning.report_section import pruned_section
from assets.reports.claims import claims_section
from assets.reports.ledger import ledger_section
from assets.reports.lineage import lineage_section
from assets.scaling.report_section import grid_section, laws_section
from assets.writing.report_section import writing_section

REPORT_FILE = "report.html"
LABEL = (
    "Demo-scale results: small models trained for minutes on composed 64-pixel scenes. "
    "They show that the machinery works and is measured honestly; they say nothing about large models."
)
LIMITS = (
    "Pictures are composed of flat drawings on simple backgrounds; nothing here speaks of photographs.",
    "The concept bank that names crops holds the very drawings that training scenes are made of, so naming training "
    "concepts is easier than in the wild; held-out concepts are the sober figure.",
    "The judge is a small model trained here on a split of its own. It has seen held-out concepts (it has to know what "
    "it judges), never the held-out pictures.",
    "KID-EffLite0 is a kernel distance on EfficientNet-Lite0 features. It is not FID and compares with nothing published.",
    "Every model sees the same number of images; that is not compute-optimal, and laws over compute say so by their band.",
)


def limits_section(sources: Sources) -> Section:
    """What the report does not show."""
    return Section("Limits", "limits", tables=[Table([Column("")], [[text] for text in LIMITS])])


SECTIONS: tuple[Callable[[Sources], Section | None], ...] = (
    opening_section,
    learned_section,
    models_section,
    teachers_section,
    few_steps_section,
    smaller_section,
    study_section,
    pruned_section,
    layouts_section,
    writing_section,
    samples_section,
    training_section,
    laws_section,
    grid_section,
    judge_section,
    perception_section,
    captions_section,
    autoencoder_section,
    claims_section,
    ledger_section,
    lineage_section,
    limits_section,
    credits_section,
)
"""Builders in the order of the report; None leaves a section out. A new system adds its line."""


def build_report(folder: Path, sources: Sources) -> Path:
    """Write the report into ``folder`` and return its path."""
    return write_page(folder / REPORT_FILE, report_page(sources))


def report_page(sources: Sources) -> Page:
    """Everything the report shows."""
    built = (build(sources) for build in SECTIONS)
    profile = f"Profile “{sources.models.profile}”."
    sections = [section for section in built if section is not None]
    return Page("T2I Foundry report", sections, (profile, LABEL), _facts(sources))


def _facts(sources: Sources) -> dict[str, str]:
    written = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    shards = sources.store.current("training_shards")
    benchmark = sources.store.current("layout_benchmark")
    return {
        "Written": written,
        "data": sources.landing.source,
        "dataset digest": "none yet" if shards is None else shards.digest[:16],
        "layout benchmark": "none yet" if benchmark is None else f"{benchmark.num_rows} boxes",
    }
