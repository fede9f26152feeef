"""Texts compared letter by letter."""

from __future__ import annotations


def normalized(text: str) -> str:
    """As both sides are compared: lower case, words with one space between them."""
    return " ".join(text.lower().split())


def edit_distance(read: str, wanted: str) -> float:
    """Characters to insert, delete or exchange, over those of the longer text: 0 for the same, 1 for nothing in common."""
    mine, other = normalized(read), normalized(wanted)
    if not (mine or other):
        return 0.0
    row = list(range(len(other) + 1))
    for first, one in enumerate(mine, 1):
        diagonal, row[0] = row[0], first
        for second, two in enumerate(other, 1):
            diagonal, row[second] = (
                row[second],
                min(row[second] + 1, row[second - 1] + 1, diagonal + (one != two)),
            )
    return row[-1] / max(len(mine), len(other))
