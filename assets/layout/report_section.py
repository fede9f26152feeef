"""What the report says of layout models: who puts things where boxes say, and what that means for the paper's claims."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from assets.layout.evaluation import evaluation_tables
from assets.pages.sections import Section, Sources
from evaluation.claims.registry import Measurement
from evaluation.intervals import Interval

CLAIMED = {"siam_over_adapter": ("siam", "adapter"), "adapter_over_joint": ("adapter", "joint")}
"""By contrast the branches whose order the paper claims; plain ones, as it has them."""


def layouts_section(sources: Sources) -> Section | None:
    """Layout models side by side; None before there is one."""
    table = sources.table("layout_evaluation")
    if table is None or not table.num_rows:
        return None
    first = table.to_pylist()[0]
    about = (
        f"The share of told objects that {first['judged_by']} recognises with their centre in their box, in pictures of "
        f"{first['num_pictures']} held-out layouts, all from the same noise. Exchanged: boxes are mirrored left to right, and of "
        "the objects that this moves as many are where they were told. Differences are paired by picture."
    )
    return Section("Layout control", "layouts", [about], evaluation_tables(table))


def measurements(sources: Sources) -> Mapping[str, Measurement]:
    """What layout models say of the paper's order of branches, by metric; nothing where two were not trained."""
    table = sources.table("layout_evaluation")
    if table is None:
        return {}
    found: dict[str, Measurement] = {}
    for row in table.to_pylist():
        for claim, (better, worse) in CLAIMED.items():
            pair = (row["branch"], row["other_branch"])
            if row["what"] == "contrast" and pair in ((better, worse), (worse, better)):
                turned = row if pair == (better, worse) else _turned(row)
                found[f"{claim}_{row['metric']}"] = _measurement(turned, sources.models.profile)
    return found


def _turned(row: Mapping[str, Any]) -> dict[str, Any]:
    """A contrast from the other side."""
    status = {"holds": "fails", "fails": "holds"}.get(row["status"], row["status"])
    return {
        **row,
        "recipe": row["other"],
        "other": row["recipe"],
        "value": -row["value"],
        "value_low": -row["value_high"],
        "value_high": -row["value_low"],
        "status": status,
    }


def _measurement(row: Mapping[str, Any], profile: str) -> Measurement:
    return Measurement(
        measured=f"{row['recipe']} minus {row['other']}: {row['value']:+.3f} of {row['num_objects']} objects",
        status=row["status"],
        profile=profile,
        num_items=row["num_pictures"],
        num_seeds=1,
        interval=Interval(row["value"], row["value_low"], row["value_high"]),
        remark=f"by {row['judged_by']}; one seed a side, so that the interval is of pictures alone",
    )
