"""What goes into a format comes back; what a format cannot hold is said. Other people's readers open the files."""

from __future__ import annotations

import ast
import dataclasses
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from assets.entities.formats import coco, huggingface, layoutsam, layoutsam_eval, webdataset
from assets.entities.formats.records import AnnotatedCaption, AnnotatedEntity, AnnotatedImage
from evaluation.perception.run_lengths import decode_mask
from evaluation.tables.parquet_shards import list_shards
from tests.assets.entities.formats.makers import STRANGE, image_bytes, records
from training.errors import FoundryError


def _without(record: AnnotatedImage, **changes: Any) -> AnnotatedImage:
    return dataclasses.replace(record, **changes)


def _bare(entity: AnnotatedEntity) -> AnnotatedEntity:
    return AnnotatedEntity(entity.phrase, entity.description, entity.box_xyxy_norm)


def test_webdataset_holds_everything(tmp_path: Path) -> None:
    made = records()
    assert webdataset.write_webdataset(tmp_path / "a", iter(made), shard_samples=2) == 5
    tars = sorted((tmp_path / "a").glob("*.tar"))
    assert [path.name for path in tars] == ["train-000000.tar", "train-000001.tar", "train-000002.tar"]
    assert list(webdataset.read_webdataset(tmp_path / "a")) == made
    webdataset.write_webdataset(tmp_path / "b", iter(made), shard_samples=2)
    assert tars[0].read_bytes() == (tmp_path / "b" / tars[0].name).read_bytes()
    with tarfile.open(tars[0]) as archive:
        names = archive.getnames()
        caption = json.loads(archive.extractfile(names[1]).read())["caption"]  # type: ignore[union-attr]
    assert [Path(name).suffix for name in names] == [".png", ".json"] * 2
    assert caption == made[0].global_caption


def test_webdataset_can_be_imported_again(tmp_path: Path) -> None:
    from assets.corpus.readers import read_tar

    webdataset.write_webdataset(tmp_path, iter(records(2)))
    samples = list(read_tar(tmp_path / "train-000000.tar", "train-000000.tar"))
    assert [sample.problem for sample in samples] == [None, None]
    assert samples[0].text == records(1)[0].global_caption
    assert samples[0].license == "CC-BY-4.0"


def test_huggingface_holds_everything(tmp_path: Path) -> None:
    made = records()
    assert huggingface.write_huggingface(tmp_path, iter(made)) == 5
    assert [path.name for path in list_shards(tmp_path)] == ["train-00000-of-00001.parquet"]
    assert list(huggingface.read_huggingface(tmp_path)) == made


def test_shards_are_cut_by_size_and_keep_their_order(tmp_path: Path) -> None:
    made = records(150)
    huggingface.write_huggingface(tmp_path, iter(made), shard_bytes=1000)
    assert [path.name for path in list_shards(tmp_path)] == [
        f"train-{n:05d}-of-00003.parquet" for n in range(3)
    ]
    assert [record.sample_id for record in huggingface.read_huggingface(tmp_path)] == [
        r.sample_id for r in made
    ]


def test_load_dataset_opens_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets")
    import yaml

    folder = tmp_path / "folder"
    made = records()
    huggingface.write_huggingface(folder, iter(made))
    header = huggingface.dataset_header(huggingface.SCHEMA, "train", 5, 1000)
    (folder / "README.md").write_text(f"---\n{yaml.safe_dump(header)}---\n# Card\n", encoding="utf-8")
    loaded = datasets.load_dataset(str(folder), split="train", cache_dir=str(tmp_path / "cache"))
    assert isinstance(loaded.features["image"], datasets.Image)
    assert len(loaded) == 5
    row = loaded[0]
    assert row["image"].size == (48, 32)
    assert np.array_equal(np.asarray(row["image"]), np.asarray(Image.open(io.BytesIO(made[0].image or b""))))
    assert row["entities"][0]["box_xyxy_norm"] == [0.125, 0.125, 0.625, 0.625]
    assert row["captions"][0]["text"] == made[0].global_caption


