"""The ``foundry`` command: a thin layer over the functions that the assets use too."""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from orchestration.collector import collect_seldom
from orchestration.command import (
    backbones,
    coco_mig,
    grid,
    history,
    layout,
    layout_eval,
    pruning,
    studio,
    text,
    tracing,
)
from orchestration.command.arguments import AsJson, Data, open_store, workspace
from orchestration.command.output import errors, print_rows
from orchestration.workspace import DEFAULT_DATA
from training.errors import FoundryError

_PROCESS_START = time.time()

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="T2I Foundry: from image-text pairs to measured text-to-image models, in one Dagster asset graph.",
)

app.add_typer(backbones.commands)
app.add_typer(coco_mig.commands)
app.add_typer(history.commands)
app.add_typer(layout.commands)
app.add_typer(layout_eval.commands)
app.add_typer(pruning.commands)
app.add_typer(studio.commands)
app.add_typer(text.commands)
app.add_typer(tracing.commands)
app.add_typer(grid.commands, name="grid")


@app.command()
def demo(
    data: Data = None,
    train_autoencoder: Annotated[
        bool, typer.Option(help="train a new autoencoder instead of taking the shipped one")
    ] = False,
    everything: Annotated[
        bool, typer.Option("--all", help="also the studies, every partition: longer than eight minutes")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Bring the whole graph up to date on this machine, and say where the report is."""
    from orchestration.command import demo as command

    command.run(
        workspace(data),
        train_autoencoder=train_autoencoder,
        everything=everything,
        as_json=as_json,
        process_start=_PROCESS_START,
    )


@app.command()
def teachers(
    into: Annotated[
        Path | None,
        typer.Option(
            help="folder that takes teachers/NAME (and the autoencoder); packed/ in the workspace if left out"
        ),
    ] = None,
    train_autoencoder: Annotated[
        bool, typer.Option(help="train the profile's autoencoder, instead of taking the shipped one")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Train the teachers that ship, score and pack them: some three hours on two cores, resumable."""
    from orchestration.command import teachers as command

    command.run(workspace(profile="teacher"), into, train_autoencoder=train_autoencoder, as_json=as_json)


@app.command("demo-data")
def demo_data(as_json: AsJson = False) -> None:
    """Fetch optional files once: a detector and an art set of another hand. Needs npm and a network."""
    from orchestration.command.demo_data import run

    run(as_json=as_json)


@app.command()
def ui(data: Data = None, port: Annotated[int, typer.Option(min=1024, max=65535)] = 3000) -> None:
    """Serve the Dagster UI and its daemon on 127.0.0.1 until Ctrl-C."""
    from orchestration.command import ui as command

    raise typer.Exit(command.run(workspace(data), port))


@app.command("import")
def import_(
    source: Annotated[
        Path,
        typer.Argument(
            help="folder of images, of WebDataset tars, of Parquet or of LayoutSAM files; or one such file"
        ),
    ],
    name: Annotated[
        str, typer.Option(help="name under which the source lands: lower case, digits, '.', '_', '-'")
    ],
    as_json: AsJson = False,
) -> None:
    """Land your own pictures, so that `foundry demo --data NAME` runs the graph on them. Safe to repeat."""
    from orchestration.command.importing import run

    if name == DEFAULT_DATA:
        raise FoundryError(f"--name is '{name}', which is the composed scenes' own. Choose another name.")
    run(workspace(), source, name, as_json=as_json)


@app.command("export")
def export_(
    folder: Annotated[Path, typer.Argument(help="folder to write; it must be empty or not be there")],
    format_name: Annotated[
        str,
        typer.Option("--format", help="layoutsam, layoutsam-eval, coco, webdataset or huggingface"),
    ],
    table: Annotated[str, typer.Option(help="training, or benchmark for the layout benchmark")] = "training",
    split: Annotated[str, typer.Option(help="split of the training table")] = "train",
    limit: Annotated[int | None, typer.Option(min=1, help="only the first so many images")] = None,
    overwrite: Annotated[bool, typer.Option(help="replace an earlier export")] = False,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Write annotated images in a format that others read, with a dataset card."""
    from orchestration.command.export import run

    run(
        workspace(data), folder, format_name,
        table=table, split=split, limit=limit, overwrite=overwrite, as_json=as_json,
    )  # fmt: skip


@app.command("retry-failed")
def retry_failed(
    asset: Annotated[
        str, typer.Argument(help="asset whose failed samples are tried again, such as recaptions")
    ],
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Ask a model again for the samples on which it failed, and for nothing else. Exit code 2 if some still fail."""
    from orchestration.command.retrying import run

    if not run(workspace(data), asset, as_json=as_json):
        raise typer.Exit(2)


@app.command()
def plan(
    name: Annotated[str, typer.Argument(help="a recipe or grid point, or a profile such as paper")],
    profile: Annotated[
        str | None, typer.Option(help="profile of the recipe; default FOUNDRY_PROFILE, then demo")
    ] = None,
    gpus: Annotated[int | None, typer.Option(help="GPUs that train together; default 1")] = None,
    strategy: Annotated[
        str | None, typer.Option(help="ddp: a copy of the weights each; fsdp: a shard each")
    ] = None,
    batch_per_gpu: Annotated[
        int | None, typer.Option(help="images of one pass on one GPU; the batch's rest becomes micro batches")
    ] = None,
    precision: Annotated[str | None, typer.Option(help="fp32, bf16 or fp16; default the recipe's")] = None,
    checkpointing: Annotated[
        bool | None, typer.Option("--checkpointing", help="compute activations again in the backward pass")
    ] = None,
    gpu: Annotated[str | None, typer.Option(help="h100, h200, a100, a100-40, l40s or b200")] = None,
    mfu: Annotated[
        float | None, typer.Option(help="share of the GPU's peak that is used; default 0.35")
    ] = None,
    price: Annotated[float | None, typer.Option(help="price of one GPU-hour")] = None,
    images: Annotated[int | None, typer.Option(help="images of the data set, for storage")] = None,
    optimizer: Annotated[
        str | None, typer.Option(help="adamw, adamw8bit (moments in 8 bits) or muon; default the recipe's")
    ] = None,
    latent_size: Annotated[
        int | None, typer.Option(help="height and width of the latents; default the backbone's own")
    ] = None,
    tokens: Annotated[int | None, typer.Option(help="tokens of a text; default its encoder's")] = None,
    as_json: AsJson = False,
) -> None:
    """Say before anything runs what trainings need: memory by part, time, storage, cost. Time is projected."""
    from orchestration.command.plan import run

    given = {
        "gpus": gpus, "strategy": strategy, "batch_per_gpu": batch_per_gpu, "precision": precision,
        "checkpointing": checkpointing, "gpu": gpu, "mfu": mfu, "price": price, "images": images,
        "optimizer": optimizer, "latent_size": latent_size, "tokens": tokens,
    }  # fmt: skip
    run(name, profile, given, workspace().profile, as_json=as_json)


@app.command()
def doctor(as_json: AsJson = False) -> None:
    """Look at versions, disk, memory, processors, GPU, Ray and ports, and say how to mend what is wrong."""
    from dataclasses import asdict

    from orchestration.doctor import examine

    findings = list(examine(workspace()))
    print_rows([asdict(finding) for finding in findings], as_json=as_json, title="foundry doctor")
    if any(finding.state == "problem" for finding in findings):
        raise typer.Exit(1)


@app.command()
def sql(
    query: Annotated[str, typer.Argument(help="DuckDB SQL over all tables, each a view")],
    as_of: Annotated[
        str | None, typer.Option(help="read everything as it was at this ISO time (UTC)")
    ] = None,
    version: Annotated[
        list[str] | None,
        typer.Option(
            help="TABLE=VERSION: another version of one table, as `foundry versions` names it; repeat"
        ),
    ] = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Query all tables with DuckDB. `foundry sql "SHOW TABLES"` lists them."""
    from orchestration.sql import parse_versions
    from orchestration.sql import query as run_query

    columns, rows = run_query(open_store(data), query, as_of=as_of, versions=parse_versions(version or []))
    print_rows([dict(zip(columns, row, strict=True)) for row in rows], as_json=as_json)


@app.command()
def report(data: Data = None, as_json: AsJson = False) -> None:
    """Say where the HTML report is."""
    from orchestration.command.output import place_report
    from orchestration.resources.store import ManifestStore

    place = workspace(data)
    store = ManifestStore(place.store)
    manifest = store.require("report")
    path = place_report(store, place.root)
    print_rows(
        [{"report": str(path), "written": manifest.created_at, "digest": manifest.digest}], as_json=as_json
    )


def main() -> None:
    """Entry point: a user's mistake ends in one sentence and exit code 1, never in a traceback.

    Told to terminate, it stops as on Ctrl-C, so that no training goes on behind its back.
    """
    collect_seldom()
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        app()
    except FoundryError as error:
        errors.print(f"[red]error[/red] {escape(str(error))}", highlight=False, soft_wrap=True)
        sys.exit(1)
    except KeyboardInterrupt:
        errors.print("stopped; what was finished is kept, run it again to go on")
        sys.exit(130)


def _interrupt(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
