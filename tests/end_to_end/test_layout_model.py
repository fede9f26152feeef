"""A layout model of the smoke demo, as the graph made it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from diffusers import DiffusionPipeline

from assets.layout.evaluation import TITLES
from orchestration.resources.store import ManifestStore
from training.backbones.families import SD3
from training.layout.entities import Entity
from training.layout.folders import load_branch
from training.layout.shards import LayoutShards, placed_of
from training.layout.shipping import base_of
from training.model_folders.denoiser import Denoiser, sample_with
from training.model_folders.parents import load_backbone
from training.packaged_models import layout_model_digests
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


def test_the_shipped_branch_is_grown_on_its_teacher_and_measured(store: ManifestStore) -> None:
    manifest = store.require("shipped_layout_model", SHIPPED, require_gate=True)
    assert manifest.provenance.config["shipped"] == layout_model_digests()[SHIPPED]
    base = base_of(SHIPPED)
    assert (
        manifest.provenance.inputs[f"teacher_backbone@{base}"]
        == store.require("teacher_backbone", base).digest
    )
    whole = load_backbone(store.local_folder("shipped_layout_model", SHIPPED)).state_dict()
    teacher = load_backbone(store.local_folder("teacher_backbone", base)).state_dict()
    assert all(torch.equal(whole[name], tensor) for name, tensor in teacher.items())
    pictures = store.read_table("layout_pictures", SHIPPED)
    assert set(pictures["drawn"].to_pylist()) == {"base", "told", "exchanged"}


def test_layout_models_are_held_side_by_side_and_their_judge_is_judged(store: ManifestStore) -> None:
    rows = store.read_table("layout_evaluation").to_pylist()
    assert {row["recipe"] for row in rows if row["what"] == "model"} == {KEY, SHIPPED}
    contrasts = [(row["recipe"], row["other"]) for row in rows if row["what"] == "contrast"]
    assert set(contrasts) == {(SHIPPED, KEY)}
    by_metric = {
        row["metric"]: row["value"] for row in rows if row["what"] == "model" and row["recipe"] == SHIPPED
    }
    assert by_metric.keys() == set(TITLES)
    assert all(by_metric[name] <= by_metric["spatial"] for name in ("color", "texture", "shape"))
    answers = store.read_table("layout_answers", SHIPPED)
    assert answers.num_rows == sum(
        map(len, store.read_table("layout_pictures", SHIPPED).slice(0, 4)["phrases"].to_pylist())
    )
    agreement = store.read_table("judge_agreement").to_pylist()
    assert all(row["accuracy"] > 0.8 for row in agreement if row["question"] == "spatial")


def test_they_stand_in_the_table_of_all_models(store: ManifestStore) -> None:
    rows = store.read_table("model_scores").to_pylist()
    found = {(row["kind"], row["recipe"], row["metric"]) for row in rows if "layout" in row["kind"]}
    assert found == {
        (kind, key, metric)
        for kind, key in (("layout_model", KEY), ("shipped_layout_model", SHIPPED))
        for metric in ("objects_in_box", "objects_follow_boxes")
    }
