"""From the store's tables to the report's plain data."""

from __future__ import annotations

import datetime
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from assets.evaluation.evaluation_table import errors_by_sample, scores_of
from assets.evaluation.judge_scores import SWAPPED
from assets.graph.interfaces import Landing, Models, Store
from assets.graph.lineage import as_records, trace
from assets.models.backbones import SMOOTH_ROWS
from assets.reports.data import (
    CaptionRow,
    Figure,
    LawRow,
    LineageRow,
    MeasureRow,
    ModelRow,
    PrintedLawRow,
    ReportData,
    SampleRow,
    Verdict,
)
from assets.reports.derived import (
    pruned_figures,
    pruned_rows,
    smaller_figures,
    smaller_rows,
    student_rows,
    study_figures,
    study_rows,
    teacher_rows,
)
from assets.reports.grid import grid_section
from assets.reports.laws import FamilyFit, fit_families, law_plot, of_recipes
from assets.reports.ledger import LEDGER_FILE, LedgerRow, ledger_rows
from evaluation.claims.registry import ClaimResult, Measurement, claim_results
from evaluation.intervals import Interval, mean_interval
from evaluation.metrics.grouped_counts import NUMBERS_OF_OBJECTS
from evaluation.metrics.metric import ALL_SPLITS

Answer = Literal["yes", "no", "unknown"]
LIMITS = (
    "Pictures are composed of flat drawings on simple backgrounds; nothing here speaks of photographs.",
    "The concept bank that names crops holds the very drawings that training scenes are made of, so naming training "
    "concepts is easier than in the wild; held-out concepts are the sober figure.",
    "The judge is a small model trained here on a split of its own. It has seen held-out concepts (it has to know what "
    "it judges), never the held-out pictures.",
    "KID-EffLite0 is a kernel distance on EfficientNet-Lite0 features. It is not FID and compares with nothing published.",
    "Every model sees the same number of images; that is not compute-optimal, and laws over compute say so by their band.",
)


def build_report(folder: Path, store: Store, landing: Landing, models: Models, prompts_shown: int) -> Path:
    """Write the report into ``folder`` and return its path."""
    from assets.reports.html import write_report

    return write_report(folder, report_data(store, landing, models, prompts_shown))


def report_data(store: Store, landing: Landing, models: Models, prompts_shown: int) -> ReportData:
    """Everything the report shows, out of the store."""
    table = store.read_table("evaluation_table")
    errors, alignment = store.read_table("denoising_errors"), store.read_table("alignment_scores")
    observations = of_recipes(store.read_table("scaling_observations"))
    fits = fit_families(observations, resamples=2000)
    grid = grid_section(store, models)
    claims = _claims(table, errors, models, grid.claims)
    return ReportData(
        title="T2I Foundry report",
        profile=models.profile,
        created_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        facts={
            "data": landing.source,
            "dataset digest": store.require("training_shards").digest[:16],
            "layout benchmark": f"{store.require('layout_benchmark').num_rows} boxes",
        },
        verdicts=_verdicts(claims, store),
        models=_model_rows(table, errors, alignment),
        teachers=teacher_rows(store),
        students=student_rows(store),
        smaller=smaller_rows(store),
        smaller_figures=smaller_figures(store),
        study=study_rows(store),
        study_figures=study_figures(store),
        pruned=pruned_rows(store),
        pruned_figures=pruned_figures(store),
        samples=_sample_rows(store, table, prompts_shown),
        training_figures=_curves(store, models),
        scaling_figures=_scaling_figures(fits),
        perception=[
            row for row in measure_rows(store, "data_quality") if row.group not in NUMBERS_OF_OBJECTS
        ],
        data_figures=[*_figures(store, "data_quality_figures"), *_figures(store, "entity_figures")],
        judge=measure_rows(store, "judge_scores"),
        autoencoder=_autoencoder(store),
        captions=_caption_rows(store),
        caption_figures=_figures(store, "caption_figures"),
        laws=_law_rows(fits),
        printed_laws=_printed_laws(),
        grid_facts=grid.facts,
        grid_figures=grid.figures,
        efficiency=grid.efficiency,
        claims=claims,
        ledger=_ledger(models),
        lineage=_lineage(store, table),
        credits=sorted(
            set(store.read_all("landed_images", ["attribution"])["attribution"].to_pylist()) - {""}
        ),
        limits=LIMITS,
    )


