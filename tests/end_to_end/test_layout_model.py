"""A layout model of the smoke demo, as the graph made it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import torch
from diffusers import DiffusionPipeline

from assets.layout.configs import FollowingConfig
from assets.layout.evaluation import TITLES
from assets.layout.measuring import measure_following
from assets.models.drawing import drawing_place, drawing_resources
from orchestration.definitions import surroundings_of
from orchestration.profile import load_profile
from orchestration.resources.store import ManifestStore
from orchestration.workspace import Workspace
from training.backbones.families import SD3
from training.layout.entities import Entity
from training.layout.folders import load_branch
from training.layout.shards import LayoutShards, placed_of
from training.layout.shipping import assemble_layout_model, base_of
from training.model_folders.denoiser import Denoiser, sample_with
from training.model_folders.parents import load_backbone
from training.model_folders.teachers import assemble_teacher
from training.sampling.layout import with_layout
from training.text_encoders import MiniLMEncoder

KEY, SHIPPED = "sd3-tiny-siam", "teacher-mmdit-layout"


def test_its_page_holds_every_way_of_drawing(store: ManifestStore) -> None:
    rows = store.read_table("layout_scores", KEY).to_pylist()
    assert [row["drawn"] for row in rows] == [
        "real", "reconstructed", "base", "told", "base_by_exchanged", "exchanged",
    ]  # fmt: skip
    assert {row["num_pictures"] for row in rows} == {4}
    assert all(0 <= row["in_box_low"] <= row["in_box"] <= row["in_box_high"] <= 1 for row in rows)
    assert rows[0]["in_box"] > 0.5  # the recogniser finds what real pictures show


def test_what_it_was_made_from_is_in_its_lineage(store: ManifestStore) -> None:
    manifest = store.require("layout_model", KEY, require_gate=True)
    inputs = manifest.provenance.inputs
    assert inputs["layout_shards"] == store.require("layout_shards").digest
    assert any("sd3-tiny" in name for name in inputs)
    layouts = LayoutShards.open(store.local_folder("layout_shards"), store.require("training_shards").digest)
    assert layouts.description.num_entities > 0


def test_the_branch_apart_makes_the_model_out_of_its_base(store: ManifestStore) -> None:
    model = store.local_folder("layout_model", KEY)
    parent = store.local_folder("backbone", "sd3-tiny")
    digest = store.require("backbone", "sd3-tiny").digest
    assert json.loads((model / "layout_branch" / "branch.json").read_text())["base_digest"] == digest
    again = load_branch(load_backbone(parent), model / "layout_branch", digest).state_dict()
    whole = load_backbone(model).state_dict()
    assert all(torch.equal(again[name], tensor) for name, tensor in whole.items())


def test_it_draws_with_a_layout_and_without_one_as_its_base(store: ManifestStore) -> None:
    model, parent = store.local_folder("layout_model", KEY), store.local_folder("backbone", "sd3-tiny")
    encoder = MiniLMEncoder()
    prompts = encoder.prompts(["a cat and a heart"])
    layout = placed_of([[Entity("a cat", (0.0, 0.2, 0.5, 0.8))]], encoder, 4, 1)
    base = sample_with(Denoiser.load(parent), prompts, [3], 3, 2.0)
    off = sample_with(Denoiser.load(model), with_layout(prompts, layout, 0.0), [3], 3, 2.0)
    on = sample_with(Denoiser.load(model), with_layout(prompts, layout), [3], 3, 2.0)
    assert np.array_equal(base, off)
    assert not np.array_equal(base, on)


def test_a_stock_pipeline_loads_it(store: ManifestStore) -> None:
    folder: Path = store.local_folder("layout_model", KEY)
    pipeline = DiffusionPipeline.from_pretrained(folder, **dict.fromkeys(SD3.pipeline.absent, None))
    assert type(pipeline.transformer).__name__ == "LayoutSD3Transformer2DModel"


def test_layout_models_are_measured_and_their_judge_is_judged(store: ManifestStore) -> None:
    rows = store.read_table("layout_evaluation").to_pylist()
    assert {(row["what"], row["recipe"]) for row in rows} == {("model", KEY)}  # nothing to hold beside it
    by_metric = {row["metric"]: row["value"] for row in rows}
    assert by_metric.keys() == set(TITLES)
    assert all(by_metric[name] <= by_metric["spatial"] for name in ("color", "texture", "shape"))
    pictures = store.read_table("layout_pictures", KEY)
    told = pictures.filter(pc.equal(pictures["drawn"], "told"))
    assert store.read_table("layout_answers", KEY).num_rows == sum(map(len, told["phrases"].to_pylist()))
    agreement = store.read_table("judge_agreement").to_pylist()
    assert all(row["accuracy"] > 0.8 for row in agreement if row["question"] == "spatial")


def test_the_shipped_branch_follows_boxes_in_a_workspace_that_it_never_saw(
    built: Workspace, store: ManifestStore, tmp_path: Path
) -> None:
    """Its teacher and the workspace share the shipped autoencoder and nothing else."""
    teacher = assemble_teacher(base_of(SHIPPED), store.local_folder("autoencoder"), tmp_path / "teacher")
    folder = assemble_layout_model(SHIPPED, teacher, tmp_path / "model")
    whole, base = load_backbone(folder).state_dict(), load_backbone(teacher).state_dict()
    assert all(torch.equal(whole[name], tensor) for name, tensor in base.items())
    around = surroundings_of(built, load_profile("smoke"))
    place = drawing_place(store, around.compute, drawing_resources(around.models.resources), lambda _: None)
    wanted = FollowingConfig(num_layouts=6, num_steps=6, guidance=3.0, strength=1.0)
    followed = measure_following(store, around.perception, place, folder, wanted, recipe=SHIPPED, digest="d")
    in_box = {row["drawn"]: row["in_box"] for row in followed.scores.to_pylist()}
    assert in_box["told"] >= in_box["base"] + 0.2
    assert in_box["exchanged"] >= in_box["base_by_exchanged"] + 0.2


def test_they_stand_in_the_table_of_all_models(store: ManifestStore) -> None:
    rows = store.read_table("model_scores").to_pylist()
    found = {(row["kind"], row["recipe"], row["metric"]) for row in rows if "layout" in row["kind"]}
    assert found == {("layout_model", KEY, metric) for metric in ("objects_in_box", "objects_follow_boxes")}
