"""What the report says of text in pictures: which layers write, what they are good for, and the paper's claims."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from assets.pages.measures import interval_of
from assets.pages.sections import Section, Sources
from assets.pages.tables import Column, Table
from assets.writing.localized import SCORES, lora_tables
from assets.writing.lora_recipes import LAYERS
from evaluation.claims.registry import Measurement
from evaluation.intervals import Interval, status_of
from evaluation.localization.runs import SOURCE
from evaluation.localization.sweep import ALL

EDITS, GUARDS, LORAS = "text_edit_evaluation", "text_guard_evaluation", "localized_lora_comparison"
MOST_LAYERS, ENOUGH = 3, 0.9
"""The claim's own bars, whatever a sweep asked for."""
SWEPT = (
    Column("Model"),
    Column("Layers that write"),
    Column("of"),
    Column("Their keys and values", ".2%"),
    Column("F1 other word", ".3f", note="95 %"),
    Column("all layers", ".3f", note="95 %"),
    Column("F1 own word", ".3f", note="95 %"),
    Column("unrelated words", ".3f"),
)
WAYS = (
    Column("Model"),
    Column("Way"),
    Column("F1 other word", ".3f", note="95 %"),
    Column("F1 own word", ".3f", note="95 %"),
    Column("SSIM to the source", ".3f", note="95 %"),
    Column("SSIM outside text", ".3f"),
    Column("Toxicity", ".2f"),
    Column("Cost", ".2f"),
)


def writing_section(sources: Sources) -> Section | None:
    """Sweeps, edits, guards and adapters; None before any model was swept."""
    sweeps = _tables(sources, LAYERS)
    if not sweeps:
        return None
    first = sweeps[0].to_pylist()[0]
    about = (
        "Keys and values of another word, put into a prompt's picture at one text layer after the other (arXiv 2502.09935). The "
        f"layers that write are the fewest that bring nearly all of what all layers bring (each sweep's page says which share it asked "
        f"for), or the best group that was tried. Read by {first['read_by']}. Cost: seconds over one plain sampling, the other "
        "word's own run included where a way needs one."
    )
    tables = [Table(SWEPT, [_swept(table) for table in sweeps])]
    for name in (EDITS, GUARDS):
        rows = [row for table in _tables(sources, name) for row in table.to_pylist()]
        if rows:
            tables.append(Table(WAYS, [_way(row) for row in rows]))
    scores, contrasts = _tables(sources, SCORES), sources.table(LORAS)
    if scores and contrasts is not None:
        tables += lora_tables(pa.concat_tables(scores), contrasts)
    return Section("Text in pictures", "writing", [about], tables)


def _tables(sources: Sources, name: str) -> list[pa.Table]:
    return [sources.store.read_table(name, key) for key in sources.store.partitions(name)]


def _swept(table: pa.Table) -> tuple[Any, ...]:
    rows = table.to_pylist()
    chosen = next(row for row in rows if row["chosen"])
    whole = next(row for row in rows if row["name"] == ALL)
    count = sum(row["what"] == "layer" for row in rows)
    return (
        chosen["model"],
        ", ".join(chosen["layers"]),
        count,
        chosen["share"],
        interval_of(chosen, "to_target"),
        interval_of(whole, "to_target"),
        interval_of(chosen, "to_source"),
        chosen["chance"],
    )