def _scaling_figures(fits: Sequence[FamilyFit]) -> list[Figure]:
    return [
        Figure(title, law_plot(fits, metric, abscissa))
        for title, metric, abscissa in (
            ("Held-out denoising error over size", "denoising_error", "parameters"),
            ("Held-out denoising error over compute", "denoising_error", "training_gflops"),
            ("Judge's cosine over size", "judge_cosine", "parameters"),
        )
    ]


def _caption_rows(store: Store) -> list[CaptionRow]:
    return [
        CaptionRow(
            row["captions"],
            row["num_images"],
            row["words_per_caption"],
            row["nouns_per_image"],
            row["unique_nouns"],
            row["image_noun_pairs"],
            row["near_duplicate_share"],
        )
        for row in store.read_table("caption_statistics").to_pylist()
    ]


def _law_rows(fits: Sequence[FamilyFit]) -> list[LawRow]:
    return [
        LawRow(
            fit.family,
            f"{fit.metric} over {fit.abscissa}",
            fit.law.form,
            fit.law.num_points,
            fit.law.num_sizes,
            fit.law.identifiable,
            fit.law.equation(),
        )
        for fit in fits
    ]


def measure_rows(store: Store, name: str) -> list[MeasureRow]:
    """Rows of a score table (measure, split, value, low, high, n, chance, oracle, remark); none where it is missing."""
    if store.current(name) is None:
        return []
    return [
        MeasureRow(
            row["measure"],
            row["split"],
            None
            if row["value"] is None
            else Interval(row["value"], row["low"], row["high"], count=row["num_items"]),
            row["chance"],
            row["oracle"],
            row["remark"],
            row["subject"],
        )
        for row in store.read_table(name).to_pylist()
    ]


def _claims(
    table: pa.Table, errors: pa.Table, models: Models, of_grid: Mapping[str, Measurement]
) -> list[ClaimResult]:
    import numpy as np

    from evaluation.claims.comparison import larger_is_better
    from evaluation.claims.exact import exact_measurements

    measured = {**exact_measurements(), **of_grid}
    rows = table.filter(pc.equal(table["split"], ALL_SPLITS)).sort_by("parameters").to_pylist()
    transformers = [row for row in rows if row["family"] == "transformer"]
    smallest = [row for row in transformers if row["parameters"] == transformers[0]["parameters"]]
    if len(smallest) >= 2 and transformers[-1]["parameters"] > smallest[0]["parameters"]:
        seeds = np.stack([errors_by_sample(errors, row["recipe"]) for row in smallest])
        largest = transformers[-1]["recipe"]
        measured["larger_is_better"] = larger_is_better(
            errors_by_sample(errors, largest),
            seeds,
            profile=models.profile,
            names=(largest, f"{smallest[0]['recipe']} (mean of {len(smallest)} seeds)"),
        )
    return claim_results(measured)


def _verdicts(claims: list[ClaimResult], store: Store) -> list[Verdict]:
    learned = next(result for result in claims if result.claim.name == "larger_is_better").measurement
    verdicts = []
    if learned is None:
        verdicts.append(
            Verdict("Does the largest model beat the smallest beyond seed noise?", "unknown", "too few seeds")
        )
    else:
        answer: Answer = "yes" if learned.status == "holds" else "no"
        evidence = f"{learned.measured}; 95% interval of the difference {learned.interval}"
        verdicts.append(
            Verdict("Does the largest model beat the smallest beyond seed noise?", answer, evidence)
        )
    for row in measure_rows(store, "judge_scores"):
        if row.measure == SWAPPED and isinstance(row.value, Interval):
            above: Answer = "yes" if row.value.low > (row.chance or 0.0) else "no"
            question = f"Does the judge tell what was drawn from a swapped text ({row.group})?"
            verdicts.append(Verdict(question, above, f"{row.value}, guessing {row.chance}"))
    return verdicts


def _model_rows(table: pa.Table, errors: pa.Table, alignment: pa.Table) -> list[ModelRow]:
    rows = table.filter(pc.equal(table["split"], ALL_SPLITS))
    ordered = rows.sort_by([("family", "ascending"), ("parameters", "ascending"), ("seed", "ascending")])
    return [
        ModelRow(
            recipe=row["recipe"],
            family=row["family"],
            parameters=row["parameters"],
            images_seen=row["images_seen"],
            denoising_error=mean_interval(errors_by_sample(errors, row["recipe"])),
            judge_cosine=mean_interval(scores_of(alignment, row["recipe"], "cosine")),
            judge_ceiling=row["judge_ceiling"],
            judge_floor=row["judge_floor"],
            judge_top1=mean_interval(scores_of(alignment, row["recipe"], "top1_of_k")),
            kid=row["kid_efflite0"],
            kid_standard_error=row["kid_efflite0_standard_error"],
            seconds=row["training_seconds"],
            digest=row["model_digest"],
        )
        for row in ordered.to_pylist()
    ]


