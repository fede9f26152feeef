"""A smaller model beside the one it was made from: sizes, speed, the judge's opinion, pictures from the same noise."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from assets.graph.interfaces import Store
from assets.graph.versions import GateResult, Provenance
from assets.models.drawing import (
    DrawingPlace,
    as_meant,
    draw_model,
    keep_pictures,
    pictures_of,
    stored_prompts,
)
from assets.pages.markdown import markdown_table
from assets.pages.measures import interval_of
from assets.pages.sheets import sheet_jpeg
from assets.pages.tables import Cell, Column, Entry, Table
from evaluation.tables.scores import SMALLER_MODEL_SCORES

if TYPE_CHECKING:
    from evaluation.metrics.paired_models import SmallerScore

SCORES = "smaller_model_scores"
"""Table of all comparisons, a partition a smaller model."""
Version = tuple[str, str]
PICTURES_SHOWN = 8
TIMED_BATCH, TIMED_RUNS, WARM_UP = 8, 9, 2
MARGIN = 0.10  # of the parent's judge cosine


@dataclass(frozen=True)
class Drawing:
    """How both models are sampled. A few-step model is drawn in 4 steps without guidance, whatever is said here."""

    prompts_per_split: int = 48
    num_steps: int = 16
    guidance: float = 3.0


@dataclass(frozen=True)
class Measured:
    """What a backbone costs: parameters, multiply-adds of one image, milliseconds and memory of a batch of 8.

    ``peak_memory_bytes``: weights and what the pass adds, see :func:`training.measuring.memory.peak_memory_bytes`.
    """

    parameters: int
    macs: int
    milliseconds: float
    peak_memory_bytes: int


@dataclass(frozen=True)
class Smaller:
    """A comparison: the table, the score, and a JPEG with a row of the parent's pictures above each of the child's.

    ``by_parent`` and ``by_child``: all pictures, rows of :func:`assets.models.drawing.draw_held_out`.
    """

    table: pa.Table
    score: SmallerScore
    sheet: bytes
    by_parent: pa.Table
    by_child: pa.Table

    def keep(self, store: Store, child: Version, parent: Version, provenance: Provenance) -> None:
        """Store the table and what both drew; ``child`` and ``parent`` are asset and partition."""
        store.write_table(SCORES, self.table, provenance, child[1])
        digest = self.table["model_digest"][0].as_py()
        keep_pictures(store, child, digest, self.by_child, provenance)
        keep_pictures(store, parent, store.require(*parent).digest, self.by_parent, provenance)


def compare_smaller(
    store: Store,
    place: DrawingPlace,
    parent: Path,
    child: Path,
    drawing: Drawing,
    *,
    recipe: str,
    parent_name: str,
    digest: str,
) -> Smaller:
    """Draw held-out prompts with both from the same noise, let the judge score them, and measure both backbones.

    Raises FoundryError when there is no judge that passed its gate, no held-out prompt, or a parent that paints nothing.
    """
    from evaluation.judge import Judge
    from evaluation.metrics.paired_models import smaller_score
    from training.shards import TrainingShards

    judge = Judge.load(store.local_folder("judge_clip", require_gate=True))
    prompts = stored_prompts(store, drawing.prompts_per_split)
    texts = judge.embed_texts(prompts["prompt"].to_pylist())
    drawn, images, cosines = [], [], []
    for folder in (parent, child):
        steps, guidance = as_meant(folder, drawing.num_steps, drawing.guidance)
        drawn.append(draw_model(place, folder, prompts, (steps, guidance)))
        images.append(pictures_of(drawn[-1]))
        cosines.append((judge.embed_images(images[-1]) * texts).sum(axis=1).astype(np.float64))
    shards = TrainingShards.open(store.local_folder("training_shards", require_gate=True))
    about_data = shards.description
    costs = measure((parent, child), about_data.max_tokens, about_data.latent_shapes[0])
    score = smaller_score(cosines[0], cosines[1], images[0], images[1])
    about = {
        "recipe": recipe,
        "parent": parent_name,
        "num_steps": steps,
        "guidance": guidance,
        "num_prompts": prompts.num_rows,
        "model_digest": digest,
    }
    sheet = _sheet(images[0], images[1])
    return Smaller(_table(score, costs, cosines, {**about, "sheet": sheet}), score, sheet, drawn[0], drawn[1])


def measure(
    folders: Sequence[Path], num_tokens: int, latent_shape: tuple[int, int, int] | None = None
) -> list[Measured]:
    """Count, time and weigh backbones on example inputs of the dataset's text length, and of its latents where a model
    names no size; timed by turns, so that all meet the same machine."""
    import torch

    from training.backbones import example_inputs, layer_costs, size_from_data
    from training.measuring.memory import peak_memory_bytes
    from training.model_folders.parents import load_backbone

    backbones = [load_backbone(folder).eval() for folder in folders]
    sizes = [size_from_data(backbone, latent_shape) for backbone in backbones]
    sides = [size[0] if size else None for size in sizes]
    inputs = [
        example_inputs(backbone, TIMED_BATCH, side, num_tokens)
        for backbone, side in zip(backbones, sides, strict=True)
    ]
    with torch.inference_mode():
        rounds = [
            [_seconds(example.call, backbone) for example, backbone in zip(inputs, backbones, strict=True)]
            for _ in range(WARM_UP + TIMED_RUNS)
        ]
    seconds = np.median(rounds[WARM_UP:], axis=0)
    measured = []
    for backbone, side, example, median in zip(backbones, sides, inputs, seconds, strict=True):
        peak = peak_memory_bytes(backbone, example)
        empty = backbone.to("meta")
        costs = layer_costs(empty, example_inputs(empty, 1, side, num_tokens)).values()
        parameters = sum(parameter.numel() for parameter in empty.parameters())
        macs = sum(cost.macs + cost.product_macs for cost in costs)
        measured.append(Measured(parameters, macs, 1e3 * float(median), peak))
    return measured


def _seconds(call: Callable[[Any], Any], backbone: Any) -> float:
    begun = time.perf_counter()
    call(backbone)
    return time.perf_counter() - begun


def gate_of_size(found: int, planned: int) -> GateResult:
    """A model has exactly the parameters that its recipe promised."""
    return GateResult(found == planned, {"parameters": found, "planned": planned})


def gate_of_score(score: SmallerScore, margin: float = MARGIN) -> GateResult:
    """A model loses no more of its parent's score than the margin, as far as the whole interval lies there."""
    from evaluation.metrics.paired_models import within_margin

    side = within_margin(score.relative, margin)
    findings = {"outcome": side, "relative": str(score.relative), "margin": margin}
    return GateResult(side != "fails", findings)


