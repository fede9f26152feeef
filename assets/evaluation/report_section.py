"""What the report says of the models that were evaluated: whether they learned, their scores, their pictures, their judge."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from assets.evaluation.evaluation_table import errors_by_sample, scores_of
from assets.evaluation.judge_scores import SWAPPED
from assets.models.drawing import PICTURES
from assets.pages.measures import measures_table
from assets.pages.sections import Section, Sources
from assets.pages.tables import Cell, Column, Entry, Picture, Table
from evaluation.claims.registry import Measurement
from evaluation.intervals import mean_interval
from evaluation.metrics.metric import ALL_SPLITS
from evaluation.plots.contact_sheets import safe_text

SHIPPED_KIND = "teacher_backbone"
OF_TRAINED_CONCEPTS = "held_out_images"
"""The split whose scenes are new and whose concepts are not."""
EVALUATE = "Materialize evaluation_table."
PROMPT_CHARACTERS = 240
MODEL_COLUMNS = (
    Column("Recipe"),
    Column("Family"),
    Column("Parameters", ","),
    Column("Images seen", ","),
    Column("Denoising error", ",.4f", "unknown"),
    Column("Judge score", ",.3f", "unknown"),
    Column("Floor to ceiling", right=True),
    Column("Right prompt of k", ",.3f", "unknown"),
    Column("KID-EffLite0", ",.3f", "unknown"),
    Column("Seconds", ",.0f", "unknown"),
    Column("Digest"),
)


def learned_section(sources: Sources) -> Section | None:
    """Questions that a run must answer for itself; None before anything was evaluated."""
    if sources.table("evaluation_table") is None:
        return None
    rows = [_verdict_of_size(measurements(sources).get("larger_is_better"))]
    for row in sources.rows("judge_scores"):
        if row["measure"] == SWAPPED and row["value"] is not None:
            above = "yes" if row["low"] > (row["chance"] or 0.0) else "no"
            question = f"Does the judge tell what was drawn from a swapped text ({row['split']})?"
            interval = f"{row['value']:.4g} ({row['low']:.3g} to {row['high']:.3g})"
            rows.append((question, Cell(above, tone=above), f"{interval}, guessing {row['chance']}"))
    return Section("Has it learned something?", "learned", tables=[Table([Column("")] * 3, rows)])


def _verdict_of_size(found: Measurement | None) -> tuple[Entry, ...]:
    question = "Does the largest model beat the smallest beyond seed noise?"
    if found is None:
        return (question, Cell("unknown", tone="unknown"), "too few seeds")
    answer = "yes" if found.status == "holds" else "no"
    evidence = f"{found.measured}; 95% interval of the difference {found.interval}"
    return (question, Cell(answer, tone=answer), evidence)


def measurements(sources: Sources) -> Mapping[str, Measurement]:
    """What the evaluated models say of claims: whether the largest transformer beats the smallest."""
    import numpy as np

    from evaluation.claims.comparison import larger_is_better

    table, errors = sources.table("evaluation_table"), sources.table("denoising_errors")
    if table is None or errors is None:
        return {}
    rows = table.filter(pc.equal(table["split"], ALL_SPLITS)).sort_by("parameters").to_pylist()
    transformers = [row for row in rows if row["family"] == "transformer"]
    smallest = [row for row in transformers if row["parameters"] == transformers[0]["parameters"]]
    if len(smallest) < 2 or transformers[-1]["parameters"] <= smallest[0]["parameters"]:
        return {}
    largest, least = transformers[-1]["recipe"], smallest[0]["recipe"]
    measured = larger_is_better(
        errors_by_sample(errors, largest),
        np.stack([errors_by_sample(errors, row["recipe"]) for row in smallest]),
        profile=sources.models.profile,
        names=(largest, f"{least} (mean of {len(smallest)} seeds)"),
    )
    return {"larger_is_better": measured}


def models_section(sources: Sources) -> Section:
    """Every evaluated model: error, judge's score, kernel distance and cost."""
    errors, alignment = sources.table("denoising_errors"), sources.table("alignment_scores")
    rows = [
        _model_cells(row, errors, alignment)
        for row in _models(sources.table("evaluation_table"))
        if errors is not None and alignment is not None
    ]
    return Section(
        "Models",
        "models",
        sentences=(
            "Denoising error: mean squared error of the predicted clean latent on held-out scenes over one grid of noise "
            "levels; lower is better, comparable between all targets. Judge: cosine of picture and prompt, between its "
            "floor (shuffled prompts) and its ceiling (real held-out pictures). Ranges are 95 % intervals.",
            "KID-EffLite0 is the kernel distance on EfficientNet-Lite0 features (± its standard error): it compares with "
            "nothing outside this report.",
        ),
        tables=[Table(MODEL_COLUMNS, rows)],
        missing=EVALUATE,
    )


