"""A layout model of the smoke demo, as the graph made it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from diffusers import DiffusionPipeline

from orchestration.resources.store import ManifestStore
from training.backbones.families import SD3
from training.layout.entities import Entity
from training.layout.folders import load_branch
from training.layout.shards import LayoutShards, placed_of
from training.model_folders.denoiser import Denoiser, sample_with
from training.model_folders.parents import load_backbone
from training.sampling.layout import with_layout
from training.text_encoders import MiniLMEncoder

KEY = "sd3-tiny-siam"


def test_its_page_holds_every_way_of_drawing(store: ManifestStore) -> None:
    rows = store.read_table("layout_scores", KEY).to_pylist()
    assert [row["drawn"] for row in rows] == ["real", "reconstructed", "base", "told", "exchanged"]
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
