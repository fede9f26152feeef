"""Published LayoutSAM files become a source: captions as alt-texts, entities beside the shards."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from assets.corpus.importing import import_source
from assets.corpus.landing import land_shard, list_shards, read_quarantine
from assets.corpus.published import ANNOTATIONS_FILE, as_entity_boxes, read_published_annotations
from assets.entities.formats import layoutsam, layoutsam_eval
from assets.graph.schemas import ENTITY_BOXES
from tests.assets.entities.formats.makers import STRANGE, image_bytes, records
from training.errors import FoundryError


def _landed(folder: Path) -> list[dict[str, object]]:
    shards = [shard for shard in list_shards(folder) if shard.format == "parquet"]
    return [row for shard in shards for row in land_shard(shard, "sam").images.to_pylist()]


def test_the_evaluation_set_lands_with_its_entities(tmp_path: Path) -> None:
    made = records()
    layoutsam_eval.write_layoutsam_eval(tmp_path / "in", iter(made))
    report = import_source(tmp_path / "in", "sam", tmp_path / "landing")
    assert (report.layout, report.num_samples, report.quarantined) == ("layoutsam-eval", 5, {})
    landed = {str(row["image_id"]): row for row in _landed(report.folder)}
    assert {row["split"] for row in landed.values()} == {"held_out_images"}
    assert {row["alt_text"] for row in landed.values()} == {record.global_caption for record in made}
    annotations = read_published_annotations(report.folder)
    assert annotations.num_rows == 8
    first = next(row for row in landed.values() if str(row["alt_text"]).startswith("caption 0"))
    rows = [row for row in annotations.to_pylist() if row["sample_id"] == first["sample_id"]]
    assert [row["phrase"] for row in rows] == ["red apple", STRANGE]
    assert [row["entity_index"] for row in rows] == [0, 1]
    assert rows[0]["box_xyxy_norm"] == [0.125, 0.125, 0.625, 0.625]
    again = import_source(tmp_path / "in", "sam", tmp_path / "landing")
    assert not again.changed


def test_the_training_set_lands_and_absent_images_are_set_aside(tmp_path: Path) -> None:
    source = tmp_path / "in"
    layoutsam.write_layoutsam(source, iter(records()))
    absent = next(iter(sorted((source / "images").rglob("*.png"))))
    absent.unlink()
    report = import_source(source, "sam", tmp_path / "landing")
    assert (report.layout, report.num_samples, report.quarantined) == ("layoutsam", 4, {"no_image": 1})
    (row,) = read_quarantine(report.folder).to_pylist()
    assert absent.name in row["detail"]
    assert row["shard"] == "data/train-00000-of-00001.parquet"
    assert read_published_annotations(report.folder).num_rows == 6


def test_images_may_lie_behind_a_link(tmp_path: Path) -> None:
    source = tmp_path / "in"
    layoutsam.write_layoutsam(source, iter(records(2)))
    (source / "images").rename(tmp_path / "SA-1B")
    (source / "images").symlink_to(tmp_path / "SA-1B")
    assert import_source(source, "sam", tmp_path / "landing").num_samples == 2


def test_rows_with_impossible_boxes_are_set_aside_and_the_rest_goes_on(tmp_path: Path) -> None:
    source = tmp_path / "in"
    (source / "sa_000001").mkdir(parents=True)
    lines = []
    for number, box in enumerate(([0, 0, 24, 16], [0, 0, 240, 16], [24, 0, 0, 16])):
        (source / "sa_000001" / f"sa_{number}.png").write_bytes(image_bytes(seed=number))
        info = {"height": 32, "width": 48, "file_name": f"sa_{number}.png"}
        entity = {"bbox": box, "description": "tree", "detail_description": None}
        metadata = {"global_caption": "a tree", "image_info": info, "bbox_info": [entity]}
        lines.append(json.dumps({"image_path": f"sa_000001/sa_{number}.png", "metadata": metadata}))
    (source / "train.jsonl").write_text("\n".join([*lines, "not json"]))
    report = import_source(source, "sam", tmp_path / "landing")
    assert (report.layout, report.num_samples, report.quarantined) == ("layoutsam", 1, {"unreadable": 3})
    details = [row["detail"] for row in read_quarantine(report.folder).to_pylist()]
    assert "image sa_000001/sa_1.png, box 0" in details[0]
    assert "leaves the image" in details[0]
    assert "out of order" in details[1]
    assert "line 4 is not JSON" in details[2]


def test_published_entities_as_an_annotators_rows(tmp_path: Path) -> None:
    layoutsam_eval.write_layoutsam_eval(tmp_path / "in", iter(records(2)))
    report = import_source(tmp_path / "in", "sam", tmp_path / "landing")
    boxes = as_entity_boxes(report.folder)
    assert boxes.schema.equals(ENTITY_BOXES)
    rows = boxes.to_pylist()
    assert [(row["box_index"], row["phrase"], row["annotator"]) for row in rows] == [
        (0, "red apple", "LayoutSAM"),
        (1, STRANGE, "LayoutSAM"),
    ]
    assert as_entity_boxes(tmp_path).num_rows == 0
    (report.folder / ANNOTATIONS_FILE).write_bytes(b"PAR1")
    with pytest.raises(FoundryError, match="is damaged"):
        as_entity_boxes(report.folder)


def test_entities_go_when_the_source_no_longer_brings_them(tmp_path: Path) -> None:
    source, landing = tmp_path / "in", tmp_path / "landing"
    layoutsam_eval.write_layoutsam_eval(source, iter(records(2)))
    assert read_published_annotations(import_source(source, "sam", landing).folder).num_rows == 2
    bare = [dataclasses.replace(record, entities=()) for record in records(2)]
    layoutsam_eval.write_layoutsam_eval(source, iter(bare))
    folder = import_source(source, "sam", landing).folder
    assert not (folder / ANNOTATIONS_FILE).exists()


def test_other_parquet_is_not_taken_for_layoutsam(tmp_path: Path) -> None:
    import pyarrow as pa

    (tmp_path / "in").mkdir()
    table = pa.table({"image": [image_bytes()], "text": ["a caption"]})
    pq.write_table(table, tmp_path / "in" / "x.parquet")
    assert import_source(tmp_path / "in", "pets", tmp_path / "landing").layout == "parquet"