def _sample_rows(store: Store, table: pa.Table, count: int) -> list[SampleRow]:
    rows = table.filter(pc.and_(pc.equal(table["split"], ALL_SPLITS), pc.equal(table["seed"], 0)))
    recipes = rows.sort_by([("family", "ascending"), ("parameters", "ascending")])["recipe"].to_pylist()
    drawn = {recipe: store.read_table("generated_samples", recipe).to_pylist() for recipe in recipes}
    prompts = _spread(drawn[recipes[0]], count) if recipes else []
    wanted = pa.array([row["sample_id"] for row in prompts], pa.string())
    landed = store.read_all("landed_images", ["sample_id", "image"])
    real = landed.filter(pc.is_in(landed["sample_id"], value_set=wanted))
    originals = dict(zip(real["sample_id"].to_pylist(), real["image"].to_pylist(), strict=True))
    pictures = {recipe: {row["sample_id"]: row["image"] for row in rows} for recipe, rows in drawn.items()}
    return [
        SampleRow(
            row["prompt"],
            row["split"],
            _as_png(originals[row["sample_id"]]),
            {recipe: pictures[recipe][row["sample_id"]] for recipe in recipes},
        )
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


def _curves(store: Store, models: Models) -> list[Figure]:
    import numpy as np

    from evaluation.plots.basic import Curve, loss_curves
    from training.run_folder import RunFolder

    curves = []
    for path in sorted(models.runs.glob("*/done.json")):
        folder = RunFolder(path.parent)
        done, recipe = folder.read_done(), folder.read_spec().recipe
        manifest = store.current("backbone", recipe.name)
        if done is None or manifest is None or manifest.digest != done.model_digest:
            continue
        metrics = folder.read_metrics()
        seen, loss = (metrics[name].to_numpy().astype(np.float64) for name in ("images_seen", "loss"))
        curves.append(Curve(recipe.name, seen, loss))
    if not curves:
        return []
    return [
        Figure(
            "Training loss",
            loss_curves(
                sorted(curves, key=lambda curve: curve.name), title="Training loss", smooth=SMOOTH_ROWS
            ),
        )
    ]


def _autoencoder(store: Store) -> list[MeasureRow]:
    errors = store.read_all("image_latents", ["reconstruction_error"])["reconstruction_error"].to_numpy()
    value = mean_interval(errors.astype(float))
    remark = "pixels in [-1, 1]; no backbone behind it can be better"
    return [MeasureRow("mean squared reconstruction error", "all splits", value, oracle=0.0, remark=remark)]


def _figures(store: Store, name: str) -> list[Figure]:
    """Figures that an asset kept in full; none where it drew none."""
    if store.current(name) is None:
        return []
    paths = sorted(store.local_folder(name).glob("*.png"))
    return [Figure(path.stem.replace("_", " ").capitalize(), path.read_bytes()) for path in paths]


def _printed_laws() -> list[PrintedLawRow]:
    from evaluation.scaling.printed import COMPUTE_LAW, DATA_LAW, PARAMETER_LAW

    return [
        PrintedLawRow(
            law.symbol,
            f"S = {law.coefficient} {law.symbol}^{law.exponent}",
            [law.score(x) for x in law.plot_x],
            law.possible,
            law.remark,
        )
        for law in (COMPUTE_LAW, PARAMETER_LAW, DATA_LAW)
    ]


def _ledger(models: Models) -> list[LedgerRow]:
    path = models.runs.parent / LEDGER_FILE
    return ledger_rows(json.loads(path.read_text()) if path.exists() else {})


def _lineage(store: Store, table: pa.Table) -> list[LineageRow]:
    """The largest transformer's way back to landed shards; the model folders hold each model's own."""
    rows = table.filter(pc.equal(table["split"], ALL_SPLITS)).sort_by([("parameters", "descending")])
    recipe = rows["recipe"][0].as_py()
    shown = []
    for record in as_records(trace(store, "backbone", recipe)):
        name, _, partition = record["version"].partition("@")
        if "asset" in record:
            made_from = sorted(record["made_from"])
            label = made_from if len(made_from) <= 8 else [*made_from[:8], f"and {len(made_from) - 8} more"]
            shown.append(LineageRow(name, partition, record["digest"][:12], label))
    return shown
