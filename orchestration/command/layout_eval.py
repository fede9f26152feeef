"""``foundry layout-eval``: score pictures that anybody drew for a layout benchmark."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestration.command.arguments import AsJson, workspace
from orchestration.command.output import console, print_rows, write_table

if TYPE_CHECKING:
    from evaluation.benchmarks.pictures import FolderPictures
    from evaluation.benchmarks.samples import LayoutSample
    from orchestration.judging import Judging

commands = typer.Typer()


@commands.command("layout-eval")
def layout_eval(
    images: Annotated[Path, typer.Option(help="folder of pictures, named by image_id or file_name")],
    benchmark: Annotated[
        Path, typer.Option(help="LayoutSAM-Eval's Parquet (a file or a folder), ours, or a JSON of layouts")
    ],
    judge: Annotated[
        str | None,
        typer.Option(
            help="a model of the profile, or folder or hub id of one; default the profile's answers"
        ),
    ] = None,
    family: Annotated[str, typer.Option(help="of a --judge by path, such as qwen2_5_vl")] = "qwen2_5_vl",
    dtype: Annotated[str, typer.Option(help="of a --judge by path: float32, bf16 or fp16")] = "bf16",
    boxes: Annotated[
        bool, typer.Option("--boxes", help="also boxes: recall, AP and counts by the profile's detector")
    ] = False,
    kid: Annotated[
        bool, typer.Option("--kid", help="also KID-EffLite0 against the benchmark's own pictures")
    ] = False,
    clip: Annotated[
        str | None, typer.Option(help="also the CLIP score, by the CLIP model in this folder or hub id")
    ] = None,
    pickscore: Annotated[
        str | None, typer.Option(help="also PickScore, by PickScore_v1 in this folder or hub id")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="only the benchmark's first so many")] = None,
    out: Annotated[Path | None, typer.Option(help="Parquet of every answer about every box")] = None,
    as_json: AsJson = False,
) -> None:
    """Ask a judge about every box: is the entity there, does it look as described? (LayoutSAM-Eval)."""
    from evaluation.benchmarks.layoutsam_eval import ask, scores
    from evaluation.benchmarks.pictures import pictures_of
    from evaluation.benchmarks.samples import read_benchmark
    from orchestration.judging import Judging

    samples = read_benchmark(benchmark)[:limit]
    pictures = pictures_of(images, samples)
    judging = Judging(workspace(), judge, family, dtype)
    whole = _whole(samples, pictures, benchmark if kid else None, clip, pickscore)
    who = judging.judge()
    answers = ask(samples, pictures, who)
    scored = scores(answers)
    if out is not None:
        write_table(out, answers)
    found = _boxes(judging, samples, pictures) if boxes else []
    summary = {
        "judge": who.name, "judge_digest": who.digest, "judge_settings": dict(who.settings),
        "benchmark": str(benchmark), "images": str(images), "samples": len(samples), "boxes": answers.num_rows,
    }  # fmt: skip
    if as_json:
        print_rows([{**summary, "scores": scored.to_pylist(), "figures": [*found, *whole]}], as_json=True)
        return
    print_rows([_shown(row) for row in scored.to_pylist()], as_json=False, title="LayoutSAM-Eval")
    if found or whole:
        print_rows([*found, *whole], as_json=False, title="Beside it")
    _say(summary)


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "": row["metric"],
        "score": row["value"],
        "95 % from": row["value_low"],
        "to": row["value_high"],
        "boxes with a Yes": row["num_yes"],
        "asked": row["num_asked"],
        "boxes": row["num_boxes"],
        "prompts": row["num_prompts"],
    }


def _figure(name: str, interval: Any, measured_by: str) -> dict[str, Any]:
    return {
        "figure": name,
        "value": interval.value,
        "low": interval.low,
        "high": interval.high,
        "measured by": measured_by,
    }


def _whole(
    samples: list[LayoutSample],
    pictures: FolderPictures,
    real: Path | None,
    clip: str | None,
    pickscore: str | None,
) -> list[dict[str, Any]]:
    if real is None and clip is None and pickscore is None:
        return []
    from evaluation.benchmarks import whole_pictures

    figures = [] if real is None else [whole_pictures.kid(samples, pictures, real)]
    if clip is not None:
        figures.append(whole_pictures.clip_scores(samples, pictures, clip).clip(clip))
    if pickscore is not None:
        figures.append(whole_pictures.clip_scores(samples, pictures, pickscore).pick(pickscore))
    return [_figure(figure.name, figure.value, figure.measured_by) for figure in figures]


def _boxes(judging: Judging, samples: list[LayoutSample], pictures: FolderPictures) -> list[dict[str, Any]]:
    from evaluation.benchmarks.detections import found_boxes, told_boxes
    from evaluation.metrics.box_metrics import box_metrics

    detector = judging.detector()
    metrics = box_metrics(told_boxes(samples), found_boxes(samples, pictures, detector))
    named = {
        "IoU recall at .5": metrics.recall,
        "AP at .5": metrics.ap50,
        "AP": metrics.ap,
        "right count": metrics.count,
    }
    return [_figure(name, interval, detector.name) for name, interval in named.items()]


def _say(summary: dict[str, Any]) -> None:
    settings = ", ".join(f"{name} {value}" for name, value in summary["judge_settings"].items())
    console.print(
        f"Judged by {summary['judge']} ({settings}; digest {summary['judge_digest'][:12]}). Scores of another judge, such as "
        "the published MiniCPM-V-2.6's, do not compare.",
        highlight=False,
        markup=False,
    )
