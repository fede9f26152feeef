"""Commands about text in pictures: which layers write, and other words by them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestration.command.arguments import AsJson, Data, open_store, workspace
from orchestration.command.output import console, print_rows
from training.errors import FoundryError

if TYPE_CHECKING:
    from assets.writing.text_model import OcrEngine, TextModel
    from evaluation.localization.prompts import WordPair
    from evaluation.localization.sweep import Localization
    from orchestration.perception_profile import PerceptionProfile

commands = typer.Typer()
Model = Annotated[str, typer.Argument(help="model of the workspace, or folder of a diffusers pipeline")]
Steps = Annotated[int, typer.Option(min=1, help="evaluations of the scheduler")]
Guidance = Annotated[float, typer.Option(min=0, help="away from the empty text, 1 is none")]
Start = Annotated[
    float, typer.Option(min=0, max=1, help="share of the steps before the first that is patched")
]
Ocr = Annotated[
    str | None, typer.Option(help="engine that reads: rapidocr, tesseract or easyocr; default the profile's")
]


@commands.command()
def localize(
    model: Model,
    pairs: Annotated[
        Path | None, typer.Option(help="JSON list of source and target prompts, see docs/text.md")
    ] = None,
    num_pairs: Annotated[
        int, typer.Option(min=2, help="pairs of our own words, where no file is given")
    ] = 16,
    prompts: Annotated[
        str | None,
        typer.Option(
            help="our own prompts: simple, creative, signs, or plates; default what the model was trained on, else simple"
        ),
    ] = None,
    template: Annotated[
        str | None, typer.Option(help="a prompt of yours instead, {word} where the word stands")
    ] = None,
    rows_at_once: Annotated[
        int,
        typer.Option(min=3, help="pictures of one forward pass: fewer take less memory, 3 a pair at least"),
    ] = 256,
    steps: Steps = 16,
    guidance: Guidance = 1.0,
    start: Start = 0.0,
    ocr: Ocr = None,
    out: Annotated[Path | None, typer.Option(help="folder that takes the chart and the sheet")] = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Find the layers that write: patch each with another word's keys and values and read what comes out."""
    from assets.writing.localizing import localize_model
    from evaluation.localization.rows import localization_table
    from evaluation.localization.sweep import SweepSettings
    from training.sampling.control import Window

    _check_prompts(pairs, prompts, template)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
    folder, loaded, engine = _loaded(model, ocr, data)
    chosen = _pairs(loaded, pairs, prompts, template, num_pairs)
    settings = SweepSettings(steps=steps, guidance=guidance, window=Window(start), rows_at_once=rows_at_once)
    found = localize_model(loaded, engine, settings, chosen)
    if out is not None:
        _write_pictures(found, folder.name, out)
    about = {"recipe": "", "kind": "", "model": model, "model_digest": ""}
    rows = localization_table(found, settings, engine.name, about).to_pylist()
    if as_json:
        about_chosen = {"layers": list(found.chosen.layers), "share": found.share, "why": found.why}
        print_rows(
            [{"model": str(folder), "chosen": about_chosen, "chance": found.chance.value, "rows": rows}],
            as_json=True,
        )
        return
    print_rows(
        [_short(row) for row in rows],
        as_json=False,
        title=f"Which layers of {folder.name} write, by {engine.name}",
    )
    console.print(
        f"chosen: {', '.join(found.chosen.layers)} ({found.share:.2%} of the parameters): {found.why}",
        highlight=False,
    )


def _write_pictures(found: Localization, name: str, out: Path) -> None:
    """The chart and the sheet, full on disk."""
    from evaluation.localization.pictures import localization_plot, localization_sheet
    from training.run_folder import write_bytes_atomic

    sheet = io.BytesIO()
    localization_sheet(found).save(sheet, format="PNG")
    write_bytes_atomic(out / "layers.png", localization_plot(found, f"Which layers of {name} write"))
    write_bytes_atomic(out / "pictures.png", sheet.getvalue())


def _check_prompts(pairs: Path | None, prompts: str | None, template: str | None) -> None:
    """One way to say what is asked, before a model is loaded."""
    from assets.writing.prompt_sets import PROMPT_SETS
    from evaluation.localization.prompts import read_pairs
    from training.recipes.validation import nearest

    if sum(given is not None for given in (pairs, prompts, template)) > 1:
        raise FoundryError("--pairs, --prompts and --template each say what is asked; give one of them")
    if prompts is not None and prompts not in PROMPT_SETS:
        raise FoundryError(f"--prompts is '{prompts}'; {nearest(prompts, list(PROMPT_SETS))}")
    if template is not None and "{word}" not in template:
        raise FoundryError(f"--template is '{template}'; write {{word}} where the word stands")
    if pairs is not None:
        read_pairs(pairs)


