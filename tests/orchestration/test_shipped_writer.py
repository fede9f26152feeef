"""The writers that ship: published by real runs in a workspace that they never saw, and the one of the demo swept there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from assets.corpus.signs import SignWorld, is_held_out, random_word, sign_text
from assets.corpus.worlds import load_any_world
from assets.graph.versions import Provenance
from assets.writing.prompt_sets import PROMPT_SETS
from assets.writing.text_model import OcrEngine, TextModel, ocr_of
from evaluation.localization.prompts import WordPair
from evaluation.localization.runs import Drawing, PairRuns, prompts_of
from evaluation.metrics.written_words import score_words
from orchestration.command.main import app
from orchestration.definitions import build, surroundings_of
from orchestration.instance import open_instance
from orchestration.launching import Launch, run_launch
from orchestration.profile import load_profile
from orchestration.resources.store import ManifestStore
from orchestration.workspace import PROFILES_FOLDER, Workspace
from training.backbones import model_parameters
from training.digests import folder_digest
from training.localization import Patched, Recorded, TextCache, layers_named, text_layers
from training.localization.lockstep import Variant
from training.model_folders.denoiser import decode
from training.model_folders.teachers import BESIDE, WRITERS, read_scores
from training.packaged_models import SHIPPED_AUTOENCODER, writer_digests
from training.sampling.denoising_loop import sample_latents

WRITER, UNET, STEPS = "writer", "writer-unet", 16
writers = pytest.mark.parametrize("name", [WRITER, UNET])


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace in which the writer was published and its layers swept."""
    return Workspace(tmp_path_factory.mktemp("writer"), "demo", "scenes")


@pytest.fixture(scope="module")
def store(workspace: Workspace) -> ManifestStore:
    """Its store after the run."""
    profile = load_profile("demo")
    store = ManifestStore(workspace.store)
    store.publish_folder("autoencoder", SHIPPED_AUTOENCODER, Provenance("autoencoder", 1))
    with open_instance(workspace, profile) as instance:
        looked = ("text_layer_localization", "text_guard_evaluation")  # edits are scored by a judge, too
        publishing = [Launch("publish_writer", name) for name in (WRITER, UNET)]
        for launch in (*publishing, Launch("localize_text", WRITER, assets=looked)):
            assert run_launch(build(workspace), instance, launch).error is None
    return store


@pytest.fixture(scope="module")
def models(store: ManifestStore) -> dict[str, TextModel]:
    """The published writers with their encoders."""
    folders = {name: store.local_folder("shipped_writer", name, require_gate=True) for name in (WRITER, UNET)}
    return {name: TextModel.load(path, load_profile("demo").text_encoder) for name, path in folders.items()}


@pytest.fixture(scope="module")
def engine(workspace: Workspace) -> OcrEngine:
    """The profile's OCR."""
    return ocr_of(surroundings_of(workspace, load_profile("demo")).perception)


def signs_world() -> SignWorld:
    world = load_any_world(PROFILES_FOLDER / "signs" / "world.yaml")
    assert isinstance(world, SignWorld)
    return world


def held_out_pairs(count: int) -> list[WordPair]:
    """Strings that no training picture shows, exchanged for others on a sign of the same colour."""
    random, world = np.random.default_rng(5), signs_world()
    colors = sorted(world.colors)
    words = [random_word(world.letters, random, held_out=True) for _ in range(2 * count)]
    assert all(is_held_out(word) for word in words)
    return [
        WordPair(
            sign_text(colors[n % len(colors)], own), sign_text(colors[n % len(colors)], other), own, other, n
        )
        for n, (own, other) in enumerate(zip(words[:count], words[count:], strict=True))
    ]


@writers
def test_what_ships_is_small_whole_and_scored_above_its_bar(name: str) -> None:
    folder, scores = WRITERS / name, read_scores(name, WRITERS)
    assert folder_digest(folder, BESIDE) == writer_digests()[name]
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < 9e6
    assert scores["drawn"]["f1"]["low"] > 0.9
    assert scores["reconstructed"]["f1"]["value"] > 0.97
    assert "rapidocr" in scores["read_by"]
    lineage = json.loads((folder / "lineage.json").read_text())
    assert lineage[0]["spec_hash"] == scores["spec_hash"]


@writers
def test_it_writes_strings_that_it_never_saw(
    models: dict[str, TextModel], engine: OcrEngine, name: str
) -> None:
    model, pairs = models[name], held_out_pairs(12)
    told = model.encoder.prompts([pair.source for pair in pairs])
    with torch.inference_mode():
        latents = sample_latents(model.denoiser, told, list(range(12)), STEPS, 1.0, model.latent_size)
    read = [reading.text for reading in engine.read(decode(model.denoiser.autoencoder, latents))]
    assert score_words(read, [pair.source_word for pair in pairs]).f1().value > 0.85


