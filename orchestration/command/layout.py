"""``foundry layout``: draw what should stand where."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestration.command.arguments import AsJson, Data, workspace
from orchestration.command.output import console, print_rows
from training.errors import FoundryError

if TYPE_CHECKING:
    from training.layout.entities import Layout

commands = typer.Typer()


@commands.command()
def layout(
    model: Annotated[str, typer.Option(help="layout model of the workspace, or folder of such a model")],
    out: Annotated[Path, typer.Option(help="PNG to write: every picture, its boxes beside it")],
    caption: Annotated[str | None, typer.Option(help="what the whole picture shows")] = None,
    box: Annotated[
        list[str] | None, typer.Option(help="'a red car: 0.1,0.5,0.4,0.9'; once an entity")
    ] = None,
    layout_file: Annotated[
        Path | None, typer.Option("--layout", help="JSON of caption and entities instead, see docs/layout.md")
    ] = None,
    box_format: Annotated[str, typer.Option(help="of --box: xyxy, xywh or cxcywh")] = "xyxy",
    size: Annotated[
        str | None, typer.Option(help="WIDTHxHEIGHT of the picture, where --box is in pixels")
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="evaluations of the scheduler")] = 16,
    guidance: Annotated[float, typer.Option(min=1, help="away from no text and no layout, 1 is none")] = 3.0,
    strength: Annotated[float, typer.Option(min=0, help="of the branch, 0 is the base")] = 1.0,
    window: Annotated[
        float, typer.Option(min=0, max=1, help="share of the steps that are told the layout")
    ] = 1.0,
    seed: Annotated[int, typer.Option(min=0, help="of the first picture's noise; others count on")] = 0,
    num_images: Annotated[int, typer.Option(min=1, max=256, help="pictures, each from noise of its own")] = 1,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Draw a caption with every entity in its box, by a model of the asset layout_model."""
    from assets.layout.prompted import Asked, draw_prompted
    from orchestration.layout_models import layout_model_folder
    from orchestration.profile import load_profile
    from orchestration.resources.store import ManifestStore
    from training.run_folder import write_bytes_atomic

    told = _layout(caption, box or [], layout_file, box_format, size)
    place = workspace(data)
    asked = Asked(steps, guidance, strength, window, seed, num_images)
    folder = layout_model_folder(ManifestStore(place.store), model)
    drawn = draw_prompted(folder, told, load_profile(place.profile).text_encoder, asked)
    buffer = io.BytesIO()
    drawn.sheet(told).save(buffer, format="PNG")
    write_bytes_atomic(out, buffer.getvalue())
    row: dict[str, Any] = {
        "out": str(out), "model": str(folder), "images": len(drawn.images), "seeds": list(drawn.seeds), "steps": steps,
        "guidance": guidance, "strength": strength, "window": window, "seconds": round(drawn.seconds, 3),
    }  # fmt: skip
    if as_json:
        print_rows([{**row, "layout": told.as_json(), "cut_phrases": list(drawn.cut_phrases)}], as_json=True)
        return
    print_rows([row], as_json=False, title="foundry layout")
    for phrase in drawn.cut_phrases:
        console.print(
            f"'{phrase}' fills the text encoder; its end may be lost", highlight=False, markup=False
        )


def _layout(
    caption: str | None, boxes: list[str], path: Path | None, box_format: str, size: str | None
) -> Layout:
    from training.layout.entities import Layout, entity_of_text, read_layout

    if path is not None:
        if boxes or caption is not None:
            raise FoundryError("--layout has caption and boxes of its own; leave out --caption and --box")
        return read_layout(path)
    if caption is None or not boxes:
        raise FoundryError("nothing to draw: give --caption and at least one --box, or --layout FILE")
    size_px = None if size is None else _size(size)
    return Layout(caption, tuple(entity_of_text(text, box_format, size_px) for text in boxes))


def _size(text: str) -> tuple[float, float]:
    width, times, height = text.lower().partition("x")
    if not (times and width.isdigit() and height.isdigit()):
        raise FoundryError(f"--size is '{text}'; write WIDTHxHEIGHT, as in 640x480")
    return float(width), float(height)