def _models(table: pa.Table | None) -> list[dict[str, Any]]:
    """Rows over all held-out samples, by family and size."""
    if table is None:
        return []
    rows = table.filter(pc.equal(table["split"], ALL_SPLITS))
    by_size = [("family", "ascending"), ("parameters", "ascending"), ("seed", "ascending")]
    return list(rows.sort_by(by_size).to_pylist())


def _model_cells(row: Mapping[str, Any], errors: pa.Table, alignment: pa.Table) -> tuple[Entry, ...]:
    recipe, kid_error = row["recipe"], row["kid_efflite0_standard_error"]
    return (
        recipe,
        row["family"],
        row["parameters"],
        row["images_seen"],
        mean_interval(errors_by_sample(errors, recipe)),
        mean_interval(scores_of(alignment, recipe, "cosine")),
        f"{row['judge_floor']:,.3f} to {row['judge_ceiling']:,.3f}",
        mean_interval(scores_of(alignment, recipe, "top1_of_k")),
        Cell(row["kid_efflite0"], note="" if kid_error is None else f"± {kid_error:,.3f}"),
        row["training_seconds"],
        Cell(row["model_digest"][:12], code=True),
    )


def opening_section(sources: Sources) -> Section | None:
    """What the shipped models draw for held-out captions, beside the real pictures; None where none was scored."""
    stored = {name: f"{SHIPPED_KIND}.{name}" for name in sources.store.partitions(SHIPPED_KIND)}
    drawn = {name: rows for name, place in stored.items() if (rows := sources.rows(PICTURES, place))}
    if not drawn:
        return None
    by_all = set[str].intersection(*({row["sample_id"] for row in rows} for rows in drawn.values()))
    first = sorted(next(iter(drawn.values())), key=lambda row: row["sample_id"])
    shared = [row for row in first if row["sample_id"] in by_all]
    prompts = [row for row in shared if row["split"] == OF_TRAINED_CONCEPTS] or shared
    columns = [Column("Caption"), Column("Real"), *(Column(name) for name in drawn)]
    return Section(
        "What the shipped models draw",
        "opening",
        [
            "Alt-texts of held-out scenes, the first by their number: nothing is picked by hand. Every model starts from the "
            "same noise in a row."
        ],
        [Table(columns, _sample_cells(sources, prompts[: sources.prompts_shown], drawn))],
    )


def samples_section(sources: Sources) -> Section:
    """The same held-out prompts drawn by every model, beside the real pictures."""
    recipes = [row["recipe"] for row in _models(sources.table("evaluation_table")) if row["seed"] == 0]
    drawn = {recipe: sources.rows("generated_samples", recipe) for recipe in recipes}
    prompts = _spread(drawn[recipes[0]], sources.prompts_shown) if recipes else []
    columns = [Column("Prompt"), Column("Real"), *(Column(recipe) for recipe in recipes)]
    return Section(
        "Samples",
        "samples",
        ["The same prompts down the rows and the same starting noise across; nothing is picked by hand."],
        [Table(columns, _sample_cells(sources, prompts[: sources.prompts_shown], drawn))],
        missing="Materialize generated_samples, then evaluation_table.",
    )


def _sample_cells(
    sources: Sources, prompts: Sequence[dict[str, Any]], drawn: Mapping[str, list[dict[str, Any]]]
) -> list[list[Entry]]:
    if not prompts:
        return []
    wanted = pa.array([row["sample_id"] for row in prompts], pa.string())
    landed = sources.store.read_all("landed_images", ["sample_id", "image"])
    real = landed.filter(pc.is_in(landed["sample_id"], value_set=wanted))
    originals = dict(zip(real["sample_id"].to_pylist(), real["image"].to_pylist(), strict=True))
    pictures = {recipe: {row["sample_id"]: row["image"] for row in rows} for recipe, rows in drawn.items()}
    return [
        [
            Cell(safe_text(row["prompt"], PROMPT_CHARACTERS), below=row["split"].replace("_", " ")),
            Picture(_as_png(originals[row["sample_id"]]), "real picture"),
            *(Picture(found[row["sample_id"]], f"picture by {recipe}") for recipe, found in pictures.items()),
        ]
        for row in prompts
    ]


def _spread(rows: list[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """``count`` rows, evenly from the splits in which they stand."""
    by_split: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        by_split.setdefault(row["split"], []).append(row)
    share = -(-count // max(len(by_split), 1))
    return [row for split in sorted(by_split, key=str) for row in by_split[split][:share]][:count]


def _as_png(data: bytes) -> bytes:
    from PIL import Image

    from assets.corpus.image_io import decode_rgb

    buffer = io.BytesIO()
    Image.fromarray(decode_rgb(data)).save(buffer, format="PNG")
    return buffer.getvalue()


def judge_section(sources: Sources) -> Section:
    """What the judge can do on real held-out pictures."""
    scores = sources.table("judge_scores")
    return Section(
        "Judge",
        "judge",
        [
            "A small image-text model trained on scenes and alt-texts of its own split. It shares no weights, features or "
            "examples with the perception that wrote the captions."
        ],
        [] if scores is None else [measures_table(scores)],
        missing=EVALUATE,
    )