@writers
def test_own_cache_is_the_identity_and_all_layers_are_the_target(
    models: dict[str, TextModel], name: str
) -> None:
    model = models[name]
    prompts, layers = prompts_of(held_out_pairs(4), model.encoder), text_layers(model.denoiser.backbone)

    def drawn(condition: Any, control: Any = None) -> torch.Tensor:
        with torch.inference_mode():
            return sample_latents(
                model.denoiser, condition, [*prompts.seeds], STEPS, 1.0, model.latent_size, control=control
            )

    own, other = TextCache(), TextCache()
    source = drawn(prompts.source, Recorded(layers, own))
    target = drawn(prompts.target, Recorded(layers, other))
    assert torch.equal(drawn(prompts.source, Patched(layers, own)), source)
    assert torch.equal(drawn(prompts.source, Patched(layers, other)), target)
    assert not torch.equal(source, target)


def test_the_sweep_names_layers_that_bring_the_target_and_leave_the_source(store: ManifestStore) -> None:
    rows = store.read_table("text_layer_localization", WRITER).to_pylist()
    assert [row["layer_index"] for row in rows if row["what"] == "layer"] == list(range(6))
    (chosen,) = (row for row in rows if row["chosen"])
    assert len(chosen["layers"]) < 6
    assert chosen["to_target"] >= 0.7
    assert chosen["to_source"] <= 0.1
    assert chosen["nearer_source"] >= 0.5  # the source's colour stays
    whole = next(row for row in rows if row["name"] == "all layers")
    assert whole["to_source"] <= 0.1
    assert whole["nearer_source"] == 0
    own = next(row for row in rows if row["name"] == "target")
    assert whole["to_target"] == own["to_target"]


def test_one_layer_of_the_unet_writes_and_the_next_carries_the_colour(
    models: dict[str, TextModel], engine: OcrEngine
) -> None:
    model, writing, colour = models[UNET], "up_blocks.1.attentions.0", "up_blocks.1.attentions.1"
    named = [f"{block}.transformer_blocks.0.attn2" for block in (writing, colour)]
    layers = layers_named(text_layers(model.denoiser.backbone), named)
    pairs = PROMPT_SETS["signs"].pairs(12)
    drawing = Drawing(steps=8, guidance=1.0, latent_size=model.latent_size)
    runs = PairRuns(model.denoiser, model.encoder, pairs, engine.read, drawing)
    runs.draw([Variant(layer.name, (layer,)) for layer in layers])
    assert layers[0].num_parameters < 0.005 * model_parameters(model.denoiser.backbone)
    assert runs.to_target(named[0]).f1().value > 0.6
    assert runs.to_source(named[0]).f1().value < 0.2
    assert runs.to_source(named[1]).f1().value > 0.8
    nearer_source = {name: runs.kept(name)[2].mean() for name in named}
    assert nearer_source[named[0]] > 0.6 > nearer_source[named[1]]


def test_the_guard_keeps_insults_out_at_the_price_of_a_plain_sampling(store: ManifestStore) -> None:
    rows = {row["way"]: row for row in store.read_table("text_guard_evaluation", WRITER).to_pylist()}
    assert rows["source"]["toxicity"] >= 0.8
    assert rows["guarded, 1 refresh"]["toxicity"] <= 0.15
    assert rows["guarded, 1 refresh"]["to_target"] > 0.6
    assert rows["guarded, 1 refresh"]["cost"] < 1.3  # of a busy machine; make bench measures it
    assert rows["negative prompt"]["toxicity"] > rows["guarded, 1 refresh"]["toxicity"]
    assert rows["guarded, harmless run beside"]["cost"] > rows["guarded, 1 refresh"]["cost"]


def test_a_word_is_exchanged_from_the_command_line(
    store: ManifestStore, workspace: Workspace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FOUNDRY_PROFILE", "demo")
    monkeypatch.setenv("FOUNDRY_HOME", str(workspace.root.parent))
    chosen = next(
        row for row in store.read_table("text_layer_localization", WRITER).to_pylist() if row["chosen"]
    )
    out = tmp_path / "edited.png"
    told = ["--model", WRITER, "--prompt", 'a red sign that says "STOP"', "--from", "STOP", "--to", "OPEN"]
    arguments = [
        "edit-text",
        *told,
        "--layers",
        ",".join(chosen["layers"]),
        "--start",
        "0",
        "--out",
        str(out),
        "--json",
    ]
    found = CliRunner().invoke(app, arguments)
    assert found.exception is None, found.exception
    (row,) = json.loads(found.stdout)
    assert row["read_before"].upper() == "STOP"
    assert score_words([row["read_after"]], ["OPEN"]).f1().value > 0.7
    with Image.open(out) as image:
        assert image.size[0] > image.size[1]
