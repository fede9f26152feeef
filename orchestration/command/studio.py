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
    from orchestration.profile import Profile
    from orchestration.resources.store import ManifestStore
    from orchestration.studio.editing import Writer
    from orchestration.workspace import Workspace

commands = typer.Typer()


@commands.command()
def studio(
    model: Annotated[
        str | None, typer.Option(help="layout model of the workspace, or folder of one, that is chosen first")
    ] = None,
    text_model: Annotated[
        str | None,
        typer.Option(help="model that writes, or folder of one, that is offered first in the tab of words"),
    ] = None,
    port: Annotated[int, typer.Option(min=1024, max=65535)] = 8081,
    host: Annotated[
        str, typer.Option(help="address to serve on; whoever reaches another than 127.0.0.1 may draw")
    ] = "127.0.0.1",
    data: Data = None,
) -> None:
    """Serve a page to draw boxes and generate, and to exchange words in pictures, until Ctrl-C."""
    require_nicegui()
    require_free_port("foundry studio", host, port)
    from orchestration.layout_models import layout_model_folder
    from orchestration.profile import load_profile
    from orchestration.resources.store import ManifestStore
    from orchestration.studio.drawing import Artist, PipelineModel
    from orchestration.studio.editing import Editor
    from orchestration.studio.page import Studio, serve
    from orchestration.studio.text_panel import TextStudio
    from orchestration.studio.worker import Worker
    from orchestration.text_models import text_model_folder

    place = workspace(data)
    store = ManifestStore(place.store)
    if model is not None:
        layout_model_folder(store, model)  # a mistake is told now rather than in the page
    if text_model is not None:
        text_model_folder(store, text_model)
    worker, profile = Worker(), load_profile(place.profile)
    artist = Artist(partial(PipelineModel, settings=profile.text_encoder), worker)
    text = TextStudio(
        Editor(partial(_writer, place, store, profile), worker), partial(_writers, store, text_model)
    )
    names = partial(model_names, store, model)
    console.print(f"Serving {place.root} on http://{host}:{port}. Stop with Ctrl-C.")
    with tempfile.TemporaryDirectory(prefix="foundry-studio-") as pictures:
        shared = Studio(artist, names, partial(layout_model_folder, store), Path(pictures), text)
        with contextlib.suppress(KeyboardInterrupt):  # the server has ended in order and hands its signal on
            serve(shared, host, port)
    console.print("Stopped.")


def _writer(place: Workspace, store: ManifestStore, profile: Profile, name: str) -> Writer:
    """A model that writes by its name, with the profile's OCR."""
    from assets.writing.text_model import ocr_of
    from orchestration.judging import perception_of
    from orchestration.studio.editing import LoadedWriter
    from orchestration.text_models import load_text_model

    engine = ocr_of(perception_of(place, profile.perception))
    return LoadedWriter(load_text_model(store, name, profile.text_encoder), engine)


def _writers(store: ManifestStore, first: str | None) -> dict[str, str]:
    from orchestration.text_models import located_by_model

    found = located_by_model(store)
    return {**({first: found.get(first, "")} if first else {}), **found}


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
