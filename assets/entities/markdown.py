"""Markdown of untrusted parts."""

from __future__ import annotations

import re
from collections.abc import Sequence


def escape(text: str, max_characters: int = 300) -> str:
    """Untrusted text as one line of Markdown that shows what it says and does nothing."""
    from evaluation.plots.contact_sheets import safe_text

    line = safe_text(str(text), max_characters)
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    # Addresses are shown, not linked: a colon behind a scheme is written as an entity.
    line = re.sub(r"\b(https?|ftp|javascript|data|mailto):", r"\1&#58;", line, flags=re.IGNORECASE)
    line = re.sub(r"\bwww\.", "www&#46;", line, flags=re.IGNORECASE)
    return re.sub(r"([\\`*_{}\[\]()#+!|~@$-])", r"\\\1", line)


def table_of(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table; cells are Markdown already, so untrusted ones come escaped."""
    lines = ["| " + " | ".join(head) + " |", "|" + "|".join(" --- " for _ in head) + "|"]
    lines += ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines)
