"""Sweep, edits, guards and adapters of a tiny model by real runs, and what becomes of them: tables, scores, the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.compute as pc
import pytest

from assets.writing.localized import compare_loras
from assets.writing.scored import swept_models
from evaluation.metrics.asked_words import LOCATED_F1, WRITTEN_F1
from evaluation.metrics.metric import measured
from orchestration.resources.store import ManifestStore
from orchestration.text_models import located_by_model
from orchestration.workspace import Workspace
from tests.end_to_end.conftest import copy_of, foundry, runs_in
from training.adapters.lora import LORA_FILE

MODEL, LOCATED, EVERY = "sd3-tiny", "sd3-tiny-located", "sd3-tiny-all"


@pytest.fixture(scope="module")
def swept(built: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A copy in which the tiny model was swept and adapted twice."""
    workspace = copy_of(built, tmp_path_factory.mktemp("swept"))
    with runs_in(workspace) as runs:
        runs.launch("localize_text", MODEL)
        for key in (LOCATED, EVERY):
            runs.launch("train_localized_lora", key)
    return workspace


@pytest.fixture(scope="module")
def results(swept: Workspace) -> ManifestStore:
    return ManifestStore(swept.store)


def test_every_layer_has_a_row_and_the_chosen_ones_are_named(results: ManifestStore) -> None:
    rows = results.read_table("text_layer_localization", MODEL).to_pylist()
    assert {row["kind"] for row in rows} == {"backbone"}
    assert sum(row["chosen"] for row in rows) == 1
    chosen = next(row for row in rows if row["chosen"])
    assert located_by_model(results)[MODEL] == ", ".join(chosen["layers"])
    manifest = results.require("text_layer_localization", MODEL)
    assert f"backbone@{MODEL}" in manifest.provenance.inputs
    assert manifest.provenance.config["prompts"] == "simple"


def test_ways_of_editing_and_guarding_are_held_together(results: ManifestStore) -> None:
    edits = results.read_table("text_edit_evaluation", MODEL)
    guards = results.read_table("text_guard_evaluation", MODEL)
    assert edits["way"].to_pylist()[:2] == ["source", "patched from 0%"]
    assert pc.all(pc.greater(edits["seconds"], 0)).as_py()
    assert edits["image_text"].null_count == 0
    assert edits["toxicity"].null_count == edits.num_rows
    assert "safe guidance" in guards["way"].to_pylist()
    assert guards["toxicity"].null_count == 0
    assert guards["judged_by"][0].as_py().startswith("a list of")


def test_adapters_sit_on_the_located_layers_alone(results: ManifestStore) -> None:
    from safetensors.torch import load_file

    chosen = next(
        row for row in results.read_table("text_layer_localization", MODEL).to_pylist() if row["chosen"]
    )
    for key, recipe in ((LOCATED, "located"), (EVERY, "linear")):
        folder = results.local_folder("localized_lora", key, require_gate=True)
        (file,) = folder.rglob(LORA_FILE)
        names = {name.removeprefix("transformer.").split(".lora_")[0] for name in load_file(file)}
        on_located = {
            name for name in names if any(name.startswith(f"{layer}.") for layer in chosen["layers"])
        }
        assert on_located
        assert (names == on_located) == (recipe == "located")
        scores = results.read_table("localized_lora_scores", key)
        assert set(scores["targets"].to_pylist()) == {recipe}
        assert scores["trainable_parameters"][0].as_py() == sum(
            tensor.numel() for tensor in load_file(file).values()
        )
    inputs = results.require("localized_lora", LOCATED).provenance.inputs
    assert {f"backbone@{MODEL}", f"text_layer_localization@{MODEL}"} <= set(inputs)


def test_adapters_on_one_parent_are_held_together_by_prompt(results: ManifestStore) -> None:
    scores, contrasts = compare_loras(results)
    rows = contrasts.to_pylist()
    assert set(scores["recipe"].to_pylist()) == {LOCATED, EVERY}
    assert {row["metric"] for row in rows} >= {"written_f1", "image_text", "fidelity", "diversity"}
    assert {frozenset((row["targets"], row["other_targets"])) for row in rows} == {
        frozenset(("located", "linear"))
    }


def test_swept_models_have_scores_of_their_words(results: ManifestStore) -> None:
    (scored,) = swept_models(results)
    assert (scored.kind, scored.recipe) == ("backbone", MODEL)
    assert scored.takes(WRITTEN_F1)
    assert scored.takes(LOCATED_F1)
    found = measured(WRITTEN_F1, scored.evidence())
    assert 0 <= found.intervals["held_out"].value <= 1
    assert found.values.shape == (2, 2)


def test_the_command_line_edits_with_the_workspaces_model(swept: Workspace, tmp_path: Path) -> None:
    out = tmp_path / "edited.png"
    told = (
        "--prompt",
        'A sign that says "open".',
        "--from",
        "open",
        "--to",
        "shut",
        "--steps",
        "2",
        "--layers",
        "0",
    )
    done = foundry(swept, "edit-text", "--model", LOCATED, *told, "--out", str(out), "--json")
    assert done.code == 0, done.err
    (row,) = json.loads(done.out[done.out.index("[") :])
    assert row["layers"] == ["transformer_blocks.0.attn"]
    assert out.stat().st_size > 1000