def _pairs(
    model: TextModel, pairs: Path | None, prompts: str | None, template: str | None, count: int
) -> list[WordPair]:
    from assets.writing.localizing import prompts_for
    from assets.writing.prompt_sets import PROMPT_SETS
    from evaluation.localization.prompts import pairs_of_words, read_pairs
    from evaluation.localization.word_lists import words_for_pairs

    if pairs is not None:
        return read_pairs(pairs)
    if template is not None:
        return pairs_of_words(template, words_for_pairs(count))
    named = next((name for name in PROMPT_SETS if name == prompts), prompts_for(model))
    return PROMPT_SETS[named].pairs(count)


def _short(row: dict[str, Any]) -> dict[str, Any]:
    """A row for a terminal."""
    numbered = row["layer_index"]
    return {
        "": f"{numbered}" if numbered is not None else row["what"],
        "patched": row["name"],
        "share": f"{row['share']:.2%}",
        "F1 target": f"{row['to_target']:.3f} ({row['to_target_low']:.2f} to {row['to_target_high']:.2f})",
        "F1 source": f"{row['to_source']:.3f}",
        "SSIM": f"{row['ssim']:.3f}",
        "PSNR": f"{row['psnr_db']:.1f}",
        "nearer source": f"{row['nearer_source']:.2f}",
        "chosen": "yes" if row["chosen"] else "",
    }


@commands.command("edit-text")
def edit_text(
    model: Annotated[str, typer.Option(help="model of the workspace, or folder of a diffusers pipeline")],
    prompt: Annotated[str, typer.Option(help="what the picture shows, with the word that it says")],
    word: Annotated[str, typer.Option("--from", help="word of the prompt that is exchanged")],
    other: Annotated[str, typer.Option("--to", help="word that stands in its place")],
    out: Annotated[Path, typer.Option(help="PNG to write: before and after side by side")],
    layers: Annotated[
        str | None,
        typer.Option(
            help="layers that write, by module or number, with commas; found by a sweep if left out"
        ),
    ] = None,
    start: Start = 0.2,
    steps: Steps = 16,
    guidance: Guidance = 1.0,
    seed: Annotated[int, typer.Option(min=0, help="of the noise")] = 0,
    ocr: Ocr = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Exchange a word in a picture that a model draws, by the layers that write; all else stays as it was."""
    from assets.writing.editing import edit_word
    from evaluation.localization.sweep import SweepSettings
    from training.run_folder import write_bytes_atomic
    from training.sampling.control import Window

    out.parent.mkdir(parents=True, exist_ok=True)
    folder, loaded, engine = _loaded(model, ocr, data)
    settings = SweepSettings(steps=steps, guidance=guidance, window=Window(start))
    named = None if layers is None else [name.strip() for name in layers.split(",") if name.strip()]
    edited = edit_word(loaded, engine, prompt, (word, other), seed, settings, named)
    buffer = io.BytesIO()
    edited.sheet().save(buffer, format="PNG")
    write_bytes_atomic(out, buffer.getvalue())
    print_rows(
        [{"out": str(out), "model": str(folder), **edited.row()}], as_json=as_json, title="foundry edit-text"
    )


def _loaded(model: str, ocr: str | None, data: str | None) -> tuple[Path, TextModel, OcrEngine]:
    from assets.writing.text_model import ocr_of
    from orchestration.judging import perception_of
    from orchestration.profile import load_profile
    from orchestration.text_models import load_text_model, text_model_folder

    place = workspace(data)
    profile = load_profile(place.profile)
    store = open_store(data)
    folder = text_model_folder(store, model)
    engine = ocr_of(perception_of(place, _with_engine(profile.perception, ocr)))
    return folder, load_text_model(store, model, profile.text_encoder), engine


def _with_engine(section: PerceptionProfile, ocr: str | None) -> PerceptionProfile:
    """The profile's section, with another engine where one is named."""
    from evaluation.perception.ocr.model import ENGINES
    from training.recipes.validation import nearest

    if ocr is None:
        return section
    if ocr not in ENGINES:
        raise FoundryError(f"--ocr is '{ocr}'; {nearest(ocr, list(ENGINES))}")
    return section.model_copy(update={"models": {**section.models, ocr: {"family": ocr}}, "ocr": ocr})
