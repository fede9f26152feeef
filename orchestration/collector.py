"""How often Python looks for garbage that holds itself in circles."""

from __future__ import annotations

import gc

THRESHOLDS = (50_000, 10, 10)
"""New objects before the young are looked at, and how many such looks before the older are. Python's own 700 lets the
collector walk again and again through what libraries make while they are imported, which stays to the end. What
lies in no circle, as a step's tensors do, is freed at once whatever stands here."""


def collect_seldom() -> None:
    """Let this process look for garbage less often; for whoever starts a process that imports models or Dagster."""
    gc.set_threshold(*THRESHOLDS)
