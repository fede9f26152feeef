"""Models by path through the assets' own steps: a captioner, a detector and a describer from tiny checkpoints on disk.

The weights are random: this proves loading, wiring, keys and conversions, and says nothing about quality.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from assets.captions.recaption import select_captions
from assets.corpus.landing import land_group
from assets.derivation.deriving import refresh_table
from assets.derivation.inputs import samples_of
from assets.derivation.units import Derivation, Units
from assets.derivation.work_items import sample_work
from assets.entities.annotating import annotated_boxes, describe, detect
from assets.entities.selection import select_entities
from assets.graph.interfaces import Landing, PerceptionModel
from assets.graph.schemas import CURATED_IMAGES, ENTITY_PHRASES
from assets.graph.versions import Provenance
from evaluation.perception.roles import Role
from evaluation.tables.perception import CAPTIONS
from orchestration.perception_profile import PerceptionProfile
from orchestration.profile import load_profile
from orchestration.resources.compute import InlineCompute
from orchestration.resources.perception import ProfilePerception
from orchestration.resources.store import ManifestStore
from tests.assets.corpus.makers import picture, write_parquet
from tests.evaluation.perception.hub import checkpoints, finders

GROUP = "group-00"
MADE = Provenance("test", 1)


@pytest.fixture(scope="module")
def perception(tmp_path_factory: pytest.TempPathFactory) -> ProfilePerception:
    folder = tmp_path_factory.mktemp("checkpoints")
    captioner, detector = folder / "vlm", folder / "boxes"
    checkpoints.qwen2_vl(captioner)
    finders.owlv2(detector)
    short = {"max_new_tokens": 6}
    profile = PerceptionProfile(
        models={
            "embedded": {"family": "embedded"},
            "vlm": {
                "family": "qwen2_vl", "path": str(captioner), "num_candidates": 2,
                "decoding": {"mode": "sample", **short}, "seed": 3,
            },
            "describer": {"family": "qwen2_vl", "path": str(captioner), "decoding": short},
            "boxes": {"family": "owlv2", "path": str(detector), "box_threshold": 0.0},
        },
        captioner="vlm", describer="describer", detectors=("boxes",), masks=None,
    )  # fmt: skip
    return ProfilePerception(profile, load_profile("smoke").world_path, folder / "cache", 1)


@pytest.fixture
def store(tmp_path: Path) -> ManifestStore:
    """A store with five landed, curated images of different sizes and two phrases for each."""
    landing = Landing("mine", tmp_path / "landing", (GROUP,), tmp_path / "world.yaml", False)
    landing.folder.mkdir()
    rows = [{"image": picture(number, 40 + 8 * number, 48), "text": f"text {number}"} for number in range(5)]
    write_parquet(landing.folder / "a.parquet", [{**row, "split": "train"} for row in rows])
    store = ManifestStore(tmp_path / "store")
    landed, _ = land_group(landing, GROUP)
    store.write_table("landed_images", landed, MADE, GROUP)
    names = landed["sample_id"].to_pylist()
    curated = [
        {
            "sample_id": name, "image_id": name, "split": "train", "perceptual_hash": 0,
            "thumbnail": bytes(192), "keep": True, "dropped_because": "",
        }
        for name in names
    ]  # fmt: skip
    store.write_table("curated_images", pa.Table.from_pylist(curated, schema=CURATED_IMAGES), MADE, GROUP)
    phrases = [
        {
            "sample_id": name, "phrase_index": index, "phrase": phrase, "head": phrase, "start": 0, "end": 1,
            "model": "", "model_digest": "", "function_version": 1, "caption": "", "keep": True,
            "dropped_because": "",
        }
        for name in names
        for index, phrase in enumerate(("a dog", "a red ball"))
    ]  # fmt: skip
    store.write_table("entity_phrases", pa.Table.from_pylist(phrases, schema=ENTITY_PHRASES), MADE, GROUP)
    return store


def _model(perception: ProfilePerception, role: Role) -> PerceptionModel:
    model = perception.model(role)
    assert model is not None
    return model


def test_a_captioner_by_path_writes_candidates(perception: ProfilePerception, store: ManifestStore) -> None:
    model = _model(perception, "captioner")
    derivation = Derivation(
        "recaptions", "recaptions", model, "sample_id", CAPTIONS, ["sample_id", "caption_index"], 2
    )
    samples = samples_of(store, GROUP)
    units = Units(dict.fromkeys(samples, ""), lambda todo: sample_work(store, GROUP, model, todo))

    def refresh() -> tuple[pa.Table, dict[str, int]]:
        done = refresh_table(
            store, InlineCompute(), derivation, units, MADE, GROUP, print,
            select=lambda rows: select_captions(rows, 0.0, 2),
        )  # fmt: skip
        return done.table, done.counts

    table, counts = refresh()
    assert counts["units_computed"] == 5
    assert table["sample_id"].to_pylist() == sorted(samples * 2)
    row = table.to_pylist()[0]
    assert (row["model"], row["model_digest"], row["seed"]) == ("vlm", model.digest, 3)
    assert row["prompt"]
    assert '"sample"' in row["decoding"]
    again, counts = refresh()
    assert counts["units_computed"] == 0
    assert again.equals(table)


def test_boxes_and_descriptions_by_path(perception: ProfilePerception, store: ManifestStore) -> None:
    detector, describer = _model(perception, "detector"), _model(perception, "describer")
    found = detect(store, InlineCompute(), "boxes", detector, GROUP, print, retry_failed=False)
    boxes = annotated_boxes({"boxes": found})
    assert boxes.num_rows > 0
    assert set(boxes["phrase"].to_pylist()) <= {"a dog", "a red ball"}
    for x1, y1, x2, y2 in boxes["box_xyxy_norm"].to_pylist():
        assert 0 <= x1 <= x2 <= 1
        assert 0 <= y1 <= y2 <= 1
    selected = select_entities(boxes, min_score=0.0, min_area=0.0, max_overlap_iou=1.0, max_entities=2)
    kept = selected.filter(selected["keep"])
    assert 0 < kept.num_rows <= 10
    described = describe(store, InlineCompute(), describer, selected, MADE, GROUP, print, retry_failed=False)
    assert sorted(described.table["entity_id"].to_pylist()) == sorted(kept["entity_id"].to_pylist())
    assert set(described.table["model_digest"].to_pylist()) == {describer.digest}