def _way(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return (
        row["model"],
        row["way"],
        interval_of(row, "to_target"),
        interval_of(row, "to_source"),
        interval_of(row, "ssim"),
        row["ssim_outside"],
        row["toxicity"],
        row["cost"],
    )


def measurements(sources: Sources) -> Mapping[str, Measurement]:
    """What was measured of the paper's claims, by name; of several sweeps the first one's model."""
    found: dict[str, Measurement] = {}
    profile = sources.models.profile
    sweeps = _tables(sources, LAYERS)
    if sweeps:
        found["text_layers_few"] = _few(sweeps[0].to_pylist(), profile)
    for name, claim in ((EDITS, _editing), (GUARDS, _guarding)):
        tables = _tables(sources, name)
        if tables:
            found |= claim(tables[0].to_pylist(), profile)
    contrasts = sources.table(LORAS)
    return found if contrasts is None else found | _adapters(contrasts.to_pylist(), profile)


def _few(rows: Sequence[Mapping[str, Any]], profile: str) -> Measurement:
    chosen = next(row for row in rows if row["chosen"])
    whole = next(row for row in rows if row["name"] == ALL)
    share = chosen["to_target"] / max(whole["to_target"], 1e-9)
    count = len(chosen["layers"])
    return Measurement(
        f"{chosen['model']}: {count} of {sum(row['what'] == 'layer' for row in rows)} layers bring {share:.0%} of all",
        "holds" if share >= ENOUGH and count <= MOST_LAYERS else "fails",
        profile,
        chosen["num_pairs"],
        remark=f"keys and values: {chosen['share']:.2%} of the parameters, by {chosen['read_by']}",
    )


def _editing(rows: Sequence[Mapping[str, Any]], profile: str) -> dict[str, Measurement]:
    """The first setting of patching over the first of injection."""
    injected = next((row for row in rows if row["way"].startswith("attention maps")), None)
    if injected is None:
        return {}
    gained = _turned(injected, "to_target_minus_first")
    first = rows[1]
    return {
        "editing_beats_injection": Measurement(
            f"{first['model']}: F1 {first['to_target']:.3f} {first['way']}, {injected['to_target']:.3f} {injected['way']}",
            status_of(gained),
            profile,
            first["num_pairs"],
            interval=gained,
            remark=f"SSIM to the source {first['ssim']:.3f} and {injected['ssim']:.3f}; the injection is in the style of Prompt-to-Prompt",
        )
    }


def _guarding(rows: Sequence[Mapping[str, Any]], profile: str) -> dict[str, Measurement]:
    by_way = {row["way"]: row for row in rows}
    negative, own = by_way.get("negative prompt"), by_way.get(SOURCE)
    if negative is None or own is None:
        return {}
    first = rows[1]
    apart = first["to_source_high"] < negative["to_source_low"]
    other = first["to_source_low"] > negative["to_source_high"]
    return {
        "guard_beats_negative_prompt": Measurement(
            f"{first['model']}: F1 to the toxic word {first['to_source']:.3f} {first['way']}, {negative['to_source']:.3f} negative "
            f"prompt, {own['to_source']:.3f} unguarded",
            "holds" if apart else "fails" if other else "inside the noise",
            profile,
            first["num_pairs"],
            remark=f"toxicity {first['toxicity']:.2f} and {negative['toxicity']:.2f} by {first['judged_by']}; cost {first['cost']:.2f} "
            "of a sampling; status by whether the two intervals overlap",
        )
    }


LORA_CLAIMS = {"localized_lora_writes": "written_f1", "localized_lora_keeps_diversity": "diversity"}


def _adapters(rows: Sequence[Mapping[str, Any]], profile: str) -> dict[str, Measurement]:
    """Adapters on the located layers over those on all layers."""
    found: dict[str, Measurement] = {}
    for claim, metric in LORA_CLAIMS.items():
        for row in rows:
            sides = (row["targets"], row["other_targets"])
            if row["metric"] != metric or set(sides) != {"located", "linear"}:
                continue
            difference = _interval(row, "value")
            if sides[0] == "linear":
                difference = _negated(difference)
            found[claim] = Measurement(
                f"located minus all layers: {difference.value:+.3f}",
                status_of(difference),
                profile,
                row["num_units"],
                num_seeds=1,
                interval=difference,
                remark="one seed a side, so that the interval is of pictures alone",
            )
    return found


def _turned(row: Mapping[str, Any], name: str) -> Interval:
    return _negated(_interval(row, name))


def _interval(row: Mapping[str, Any], name: str) -> Interval:
    return Interval(row[name], row[f"{name}_low"], row[f"{name}_high"])


def _negated(found: Interval) -> Interval:
    return Interval(-found.value, -found.high, -found.low, found.level, found.count)