def test_load_dataset_opens_the_benchmark(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    layoutsam_eval.write_layoutsam_eval(tmp_path / "folder", iter(records(2)))
    loaded = datasets.load_dataset(str(tmp_path / "folder"), split="test", cache_dir=str(tmp_path / "cache"))
    assert loaded[0]["image"].size == (48, 32)
    assert ast.literal_eval(loaded[0]["region_captions"]) == ["red apple", STRANGE]


def test_layoutsam_training_schema(tmp_path: Path) -> None:
    made = records()
    assert layoutsam.write_layoutsam(tmp_path, iter(made)) == 5
    row = pq.read_table(list_shards(tmp_path)[0]).to_pylist()[0]
    assert set(row) == {"image_path", "metadata"}
    assert row["metadata"]["image_info"] == {"height": 32, "width": 48, "file_name": made[0].file_name}
    assert row["metadata"]["bbox_info"][0] == {
        "bbox": [6.0, 4.0, 30.0, 20.0],
        "description": "red apple",
        "detail_description": f"a round apple, {STRANGE}",
    }
    expected = [
        _without(
            record, sample_id=f"{record.sample_id[:2]}/{record.file_name}",
            captions=(AnnotatedCaption(record.global_caption, "LayoutSAM"),),
            entities=tuple(_bare(entity) for entity in record.entities), license="unknown", attribution="",
            source="LayoutSAM", split="",
        )
        for record in made
    ]  # fmt: skip
    assert list(layoutsam.read_layoutsam(tmp_path)) == expected
    assert layoutsam.layoutsam_kind(tmp_path) == "layoutsam"


@pytest.mark.parametrize("form", ["jsonl", "json", "metadata as text"])
def test_layoutsam_as_json(tmp_path: Path, form: str) -> None:
    rows: list[dict[str, Any]] = [
        {
            "image_path": f"sa_000001/sa_{number}.jpg",
            "metadata": {
                "global_caption": "a caption",
                "image_info": {"height": 32, "width": 48, "file_name": f"sa_{number}.jpg"},
                "bbox_info": [{"bbox": [0, 0, 24, 16], "description": "tree", "detail_description": None}],
            },
        }
        for number in (1, 2)
    ]
    if form == "metadata as text":
        rows = [{**row, "metadata": json.dumps(row["metadata"])} for row in rows]
    text = json.dumps(rows) if form == "json" else "\n".join(json.dumps(row) for row in rows)
    (tmp_path / f"a.{'json' if form == 'json' else 'jsonl'}").write_text(text)
    (tmp_path / "sa_000001").mkdir()
    (tmp_path / "sa_000001" / "sa_2.jpg").write_bytes(b"picture")
    absent, present = layoutsam.read_layoutsam(tmp_path)
    assert absent.image is None
    assert present.image == b"picture"
    assert present.entities == (AnnotatedEntity("tree", "tree", (0.0, 0.0, 0.5, 0.5)),)
    assert layoutsam.layoutsam_kind(tmp_path) == "layoutsam"


def test_no_image_path_leaves_the_folder(tmp_path: Path) -> None:
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "link.jpg").symlink_to(tmp_path / "secret.jpg")
    info = {"height": 4, "width": 4, "file_name": "x"}
    for name in ("../secret.jpg", str(tmp_path / "secret.jpg"), "link.jpg", "..\\secret.jpg"):
        row = {"image_path": name, "metadata": {"global_caption": "", "image_info": info, "bbox_info": None}}
        assert layoutsam.from_train_row(row, [inside], "row").image is None


def test_layoutsam_evaluation_schema(tmp_path: Path) -> None:
    made = records()
    assert layoutsam_eval.write_layoutsam_eval(tmp_path, iter(made)) == 5
    assert [path.name for path in list_shards(tmp_path)] == ["test-00000-of-00001.parquet"]
    row = pq.read_table(list_shards(tmp_path)[0]).to_pylist()[0]
    assert list(row) == layoutsam_eval.EVAL_SCHEMA.names
    assert row["bbox_list"] == "[[6, 4, 30, 20], [0, 0, 48, 32]]"
    assert ast.literal_eval(row["detail_region_captions"]) == [f"a round apple, {STRANGE}", "second"]
    assert row["region_captions"] == str(["red apple", STRANGE])
    expected = [
        _without(
            record, captions=(AnnotatedCaption(record.global_caption, "LayoutSAM"),), license="unknown",
            attribution="", source="LayoutSAM", split="",
            entities=tuple(_bare(entity) for entity in record.entities),
        )
        for record in made
    ]  # fmt: skip
    assert list(layoutsam_eval.read_layoutsam_eval(tmp_path)) == expected
    assert layoutsam.layoutsam_kind(tmp_path) == "layoutsam-eval"