COLUMNS = (
    Column(""),
    Column("parameters", ","),
    Column("multiply-adds", ","),
    Column("ms, batch of 8", ".1f"),
    Column("peak MB, batch of 8", ".1f"),
    Column("judge cosine", ".3f"),
    Column("relative to the parent", "+.1%"),
    Column("SSIM", ".3f"),
)


def smaller_markdown(table: pa.Table) -> str:
    """The comparison in Markdown, for the asset page and the card."""
    rows = table.to_pylist()
    whole = rows[0]
    note = (
        f"{whole['num_prompts']} held-out prompts, {whole['num_steps']} steps, guidance {whole['guidance']:g}; "
        "milliseconds hold for the machine of this run and what else it did; peak MB (1e6 bytes) are weights and the most "
        "tensors of a forward pass that are alive at once, in float32."
    )
    return f"{markdown_table(Table(COLUMNS, [_cells(row, whole) for row in rows]))}\n\n{note}"


def _cells(row: Mapping[str, Any], whole: Mapping[str, Any]) -> tuple[Entry, ...]:
    share = "" if row is whole else f"{row['parameters'] / whole['parameters']:.2%}"
    return (
        row["model"],
        Cell(row["parameters"], note=share),
        row["macs"],
        row["milliseconds"],
        row["peak_memory_bytes"] / 1e6,
        interval_of(row, "judge_cosine"),
        interval_of(row, "relative"),
        row["ssim"],
    )


def _table(
    score: SmallerScore, costs: list[Measured], cosines: list[np.ndarray], about: dict[str, Any]
) -> pa.Table:
    rows = []
    sides = (("parent", score.parent), ("child", score.child))
    for (model, cosine), cost, by_prompt in zip(sides, costs, cosines, strict=True):
        compared = model == "child"
        rows.append(
            {
                **about,
                "sheet": about["sheet"] if compared else None,
                "model": model,
                "parameters": cost.parameters,
                "macs": cost.macs,
                "milliseconds": cost.milliseconds,
                "peak_memory_bytes": cost.peak_memory_bytes,
                "prompt_cosines": by_prompt.tolist(),
                "judge_cosine": cosine.value,
                "judge_cosine_low": cosine.low,
                "judge_cosine_high": cosine.high,
                "relative": score.relative.value if compared else None,
                "relative_low": score.relative.low if compared else None,
                "relative_high": score.relative.high if compared else None,
                "ssim": score.ssim.value if compared else None,
            }
        )
    return pa.Table.from_pylist(rows, schema=SMALLER_MODEL_SCORES)


def _sheet(parent: np.ndarray, child: np.ndarray) -> bytes:
    from assets.corpus.image_io import encode_png

    count = min(PICTURES_SHOWN, len(parent))
    tiles = [encode_png(image) for image in (*parent[:count], *child[:count])]
    return sheet_jpeg(tiles, ["parent"] * count + ["child"] * count, columns=count)
