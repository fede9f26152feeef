"""The writer that ships: published and swept by a real run, in a workspace that it never saw."""

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
from assets.writing.text_model import OcrEngine, TextModel, ocr_of
from evaluation.localization.prompts import WordPair
from evaluation.localization.runs import prompts_of
from evaluation.metrics.written_words import score_words
from orchestration.command.main import app
from orchestration.definitions import build, surroundings_of
from orchestration.instance import open_instance
from orchestration.launching import Launch, run_launch
from orchestration.profile import load_profile
from orchestration.resources.store import ManifestStore
from orchestration.workspace import PROFILES_FOLDER, Workspace
from training.digests import folder_digest
from training.localization import Patched, Recorded, TextCache, text_layers
from training.model_folders.denoiser import decode
from training.model_folders.teachers import BESIDE, WRITERS, read_scores
from training.packaged_models import SHIPPED_AUTOENCODER, writer_digests
from training.sampling.denoising_loop import sample_latents

WRITER, STEPS = "writer", 16
pytestmark = pytest.mark.skipif(WRITER not in writer_digests(), reason="no writer ships yet")


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
        for launch in (Launch("publish_writer", WRITER), Launch("localize_text", WRITER, assets=looked)):
            assert run_launch(build(workspace), instance, launch).error is None
    return store


@pytest.fixture(scope="module")
def model(store: ManifestStore) -> TextModel:
    """The published writer with its encoder."""
    return TextModel.load(
        store.local_folder("shipped_writer", WRITER, require_gate=True), load_profile("demo").text_encoder
    )


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


def test_what_ships_is_small_whole_and_scored_above_its_bar() -> None:
    folder, scores = WRITERS / WRITER, read_scores(WRITER, WRITERS)
    assert folder_digest(folder, BESIDE) == writer_digests()[WRITER]
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < 9e6
    assert scores["drawn"]["f1"]["low"] > 0.9
    assert scores["reconstructed"]["f1"]["value"] > 0.97
    assert "rapidocr" in scores["read_by"]
    lineage = json.loads((folder / "lineage.json").read_text())
    assert lineage[0]["spec_hash"] == scores["spec_hash"]


def test_it_writes_strings_that_it_never_saw(model: TextModel, engine: OcrEngine) -> None:
    pairs = held_out_pairs(12)
    told = model.encoder.prompts([pair.source for pair in pairs])
    with torch.inference_mode():
        latents = sample_latents(model.denoiser, told, list(range(12)), STEPS, 1.0, model.latent_size)
    read = [reading.text for reading in engine.read(decode(model.denoiser.autoencoder, latents))]
    assert score_words(read, [pair.source_word for pair in pairs]).f1().value > 0.85


def test_own_cache_is_the_identity_and_all_layers_are_the_target(model: TextModel) -> None:
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
