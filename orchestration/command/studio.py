"""``foundry studio``: a page on which boxes are drawn and a layout model paints."""

from __future__ import annotations

import contextlib
import importlib.util
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestration.command.arguments import Data, workspace
from orchestration.command.output import console
from orchestration.command.ports import require_free_port
from training.errors import FoundryError

if TYPE_CHECKING:
    from orchestration.resources.store import ManifestStore

commands = typer.Typer()


@commands.command()
def studio(
    model: Annotated[
        str | None, typer.Option(help="layout model of the workspace, or folder of one, that is chosen first")
    ] = None,
    port: Annotated[int, typer.Option(min=1024, max=65535)] = 8081,
    host: Annotated[
        str, typer.Option(help="address to serve on; whoever reaches another than 127.0.0.1 may draw")
    ] = "127.0.0.1",
    data: Data = None,
) -> None:
    """Serve a page to draw boxes, type phrases and generate, until Ctrl-C."""
    require_nicegui()
    require_free_port("foundry studio", host, port)
    from orchestration.layout_models import layout_model_folder
    from orchestration.profile import load_profile
    from orchestration.resources.store import ManifestStore
    from orchestration.studio.drawing import Artist, PipelineModel
    from orchestration.studio.page import Studio, serve

    place = workspace(data)
    store = ManifestStore(place.store)
    if model is not None:
        layout_model_folder(store, model)  # a mistake is told now rather than in the page
    artist = Artist(partial(PipelineModel, settings=load_profile(place.profile).text_encoder))
    names = partial(model_names, store, model)
    console.print(f"Serving {place.root} on http://{host}:{port}. Stop with Ctrl-C.")
    with tempfile.TemporaryDirectory(prefix="foundry-studio-") as pictures:
        shared = Studio(artist, names, partial(layout_model_folder, store), Path(pictures))
        with contextlib.suppress(KeyboardInterrupt):  # the server has ended in order and hands its signal on
            serve(shared, host, port)
    console.print("Stopped.")


def require_nicegui() -> None:
    """Raise FoundryError, naming the extra, where the library of the page is not installed."""
    if importlib.util.find_spec("nicegui") is None:
        raise FoundryError(
            "foundry studio needs nicegui, which is not installed; run: pip install 't2i-foundry[studio]'"
        )


def model_names(store: ManifestStore, first: str | None = None) -> list[str]:
    """What the page offers: ``first``, where one was named, and every stored model that passed its gate."""
    from orchestration.layout_models import stored_layout_models

    stored = [model.key for model in stored_layout_models(store, usable=True)]
    return list(dict.fromkeys([*([first] if first else []), *stored]))
