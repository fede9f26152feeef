"""Ways of editing and guarding as rows of a table, and as people read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Float
from numpy import ndarray

from evaluation.intervals import bounded, paired_difference
from evaluation.localization.runs import SOURCE, PairRuns, mean_of_finite
from evaluation.localization.ways import Taken, Way
from evaluation.tables.localization import TEXT_WAY_SCORES


@dataclass(frozen=True)
class Opinions:
    """What others say of pictures, by run. ``image_text``: the judge's cosine with the target's prompt and with other pairs'
    prompts. ``toxicity``: of what was read. ``judged_by``: who said so. Empty where nobody was asked."""

    image_text: Mapping[str, tuple[float, float]]
    toxicity: Mapping[str, float]
    judged_by: str = ""


NOBODY = Opinions({}, {})


def way_table(
    runs: PairRuns,
    ways: Sequence[Way],
    taken: Taken,
    opinions: Opinions,
    about: Mapping[str, str],
) -> pa.Table:
    """Rows of :data:`evaluation.tables.localization.TEXT_WAY_SCORES`: the source as it is, then every way.

    ``about``: recipe, kind, model, model_digest and read_by.
    """
    drawing = runs.drawing
    same = {
        **about,
        "num_pairs": len(runs.pairs),
        "num_steps": drawing.steps,
        "guidance": drawing.guidance,
        "judged_by": opinions.judged_by,
    }
    source = Way(SOURCE, "the prompt as it is", lambda own: own.images[SOURCE])
    seconds = {SOURCE: taken.source, **taken.ways}
    rows = [
        {
            **_row(runs, way, ways[0]),
            **_opinions(opinions, way.name),
            **_cost(seconds[way.name], taken),
            **same,
        }
        for way in (source, *ways)
    ]
    return pa.Table.from_pylist(rows, schema=TEXT_WAY_SCORES)


def _row(runs: PairRuns, way: Way, first: Way) -> dict[str, Any]:
    words, (ssim, psnr) = runs.to_target(way.name), runs.whole(way.name)
    outside = runs.kept(way.name)
    measured = {
        "to_target": words.f1(),
        "to_source": runs.to_source(way.name).f1(),
        "ssim": mean_of_finite(ssim),
        "psnr_db": mean_of_finite(psnr),
        **dict(
            zip(
                ("ssim_outside", "psnr_outside_db", "nearer_source"),
                (mean_of_finite(row) for row in outside),
                strict=True,
            )
        ),
        "to_target_minus_first": words.f1_minus(runs.to_target(first.name)),
        "ssim_minus_first": paired_difference(ssim, runs.whole(first.name)[0]),
    }
    told = {"way": way.name, "about": way.about}
    return told | {
        key: value for name, found in measured.items() for key, value in bounded(name, found).items()
    }


def _opinions(opinions: Opinions, name: str) -> dict[str, float | None]:
    score, floor = opinions.image_text.get(name, (None, None))
    return {"image_text": score, "image_text_floor": floor, "toxicity": opinions.toxicity.get(name)}


def _cost(seconds: float, taken: Taken) -> dict[str, float]:
    return {"seconds": seconds, "cost": seconds / taken.source}


def image_text(pictures: Float[ndarray, "pairs d"], texts: Float[ndarray, "pairs d"]) -> tuple[float, float]:
    """Mean cosine of unit rows with their own text, and with the texts of other pairs."""
    cosines = pictures @ texts.T
    count = len(cosines)
    own = float(np.trace(cosines)) / count
    return own, (float(cosines.sum()) - own * count) / max(1, count * (count - 1))


def way_markdown(table: pa.Table) -> str:
    """A row a way, for people."""
    rows = table.to_pylist()
    titles = [
        "way",
        "F1 other word",
        "F1 own word",
        "SSIM",
        "PSNR, dB",
        "SSIM outside text",
        "rest nearer to the source",
    ]
    extra = [name for name in ("image_text", "toxicity") if any(row[name] is not None for row in rows)]
    titles += [{"image_text": "image-text (floor)", "toxicity": "toxicity"}[name] for name in extra]
    titles += ["seconds", "cost", "F1 minus first", "SSIM minus first"]
    lines = ["| " + " | ".join(titles) + " |", "|" + "---|" * len(titles)]
    lines += [
        "| " + " | ".join([*_cells(row, extra), *_contrasts(row, rows[1]["way"])]) + " |" for row in rows
    ]
    first = rows[0]
    judged = f" Toxicity by {first['judged_by']}." if first["judged_by"] else ""
    about = (
        f"{first['num_pairs']} pairs, {first['num_steps']} steps, guidance {first['guidance']:g}, the same noise for all. Read by "
        f"{first['read_by']}.{judged} Cost: over one plain sampling; SSIM and PSNR are to the source's picture."
    )
    return "\n".join(lines) + f"\n\n{about}"


def _cells(row: Mapping[str, Any], extra: Sequence[str]) -> list[str]:
    cells = [
        row["way"],
        *(_withbounded(row, name) for name in ("to_target", "to_source", "ssim")),
        f"{row['psnr_db']:.1f}",
        f"{row['ssim_outside']:.3f}",
        f"{row['nearer_source']:.2f}",
    ]
    if "image_text" in extra:
        cells.append(
            "" if row["image_text"] is None else f"{row['image_text']:.3f} ({row['image_text_floor']:.3f})"
        )
    if "toxicity" in extra:
        cells.append(f"{row['toxicity']:.2f}")
    return [*cells, f"{row['seconds']:.3f}", f"{row['cost']:.2f}"]


def _contrasts(row: Mapping[str, Any], first: str) -> list[str]:
    if row["way"] in (SOURCE, first):
        return ["", ""]
    return [_withbounded(row, name, "+") for name in ("to_target_minus_first", "ssim_minus_first")]


def _withbounded(row: Mapping[str, Any], name: str, sign: str = "") -> str:
    return f"{row[name]:{sign}.3f} ({row[f'{name}_low']:{sign}.3f} to {row[f'{name}_high']:{sign}.3f})"
