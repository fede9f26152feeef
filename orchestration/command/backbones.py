"""Commands over the registry of backbones."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestration.command.arguments import AsJson
from orchestration.command.output import console, print_rows

if TYPE_CHECKING:
    from evaluation.analysis.backbone import Analysis

commands = typer.Typer()
Latent = Annotated[int | None, typer.Option(help="side of the latent; default the model's own")]


@commands.command()
def backbones(
    names: Annotated[
        list[str] | None, typer.Argument(help="registry names, such as SDXL-TD4_4; default all")
    ] = None,
    latent: Annotated[int, typer.Option(help="side of the latent for the multiply-adds; 32 is 256 px")] = 32,
    conditioning: Annotated[
        str,
        typer.Option(help="paper, or stock for the released SDXL's conditioning of the paper's SDXL rows"),
    ] = "paper",
    as_json: AsJson = False,
) -> None:
    """List every backbone: parameters, multiply-adds, attention's share, beside the figures that papers print."""
    from evaluation.analysis.sizes import checked_conditioning, size_rows

    rows = size_rows(names or [], latent, checked_conditioning(conditioning))
    if as_json:
        print_rows(rows, as_json=True)
        return
    print_rows(
        [_shown(row) for row in rows],
        as_json=False,
        title=f"backbones, one image of {latent} x {latent} latents and 77 tokens; multiply-adds in billions",
    )
    for row in rows:
        if row["remark"]:
            console.print(f"{row['name']}: {row['remark']}", highlight=False, markup=False, soft_wrap=True)


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    printed, agrees = row["printed"] or {}, row["agrees"] or {}
    wrong = [figure for figure, met in agrees.items() if not met]
    return {
        "name": row["name"],
        "family": row["family"],
        "parameters": row["params"],
        "of these a branch's": row["added_params"] or "",
        "GMACs": f"{row['macs'] / 1e9:,.2f}",
        "with QK, AV": f"{row['macs_with_attention'] / 1e9:,.2f}",
        "attention": f"{row['attention_share']:.1%}",
        "printed (B, G, G attention)": " / ".join(
            f"{value:g}" for value in printed.values() if value is not None
        ),
        "met": ("no: " + ", ".join(wrong) if wrong else "yes") if agrees else "",
    }


@commands.command()
def analyze(
    model: Annotated[str, typer.Argument(help="registry name, or folder of a diffusers pipeline")],
    latent: Latent = None,
    time: Annotated[bool, typer.Option("--time", help="also time forward passes; weights must fit")] = False,
    runs: Annotated[int, typer.Option(min=1, help="passes that are timed; medians are told")] = 5,
    threads: Annotated[int | None, typer.Option(min=1, help="torch threads; default torch's own")] = None,
    shards: Annotated[
        Path | None, typer.Option(help="training shards, to compare the blocks of a model folder on")
    ] = None,
    picture: Annotated[Path | None, typer.Option(help="PNG file to write")] = None,
    text_layers: Annotated[
        bool,
        typer.Option(
            "--text-layers", help="list the attentions that see text, in order of execution, instead"
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Say where a backbone's parameters, multiply-adds and milliseconds lie, and how alike its blocks are."""
    if text_layers:
        _show_text_layers(model, as_json=as_json)
        return
    from evaluation.analysis.backbone import analyze as run
    from evaluation.analysis.pictures import analysis_picture, part_rows, similarity_rows
    from training.run_folder import write_bytes_atomic

    found = run(model, shards=shards, latent=latent, runs=runs if time else 0, num_threads=threads)
    if picture is not None:
        write_bytes_atomic(picture, analysis_picture(found))
    if as_json:
        about: dict[str, Any] = {"name": found.name, "latent": found.latent, "num_tokens": found.num_tokens}
        about["undisturbed_milliseconds"] = _milliseconds(found)
        blocks = similarity_rows(found)
        print_rows([about | {"parts": part_rows(found), "blocks": blocks}], as_json=True)
        return
    _show_analysis(found)


def _show_text_layers(model: str, *, as_json: bool) -> None:
    from evaluation.analysis.text_layers import text_layer_rows

    rows = text_layer_rows(model)
    if not as_json:
        rows = [{**row, "share": f"{row['share']:.3%}"} for row in rows]
    print_rows(
        rows, as_json=as_json, title=f"{model}: layers through which pictures see text, in order of execution"
    )


def _show_analysis(found: Analysis) -> None:
    from evaluation.analysis.breakdown import totals
    from evaluation.analysis.pictures import similarity_rows, total_rows

    about = (
        f"{found.name}, one image of {found.latent} x {found.latent} latents and {found.num_tokens} tokens"
    )
    print_rows(total_rows(totals(found.cells, "stage")), as_json=False, title=f"{about}, by stage")
    print_rows(total_rows(totals(found.cells)), as_json=False, title="by kind of layer")
    milliseconds = _milliseconds(found)
    if milliseconds is not None:
        console.print(f"without the clock's hooks a pass took {milliseconds:.2f} ms", highlight=False)
    blocks = [{**row, "cka": row["cka"][0]} for row in similarity_rows(found)]
    if blocks:
        print_rows(blocks, as_json=False, title="blocks; cka is with the first")


def _milliseconds(found: Analysis) -> float | None:
    """Of a whole undisturbed pass, None where none was timed."""
    return None if found.undisturbed_nanoseconds is None else found.undisturbed_nanoseconds / 1e6
