"""Quality figures of a small store whose annotations are made from the truth, so that every figure is known."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from PIL import Image

from assets.corpus.composing import build_scenes
from assets.corpus.image_io import encode_png
from assets.corpus.scenes import load_world
from assets.entities.quality import Known, captioned_sample, drawn_attributes, quality_table
from assets.entities.quality_figure import quality_figure
from assets.graph.schemas import SCENE_TRUTH
from assets.graph.versions import Provenance
from assets.pages.measures import MEASURES
from evaluation.metrics.grouped_counts import NUMBERS_OF_OBJECTS
from orchestration.resources.store import ManifestStore
from tests.assets.corpus.makers import PROFILES
from training.model_folders.contrastive import WordVocabulary, build_clip, model_config, save_contrastive
from training.recipes.contrastive import ContrastiveOptions

MADE = Provenance("test", 1)
WORLD = load_world(PROFILES / "teacher" / "world.yaml")
DRAWINGS = WORLD.drawings
KNOWN = Known(DRAWINGS, [concept.name for concept in WORLD.held_out_concepts])
NUM_SCENES = 24
MODEL = {"model": "test", "model_digest": "", "function_version": 1}


def _scenes() -> list[dict[str, Any]]:
    rows = []
    for split in ("train", "held_out_concepts"):
        for scene in build_scenes(WORLD, split, NUM_SCENES, 3):
            row = {
                "sample_id": f"{split}-{scene.key}",
                "split": split,
                "image": encode_png(scene.image),
                "alt_text": scene.alt_text,
                "source": "scenes",
                "key": scene.key,
                "objects": [
                    vars(item) | {"box_xyxy_norm": list(item.box_xyxy_norm)} for item in scene.objects
                ],
                "word": scene.word,
                "word_box_xyxy_norm": list(scene.word_box_xyxy_norm) if scene.word_box_xyxy_norm else None,
                "background": scene.background,
                "visible_masks_rle": list(scene.visible_masks_rle),
                "mask_size": list(scene.mask_size),
            }
            rows.append(row)
    return rows


def _boxes(scene: dict[str, Any], annotator: str, limit: int) -> list[dict[str, Any]]:
    return [
        {
            "sample_id": scene["sample_id"],
            "annotator": annotator,
            "phrase": f"a {item['name']}",
            "description": "{color} and {shape}".format(**_drawn(item)),
            "box_xyxy_norm": item["box_xyxy_norm"],
            "keep": True,
            **MODEL,
        }
        for item in scene["objects"][:limit]
    ]


DRAWN = drawn_attributes(DRAWINGS)


def _drawn(item: dict[str, Any]) -> dict[str, str]:
    return DRAWN.get(f"{item['name']}/{item['color']}") or DRAWN[item["name"]]


def _fill(store: ManifestStore, scenes: list[dict[str, Any]]) -> None:
    landed = pa.Table.from_pylist(scenes).select(["sample_id", "split", "image", "alt_text"])
    for index in range(2):
        store.write_table(
            "landed_images", landed.slice(index * NUM_SCENES, NUM_SCENES), MADE, f"group-{index}"
        )
    regions, recaptions = [], []
    for scene in scenes:
        names = [item["name"] for item in scene["objects"]]
        regions += [
            {"sample_id": scene["sample_id"], "region_index": index, "names": [item["name"]], "text": ""}
            | {"box_xyxy_norm": item["box_xyxy_norm"], "background_color": scene["background"], **MODEL}
            for index, item in enumerate(scene["objects"])
        ]
        recaptions += [
            {"sample_id": scene["sample_id"], "caption": f"a {' and a '.join(names)}", "keep": True, **MODEL},
            {"sample_id": scene["sample_id"], "caption": "a zeppelin", "keep": False, **MODEL},
        ]
    exact = [row for scene in scenes for row in _boxes(scene, "exact", 9)]
    lazy = [row for scene in scenes for row in _boxes(scene, "lazy", 1)]
    dropped = [{**row, "phrase": "nonsense", "keep": False} for row in exact]
    tables = {
        "regions": regions,
        "recaptions": recaptions,
        "entity_boxes": exact + lazy,
        "entity_annotations": exact + dropped,
    }
    for name, rows in tables.items():
        store.write_table(name, pa.Table.from_pylist(rows), MADE)


@pytest.fixture(scope="module")
def scenes() -> list[dict[str, Any]]:
    return _scenes()


@pytest.fixture
def store(tmp_path: Path, scenes: list[dict[str, Any]]) -> ManifestStore:
    made = ManifestStore(tmp_path / "store")
    _fill(made, scenes)
    return made


def _by_key(table: pa.Table) -> dict[tuple[str, str, str], dict[str, Any]]:
    return {(row["measure"], row["subject"], row["split"]): row for row in table.to_pylist()}


def _write_truth(store: ManifestStore, scenes: list[dict[str, Any]]) -> None:
    table = pa.Table.from_pylist(
        [{**scene, "sample_id": scene["sample_id"]} for scene in scenes], SCENE_TRUTH
    )
    store.write_table("scene_truth", table, MADE)


def test_annotations_made_from_the_truth_are_right_throughout(
    store: ManifestStore, scenes: list[dict[str, Any]]
) -> None:
    _write_truth(store, scenes)
    table = quality_table(store, KNOWN, None, resamples=50)
    assert table.schema.equals(MEASURES, check_metadata=True)
    rows = _by_key(table)
    for group in ("all", "training_concepts", "held_out_concepts", *NUMBERS_OF_OBJECTS):
        for measure in (
            "object_recall",
            "box_recall",
            "named_box_precision",
            "color_accuracy",
            "shape_accuracy",
        ):
            assert rows[measure, "entity_annotations", group]["value"] == 1.0, (measure, group)
        assert rows["mention_precision", "recaptions", group]["value"] == 1.0
    assert rows["texture_accuracy", "entity_annotations", "all"]["value"] is None  # no description names one
    chance = rows["object_recall", "entity_annotations", "all"]["chance"]
    assert 0.0 <= chance < 0.4
    numbers = [rows["box_recall", "entity_boxes of lazy", group]["value"] for group in NUMBERS_OF_OBJECTS]
    assert numbers == pytest.approx([1.0, 1 / 2, 1 / 3, 1 / 4])
    assert rows["agreement_label", "exact and lazy", "all"]["value"] == 1.0
    num_objects = sum(len(scene["objects"]) for scene in scenes)
    expected = 2 * len(scenes) / (len(scenes) + num_objects)
    assert rows["agreement_box_f1", "exact and lazy", "all"]["value"] == pytest.approx(expected)
    png = quality_figure(table)
    assert png is not None
    assert Image.open(io.BytesIO(png)).width > 800


def test_without_truth_and_judge_figures_are_unknown(store: ManifestStore) -> None:
    rows = _by_key(quality_table(store, KNOWN, None))
    assert rows["against the truth", "", "all"]["value"] is None
    assert rows["judge_cosine", "", "all"]["value"] is None
    assert ("agreement_box_f1", "exact and lazy", "all") in rows  # needs no truth
    assert quality_figure(pa.Table.from_pylist(list(rows.values()), MEASURES)) is None


def test_the_judge_scores_the_same_images_twice(store: ManifestStore, tmp_path: Path) -> None:
    vocabulary = WordVocabulary.of(["a apple and a dog"])
    options = ContrastiveOptions(embed_dim=16, image_width=8, text_width=16, text_layers=1, text_heads=2)
    config = model_config(options, 64, vocabulary.size)
    save_contrastive(tmp_path / "judge", build_clip(config, seed=0), config, vocabulary)
    rows = _by_key(quality_table(store, KNOWN, tmp_path / "judge", images_per_split=10))
    for split in ("train", "held_out_concepts"):
        alt, new = (rows["judge_cosine", subject, split] for subject in ("alt-texts", "recaptions"))
        difference = rows["judge_cosine_difference", "recaptions less alt-texts", split]
        assert (alt["num_items"], new["num_items"]) == (10, 10)
        assert difference["value"] == pytest.approx(new["value"] - alt["value"], abs=1e-6)
    assert ("judge_cosine", "recaptions", "held_out_images") not in rows


def test_the_judges_sample_is_bounded_and_has_kept_captions_alone(store: ManifestStore) -> None:
    chosen = captioned_sample(store, "train", 5)
    assert chosen["sample_id"].to_pylist() == sorted(chosen["sample_id"].to_pylist())
    assert chosen.num_rows == 5
    assert all(
        len(captions) == 1 and "zeppelin" not in captions[0]
        for captions in chosen["caption_list"].to_pylist()
    )
    assert captioned_sample(store, "judge", 5).num_rows == 0


def test_attributes_of_drawings_are_words_that_measurements_give() -> None:
    assert drawn_attributes({"apple": "red apple"})["apple"]["color"] == "red"
    assert len({tuple(found.values()) for found in DRAWN.values()}) > 10


def test_modules_that_dagster_loads_are_light() -> None:
    modules = (
        "assets.pages.measures",
        "assets.captions.duplicates",
        "assets.captions.plots",
        "assets.captions.sheets",
        "assets.captions.statistics",
        "assets.corpus.fluent_art",
        "assets.entities.quality",
        "assets.entities.quality_figure",
        "assets.evaluation.judge_scores",
        "evaluation.perception.downloads",
        "evaluation.perception.networks.nanodet",
    )
    heavy = (
        "torch",
        "diffusers",
        "transformers",
        "duckdb",
        "ray",
        "matplotlib",
        "scipy",
        "cv2",
        "onnxruntime",
    )
    code = f"import sys, {', '.join(modules)}; print([name for name in {heavy} if name in sys.modules])"
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert found.stdout.strip() == "[]"
