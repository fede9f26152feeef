"""Whom the report thanks: whose art and whose models stand behind it."""

from __future__ import annotations

from assets.pages.sections import Section, Sources
from assets.pages.tables import Column, Table

STANDING_CREDITS = (
    "Scene art: Twemoji graphics, copyright 2019 Twitter, Inc and other contributors, licensed under CC-BY 4.0 "
    "(creativecommons.org/licenses/by/4.0); composed, scaled and re-encoded here.",
    "EfficientNet-Lite0 weights (Apache-2.0), all-MiniLM-L6-v2 weights (Apache-2.0), PP-OCR models (Apache-2.0).",
)


def credits_section(sources: Sources) -> Section:
    """Standing credits, and every attribution that landed with a picture."""
    landed: set[str] = set()
    if sources.store.partitions("landed_images"):
        table = sources.store.read_all("landed_images", ["attribution"])
        landed = set(table["attribution"].unique().to_pylist()) - {""}
    credits = dict.fromkeys([*STANDING_CREDITS, *sorted(landed)])
    return Section("Credits", "credits", tables=[Table([Column("")], [[text] for text in credits])])
