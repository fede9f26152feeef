"""Annotations as pictures: how many, how large, how sure, and why entities were dropped."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

MOST_SHOWN = 10
_EDGES = np.linspace(0.0, 1.0, 11)


def distribution_figures(annotations: pa.Table) -> dict[str, bytes]:
    """File name -> PNG of every figure of a table of entity annotations; nothing for an empty table.

    Reads sample_id, keep, dropped_because, area_fraction and score of :data:`assets.graph.schemas.ENTITY_ANNOTATIONS`.
    """
    if annotations.num_rows == 0:
        return {}
    return {
        "entities_per_image.png": per_image_figure(annotations),
        "area_and_score.png": area_and_score_figure(annotations),
        "dropped_because.png": reasons_figure(annotations),
    }


def entities_per_image(annotations: pa.Table) -> list[int]:
    """Number of images with 0, 1, ... kept entities; the last of eleven numbers counts all with more."""
    kept = annotations.append_column("kept", pc.cast(annotations["keep"], pa.int64()))
    counts = kept.group_by("sample_id").aggregate([("kept", "sum")])["kept_sum"].to_numpy()
    return [int(n) for n in np.bincount(np.minimum(counts, MOST_SHOWN), minlength=MOST_SHOWN + 1)]


def shares(values: np.ndarray) -> list[float]:
    """Share of values in each of ten equal parts of [0, 1]."""
    counts, _ = np.histogram(np.clip(values, 0, 1), _EDGES)
    return [float(count) / max(len(values), 1) for count in counts]


def per_image_figure(annotations: pa.Table) -> bytes:
    """PNG: images by their number of kept entities."""
    from evaluation.plots.panels import Panel, panels_of_bars

    counts = entities_per_image(annotations)
    last = max((number for number, count in enumerate(counts) if count), default=0)
    names = [str(number) for number in range(last + 1)]
    if last == MOST_SHOWN:
        names[-1] += "+"
    values = [float(count) for count in counts[: last + 1]]
    return panels_of_bars([Panel("images by kept entities", {"_": values})], names)


def area_and_score_figure(annotations: pa.Table) -> bytes:
    """PNG: box areas and scores, of kept and of dropped entities."""
    from evaluation.plots.panels import Panel, panels_of_bars

    kept = annotations["keep"].to_numpy(zero_copy_only=False).astype(bool)
    panels = []
    for title, column in (
        ("area of the box over the image's", "area_fraction"),
        ("image-text score", "score"),
    ):
        values = annotations[column].to_numpy().astype(np.float64)
        panels.append(Panel(title, {"kept": shares(values[kept]), "dropped": shares(values[~kept])}))
    names = [f"{low:.1f}–{high:.1f}" for low, high in pairwise(_EDGES)]
    return panels_of_bars(panels, names)


def reasons_figure(annotations: pa.Table) -> bytes:
    """PNG: entities by what became of them."""
    from evaluation.plots.panels import Panel, panels_of_bars

    found = annotations["dropped_because"].value_counts().to_pylist()
    counts = {entry["values"] or "kept": float(entry["counts"]) for entry in found}
    names = sorted(counts, key=lambda name: (-counts[name], name))
    return panels_of_bars([Panel("entities", {"_": [counts[name] for name in names]})], names)
