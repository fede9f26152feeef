"""Commands over the registry of backbones."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from orchestration.command.arguments import AsJson
from orchestration.command.output import console, print_rows

commands = typer.Typer()


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
        "GMACs": f"{row['macs'] / 1e9:,.2f}",
        "with QK, AV": f"{row['macs_with_attention'] / 1e9:,.2f}",
        "attention": f"{row['attention_share']:.1%}",
        "printed (B, G, G attention)": " / ".join(
            f"{value:g}" for value in printed.values() if value is not None
        ),
        "met": ("no: " + ", ".join(wrong) if wrong else "yes") if agrees else "",
    }
