"""A sweep as rows of a table, and as people read it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from evaluation.intervals import bounded
from evaluation.localization.prompts import WordPair
from evaluation.localization.runs import SOURCE, TARGET
from evaluation.localization.sweep import ALL, Localization, Row, SweepSettings
from evaluation.tables.localization import TEXT_LAYER_READINGS, TEXT_LAYER_SCORES

CHOSEN = "chosen"
"""Run of the source's prompts with the chosen layers patched."""


def localization_table(
    found: Localization, settings: SweepSettings, read_by: str, about: Mapping[str, str]
) -> pa.Table:
    """Rows of :data:`evaluation.tables.localization.TEXT_LAYER_SCORES`.

    ``about``: recipe of the sweep, and kind, model (its partition) and model_digest.
    """
    same = {
        **about,
        "chance": found.chance.value,
        "num_pairs": found.chance.count,
        "num_steps": settings.steps,
        "guidance": settings.guidance,
        "start": settings.window.start,
        "read_by": read_by,
    }
    rows = [{**_told(row, what, index, found), **same} for row, what, index in _all_rows(found)]
    return pa.Table.from_pylist(rows, schema=TEXT_LAYER_SCORES)


def readings_table(
    found: Localization, pairs: Sequence[WordPair], read_by: str, about: Mapping[str, str]
) -> pa.Table:
    """Rows of :data:`evaluation.tables.localization.TEXT_LAYER_READINGS`: what was read of every pair as it is and patched."""
    runs = {SOURCE: SOURCE, TARGET: TARGET, CHOSEN: found.chosen.name}
    rows = [
        {
            "recipe": about["recipe"],
            "pair_index": number,
            "run": run,
            "prompt": pair.target if run == TARGET else pair.source,
            "word": pair.source_word if run == SOURCE else pair.target_word,
            "seed": pair.seed,
            "read": found.readings[name][number].text,
            "read_by": read_by,
            "model_digest": about["model_digest"],
        }
        for run, name in runs.items()
        for number, pair in enumerate(pairs)
    ]
    return pa.Table.from_pylist(rows, schema=TEXT_LAYER_READINGS)


def _all_rows(found: Localization) -> Iterator[tuple[Row, str, int | None]]:
    for index, row in enumerate(found.layers):
        yield row, "layer", index
    for row in found.groups:
        yield row, "group", None
    for row in found.references.values():
        yield row, "reference", None
    for row in found.carriers.values():
        yield row, "carrier", None


def _told(row: Row, what: str, index: int | None, found: Localization) -> dict[str, Any]:
    return {
        "what": what,
        "name": row.name,
        "layers": list(row.layers) if row.name != ALL else [layer.name for layer in found.layers],
        "layer_index": index,
        "chosen": what in ("layer", "group") and row.layers == found.chosen.layers,
        "key_value_parameters": row.parameters,
        "share": row.parameters / found.num_parameters,
        **bounded("to_target", row.to_target),
        **bounded("to_source", row.to_source),
        **bounded("ssim", row.ssim),
        **bounded("psnr_db", row.psnr_db),
        **bounded("nearer_source", row.nearer_source),
    }


COLUMNS = (
    "patched",
    "of the parameters",
    "F1 towards the target",
    "F1 towards the source",
    "SSIM outside text",
    "PSNR outside text, dB",
    "nearer to the source outside text",
)


def localization_markdown(table: pa.Table) -> str:
    """A table for people: references first, then layers in order of execution, groups, and what carries the word."""
    order = {"reference": 0, "layer": 1, "group": 2, "carrier": 3}
    rows = sorted(table.to_pylist(), key=lambda row: order[row["what"]])
    lines = ["| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
    lines += ["| " + " | ".join(_cells(row)) + " |" for row in rows]
    first = rows[0]
    about = (
        f"{first['num_pairs']} pairs of words, {first['num_steps']} steps, guidance {first['guidance']:g}, patched from "
        f"{first['start']:.0%} of the steps on. Read by {first['read_by']}; unrelated words of these pairs share letters to an F1 "
        f"of {first['chance']:.3f}. Bold: the layers that were chosen."
    )
    return "\n".join(lines) + f"\n\n{about}"


def _cells(row: Mapping[str, Any]) -> list[str]:
    name = f"{row['layer_index']}: {row['name']}" if row["layer_index"] is not None else row["name"]
    if row["what"] == "carrier":
        name = f"{name} of the chosen layers alone"
    return [
        f"**{name}**" if row["chosen"] else name,
        f"{row['share']:.2%}",
        *(
            f"{row[key]:.3f} ({row[f'{key}_low']:.3f} to {row[f'{key}_high']:.3f})"
            for key in ("to_target", "to_source", "ssim")
        ),
        f"{row['psnr_db']:.1f}",
        f"{row['nearer_source']:.2f}",
    ]
