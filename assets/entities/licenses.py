"""What licences ask for, in broad kinds."""

from __future__ import annotations

import re


def license_class(name: str) -> str:
    """What a licence asks for: ``unknown``, ``non-commercial``, ``no derivatives``, ``share-alike``, ``attribution``,
    ``free`` or ``own terms``. By the SPDX identifier or the usual short names; a rough guide, not legal advice."""
    words = set(re.findall(r"[a-z0-9]+", name.lower()))
    rules = (
        ("unknown", not words or "unknown" in words or "noassertion" in words),
        ("non-commercial", bool(words & {"nc", "noncommercial"})),
        ("no derivatives", "nd" in words),
        ("share-alike", {"by", "sa"} <= words or bool(words & {"gpl", "agpl", "lgpl", "odbl", "gfdl"})),
        (
            "free",
            bool(words & {"cc0", "pddl", "unlicense", "publicdomain", "pdm"})
            or {"public", "domain"} <= words,
        ),
        ("attribution", bool(words & {"by", "apache", "mit", "bsd"})),
    )
    return next((kind for kind, holds in rules if holds), "own terms")