def test_coco_round_trip(tmp_path: Path) -> None:
    made = records()
    assert coco.write_coco(tmp_path, iter(made)) == 5
    assert list(coco.read_coco(tmp_path)) == made


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools on numpy 2
def test_coco_tools_open_it(tmp_path: Path) -> None:
    tools = pytest.importorskip("pycocotools.coco")
    made = records(3)
    smaller = dataclasses.replace(made[2].entities[0], mask_rle=made[2].entities[0].mask_rle)
    coco.write_coco(tmp_path, [*made[:2], _without(made[2], width=96, height=64, entities=(smaller,))])
    opened = tools.COCO(str(tmp_path / "annotations" / "instances_train.json"))
    assert len(opened.getImgIds()) == 3
    apple = opened.getCatIds(catNms=["apple"])
    annotations = opened.loadAnns(opened.getAnnIds(catIds=apple))
    assert [annotation["bbox"] for annotation in annotations] == [[6, 4, 24, 16], [12, 8, 48, 32]]
    masks = [opened.annToMask(annotation) for annotation in annotations]
    expected = decode_mask(made[0].entities[0].mask_rle, 32, 48)
    assert np.array_equal(masks[0], expected)
    assert np.array_equal(masks[1], expected.repeat(2, axis=0).repeat(2, axis=1))
    assert [annotation["area"] for annotation in annotations] == [expected.sum(), 4 * expected.sum()]


def test_plain_coco_is_read(tmp_path: Path) -> None:
    content = {
        "images": [{"id": 9, "file_name": "000009.jpg", "width": 100, "height": 50, "license": 1}],
        "annotations": [
            {"id": 1, "image_id": 9, "category_id": 3, "bbox": [10, 5, 50, 25], "iscrowd": 0,
             "segmentation": [[10, 5, 60, 5, 60, 30]]},
            {"id": 2, "image_id": 9, "category_id": 3, "bbox": [0, 0, 5, 5], "iscrowd": 1, "segmentation": []},
        ],
        "categories": [{"id": 3, "name": "dog", "supercategory": "animal"}],
        "licenses": [{"id": 1, "name": "CC-BY-2.0", "url": ""}],
    }  # fmt: skip
    path = tmp_path / "instances.json"
    path.write_text(json.dumps(content))
    (record,) = coco.read_coco(path, tmp_path)
    assert record.image is None
    assert record.license == "CC-BY-2.0"
    assert record.entities == (AnnotatedEntity("dog", "", (0.1, 0.1, 0.6, 0.6)),)


def test_damaged_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "x.parquet").write_bytes(b"PAR1 nothing")
    with pytest.raises(FoundryError, match=r"x.parquet: is damaged"):
        list(huggingface.read_huggingface(tmp_path))
    (tmp_path / "x.json").write_text('{"images": [{"id": 1}], "annotations": [], "categories": []}')
    with pytest.raises(FoundryError, match=r"x.json: is not COCO's form"):
        list(coco.read_coco(tmp_path / "x.json"))
    (tmp_path / "y.json").write_text("{")
    with pytest.raises(FoundryError, match=r"y.json: is not JSON"):
        list(coco.read_coco(tmp_path / "y.json"))
    (tmp_path / "x.tar").write_bytes(b"nothing" * 200)
    with pytest.raises(FoundryError, match=r"x.tar: is damaged"):
        list(webdataset.read_webdataset(tmp_path))
    (tmp_path / "z.jsonl").write_text('{"image_path": "a.jpg", "metadata": {"global_caption": "c"}}')
    with pytest.raises(FoundryError, match=r"z.jsonl, row 0: is not LayoutSAM's training schema"):
        list(layoutsam.read_layoutsam(tmp_path / "z.jsonl"))
    huggingface.write_huggingface(tmp_path / "other", iter(records(1)))
    with pytest.raises(FoundryError, match="lacks the columns bbox_list"):
        list(layoutsam_eval.read_layoutsam_eval(tmp_path / "other"))
    with pytest.raises(FoundryError, match="has no caption"):
        layoutsam_eval.write_layoutsam_eval(tmp_path / "e", [_without(records(1)[0], captions=())])


def test_nothing_to_write_gives_an_empty_set(tmp_path: Path) -> None:
    assert huggingface.write_huggingface(tmp_path / "h", iter([])) == 0
    assert list(huggingface.read_huggingface(tmp_path / "h")) == []
    assert coco.write_coco(tmp_path / "c", iter([])) == 0
    assert list(coco.read_coco(tmp_path / "c")) == []
    assert image_bytes() == image_bytes()
