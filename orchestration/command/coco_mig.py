"""``foundry coco-mig``: score pictures that anybody drew for COCO-MIG's prompts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestration.command.arguments import AsJson, workspace
from orchestration.command.output import console, print_rows, write_table

if TYPE_CHECKING:
    from evaluation.benchmarks.coco_mig import MigScores

commands = typer.Typer()


@commands.command("coco-mig")
def coco_mig(
    images: Annotated[
        Path, typer.Option(help="folder of pictures, named by the prompt's id, or with it behind a last '_'")
    ],
    prompts: Annotated[Path, typer.Option(help="JSON of prompts in the published form")],
    out: Annotated[Path | None, typer.Option(help="Parquet of what was found of every instance")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="only the first so many prompts")] = None,
    as_json: AsJson = False,
) -> None:
    """Is every instance in its place and in its colour? By the profile's detector and segmenter (COCO-MIG)."""
    from evaluation.benchmarks.coco_mig import score_by_level
    from evaluation.benchmarks.mig_prompts import read_prompts
    from evaluation.benchmarks.mig_scoring import find_instances, pictures_found
    from evaluation.benchmarks.pictures import pictures_of
    from orchestration.judging import Judging

    asked = read_prompts(prompts)[:limit]
    pictures = pictures_of(images, [prompt.sample() for prompt in asked], last_part=True)
    judging = Judging(workspace())
    detector, segmenter = judging.detector(), judging.segmenter()
    instances = find_instances(asked, pictures, detector, segmenter)
    if out is not None:
        write_table(out, instances)
    scores = score_by_level(pictures_found(instances))
    about = {
        "prompts": str(prompts),
        "images": str(images),
        "detector": detector.name,
        "segmenter": segmenter.name,
    }
    if as_json:
        print_rows([{**about, "scores": {level: _told(own) for level, own in scores.items()}}], as_json=True)
        return
    rows = [{"": level, **_shown(own)} for level, own in scores.items()]
    print_rows(rows, as_json=False, title="COCO-MIG")
    console.print(
        f"Boxes by {detector.name}, masks by {segmenter.name}. Scores of others, such as the published ones of Grounding DINO "
        "and SAM, do not compare. AVG is over instances.",
        highlight=False,
        markup=False,
    )


def _told(scores: MigScores) -> dict[str, Any]:
    intervals = {
        "instance_success_rate": scores.instance_success,
        "mean_iou": scores.mean_iou,
        "success_rate": scores.image_success,
    }
    told: dict[str, Any] = {
        name: {"value": own.value, "low": own.low, "high": own.high} for name, own in intervals.items()
    }
    return {**told, "pictures": scores.num_pictures, "instances": scores.num_instances}


def _shown(scores: MigScores) -> Mapping[str, Any]:
    def text(interval: Any) -> str:
        return f"{interval.value:.3f} ({interval.low:.3f} to {interval.high:.3f})"

    return {
        "instance success": text(scores.instance_success),
        "mean IoU": text(scores.mean_iou),
        "image success": text(scores.image_success),
        "pictures": scores.num_pictures,
        "instances": scores.num_instances,
    }
