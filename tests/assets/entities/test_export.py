"""An export holds what the store holds and no more, as a whole folder or not at all, with a card that tells the truth."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml

from assets.entities.card import CardFacts, ModelRow, dataset_card
from assets.entities.export import FORMATS, export_dataset
from assets.entities.formats.records import ALT_TEXT, AnnotatedImage
from assets.entities.licenses import license_class
from assets.entities.tally import Tally
from assets.graph.schemas import (
    CURATED_IMAGES,
    ENTITY_ANNOTATIONS,
    ENTITY_MASKS,
    LANDED_IMAGES,
    LAYOUT_BENCHMARK,
    RECAPTIONS,
)
from assets.graph.versions import GateResult, Provenance
from orchestration.resources.records import Takedown
from orchestration.resources.store import ManifestStore
from orchestration.workspace import Workspace
from tests.assets.entities.formats.makers import STRANGE, image_bytes
from training.errors import FoundryError

MADE_BY = {"model": "embedded (bank of the same drawings)", "model_digest": "d" * 64, "function_version": 1}
EVIL = "[click](javascript:alert(1)) <script>alert(1)</script> | # x\n---\n![i](http://evil.example/x.png) www.evil.example"


def _fill(schema: pa.Schema, values: dict[str, Any]) -> dict[str, Any]:
    """A row of a schema in which only what matters is given."""
    blanks = {pa.string(): "", pa.float32(): 0.5, pa.int32(): 0, pa.int64(): 0, pa.bool_(): True}
    made = {field.name: blanks.get(field.type) for field in schema} | MADE_BY | values
    return {name: made[name] for name in schema.names}


def _rows(schema: pa.Schema, rows: list[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist([_fill(schema, row) for row in rows], schema=schema)


def _landed(sample_id: str, split: str) -> dict[str, Any]:
    return {
        "sample_id": sample_id, "image_id": f"image-{sample_id}", "source": "pets", "split": split,
        "image": image_bytes(seed=int(sample_id[0], 16)), "width": 48, "height": 32, "alt_text": f"alt {sample_id}",
        "license": "CC-BY-4.0" if sample_id != "b" else "unknown", "attribution": EVIL if sample_id == "a" else "",
    }  # fmt: skip


def _curated(sample_id: str, split: str, number: int) -> dict[str, Any]:
    return {
        "sample_id": sample_id, "image_id": f"image-{sample_id}", "split": split, "thumbnail": bytes([40 * number] * 192),
        "perceptual_hash": (1 << 62) // (number + 1), "keep": sample_id != "d",
        "dropped_because": "duplicate" if sample_id == "d" else "",
    }  # fmt: skip


@pytest.fixture
def store(tmp_path: Path) -> ManifestStore:
    """Two shard groups: a, b and d (dropped) of the training split, c held out; a and c have entities."""
    store = ManifestStore(tmp_path / "store")
    groups = {"g0": [("a", "train"), ("d", "train")], "g1": [("b", "train"), ("c", "held_out_concepts")]}
    number = 0
    for key, samples in groups.items():
        tables: dict[str, tuple[pa.Schema, list[dict[str, Any]]]] = {
            "landed_images": (LANDED_IMAGES, []), "curated_images": (CURATED_IMAGES, []), "recaptions": (RECAPTIONS, []),
            "entity_annotations": (ENTITY_ANNOTATIONS, []), "entity_masks": (ENTITY_MASKS, []),
        }  # fmt: skip
        for sample_id, split in samples:
            number += 1
            tables["landed_images"][1].append(_landed(sample_id, split))
            tables["curated_images"][1].append(_curated(sample_id, split, number))
            tables["recaptions"][1].extend(
                {"sample_id": sample_id, "caption_index": index, "caption": f"{index} {sample_id} {STRANGE}",
                 "keep": index < 3, "dropped_because": "" if index < 3 else "duplicate"}
                for index in (2, 1, 3)
            )  # fmt: skip
            if sample_id in "ac":
                box = [0.125, 0.125, 0.625, 0.625]
                tables["entity_annotations"][1].extend(
                    {"sample_id": sample_id, "entity_id": f"{sample_id}{index}", "entity_index": index,
                     "annotator": "embedded", "phrase": f"red apple {index}", "description": "a round apple",
                     "box_xyxy_norm": box, "keep": index < 2, "dropped_because": "" if index < 2 else "too_small",
                     "description_model": "describer", "description_digest": "e" * 64}
                    for index in (1, 0, 2)
                )  # fmt: skip
                tables["entity_masks"][1].append(
                    {
                        "sample_id": sample_id,
                        "entity_id": f"{sample_id}0",
                        "mask_rle": "0P`1",
                        "mask_size": [32, 48],
                    }
                )
        for name, (schema, rows) in tables.items():
            store.write_table(name, _rows(schema, rows), Provenance(name, 1), key)
    layout = {"sample_id": "c", "global_caption": "a prompt", "phrase": "apple", "description": "red apple",
              "box_xyxy_norm": [0.0, 0.0, 0.5, 0.5]}  # fmt: skip
    _write_benchmark(store, [layout], GateResult(True, {"prompts": 1, "near_duplicates_in_training": 0}))
    return store


def _write_benchmark(store: ManifestStore, rows: list[dict[str, Any]], gate: GateResult) -> None:
    store.write_table(
        "layout_benchmark", _rows(LAYOUT_BENCHMARK, rows), Provenance("layout_benchmark", 1), gate=gate
    )


def _read(folder: Path, name: str) -> list[AnnotatedImage]:
    return list(FORMATS[name].read(folder))


@pytest.mark.parametrize("name", ["huggingface", "webdataset", "coco"])
def test_training_export_comes_back(store: ManifestStore, tmp_path: Path, name: str) -> None:
    report = export_dataset(store, tmp_path / "out", name)
    records = {record.sample_id: record for record in _read(tmp_path / "out", name)}
    assert set(records) == {"a", "b"}
    assert [caption.text for caption in records["a"].captions] == [
        f"1 a {STRANGE}",
        f"2 a {STRANGE}",
        "alt a",
    ]
    assert [caption.model for caption in records["a"].captions] == [MADE_BY["model"]] * 2 + [ALT_TEXT]
    assert [entity.phrase for entity in records["a"].entities] == ["red apple 0", "red apple 1"]
    assert [bool(entity.mask_rle) for entity in records["a"].entities] == [True, False]
    assert records["b"].entities == ()
    assert records["b"].license == "unknown"
    assert records["b"].image == image_bytes(seed=0xB)
    assert (report.num_images, report.num_entities, report.num_captions) == (2, 2, 6)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "store"]


def test_layoutsam_export_leaves_out_images_without_entities(store: ManifestStore, tmp_path: Path) -> None:
    report = export_dataset(store, tmp_path / "out", "layoutsam")
    (record,) = _read(tmp_path / "out", "layoutsam")
    assert report.without_entities == 1
    assert record.global_caption == f"1 a {STRANGE}"
    assert record.image == image_bytes(seed=0xA)
    assert record.entities[0].box_xyxy_norm == (0.125, 0.125, 0.625, 0.625)


def test_benchmark_export(store: ManifestStore, tmp_path: Path) -> None:
    report = export_dataset(store, tmp_path / "out", "layoutsam-eval", table="benchmark")
    (record,) = _read(tmp_path / "out", "layoutsam-eval")
    assert (report.split, record.sample_id, record.global_caption) == ("test", "c", "a prompt")
    assert [(entity.phrase, entity.description) for entity in record.entities] == [("apple", "red apple")]
    card = (tmp_path / "out" / "README.md").read_text()
    assert "near duplicates in training | 0" in card
    assert "Training on these images spoils the benchmark" in card


def test_a_benchmark_whose_leak_check_failed_is_refused(store: ManifestStore, tmp_path: Path) -> None:
    _write_benchmark(store, [], GateResult(False, {"images_in_training": 2}))
    with pytest.raises(FoundryError, match="gate"):
        export_dataset(store, tmp_path / "out", "layoutsam-eval", table="benchmark")
    assert not (tmp_path / "out").exists()


def test_load_dataset_opens_an_export(store: ManifestStore, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    for name, split, table in (
        ("huggingface", "held_out_concepts", "training"),
        ("layoutsam-eval", "train", "benchmark"),
        ("layoutsam", "train", "training"),
    ):
        report = export_dataset(store, tmp_path / name, name, table=table, split=split)  # type: ignore[arg-type]
        cache = str(tmp_path / "cache")
        loaded = datasets.load_dataset(str(tmp_path / name), split=report.split, cache_dir=cache)
        assert len(loaded) == report.num_images == 1
        if name != "layoutsam":
            assert loaded[0]["image"].size == (48, 32)


def test_folders_are_replaced_only_when_asked(store: ManifestStore, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "mine.txt").write_text("mine")
    with pytest.raises(FoundryError, match="is not empty"):
        export_dataset(store, folder, "webdataset")
    with pytest.raises(FoundryError, match=r"no export.json of an earlier export, so it is not replaced"):
        export_dataset(store, folder, "webdataset", overwrite=True)
    (folder / "export.json").write_text("{}")
    with pytest.raises(FoundryError, match="no image"):
        export_dataset(store, folder, "webdataset", split="judge", overwrite=True)
    assert (folder / "mine.txt").read_text() == "mine", "a failed export leaves what was there"
    export_dataset(store, folder, "webdataset", overwrite=True)
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "export.json", "train-000000.tar"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "store"]
    (tmp_path / "file").write_text("")
    with pytest.raises(FoundryError, match="is a file"):
        export_dataset(store, tmp_path / "file", "coco")


def test_equal_versions_give_equal_digests_and_cards(store: ManifestStore, tmp_path: Path) -> None:
    first = export_dataset(store, tmp_path / "a", "huggingface")
    again = export_dataset(store, tmp_path / "b", "huggingface")
    limited = export_dataset(store, tmp_path / "c", "huggingface", limit=1)
    assert first.dataset_digest == again.dataset_digest != limited.dataset_digest
    assert limited.num_images == 1
    cards = [(tmp_path / name / "README.md").read_bytes() for name in "ab"]
    assert cards[0] == cards[1]
    versions = json.loads((tmp_path / "a" / "export.json").read_text())["versions"]
    assert versions["landed_images@g0"] == store.require("landed_images", "g0").digest


def test_a_table_that_changes_meanwhile_stops_the_export(store: ManifestStore, tmp_path: Path) -> None:
    def meddle(done: int, total: int | None) -> None:
        assert total == 2
        table = store.read_table("recaptions", "g1").slice(0, 1)
        store.write_table("recaptions", table, Provenance("recaptions", 2), "g1")

    with pytest.raises(FoundryError, match="changed while they were read"):
        export_dataset(store, tmp_path / "out", "webdataset", progress=meddle)
    assert not (tmp_path / "out").exists()


def test_removed_images_are_not_exported_though_tables_hold_them(
    store: ManifestStore, tmp_path: Path
) -> None:
    before = export_dataset(store, tmp_path / "before", "webdataset")
    store.records.take_down(Takedown("image-a", "asked to", "someone", "2026-01-01T00:00:00+00:00"))
    report = export_dataset(store, tmp_path / "out", "webdataset")
    assert [record.sample_id for record in _read(tmp_path / "out", "webdataset")] == ["b"]
    assert report.dataset_digest != before.dataset_digest
    assert "1 images that were taken down" in (tmp_path / "out" / "README.md").read_text()


def test_two_annotators_are_not_mixed(store: ManifestStore, tmp_path: Path) -> None:
    table = store.read_table("entity_annotations", "g0")
    other = table.set_column(
        table.schema.get_field_index("annotator"),
        ENTITY_ANNOTATIONS.field("annotator"),
        pa.array(["nano"] * 3),
    )
    store.write_table(
        "entity_annotations", pa.concat_tables([table, other]), Provenance("entity_annotations", 2), "g0"
    )
    with pytest.raises(FoundryError, match=r"several annotators \(embedded, nano\)"):
        export_dataset(store, tmp_path / "out", "coco")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format_name": "yolo"}, "--format is 'yolo'; allowed are layoutsam"),
        ({"table": "other"}, "--table is 'other'"),
        ({"split": "test"}, "--split is 'test'"),
        ({"limit": 0}, "--limit is 0"),
    ],
)
def test_bad_requests(store: ManifestStore, tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(FoundryError, match=re.escape(message)):
        export_dataset(store, tmp_path / "out", **{"format_name": "coco", **change})


def test_the_card_says_where_everything_comes_from(store: ManifestStore, tmp_path: Path) -> None:
    report = export_dataset(store, tmp_path / "out", "huggingface", title="Pets & co")
    card = (tmp_path / "out" / "README.md").read_text()
    header = yaml.safe_load(card.split("---")[1])
    assert header["dataset_info"]["splits"][0]["num_examples"] == 2
    assert header["configs"][0]["data_files"] == [{"split": "train", "path": "data/train-*"}]
    for text in (
        "# Pets &amp; co", "| CC\\-BY\\-4.0 | attribution | 1 | 50.0% |", "| unknown | unknown | 1 | 50.0% |",
        "**Some licences are unknown**", "| captions | embedded \\(bank of the same drawings\\) | `dddddddddddddddd` | 1 |",
        "| descriptions | describer | `eeeeeeeeeeeeeeee` |", "| entity\\_annotations | too\\_small | 2 | 33.3% |",
        "| curated\\_images | duplicate | 1 | 25.0% |", "**the very drawings**", "No judge was trained",
        report.dataset_digest,
    ):  # fmt: skip
        assert text in card, text


def test_nothing_untrusted_acts_in_a_card(store: ManifestStore, tmp_path: Path) -> None:
    export_dataset(store, tmp_path / "out", "webdataset")
    card = (tmp_path / "out" / "README.md").read_text()
    attribution = next(line for line in card.splitlines() if "click" in line)
    assert "<" not in attribution
    assert not re.search(r"(?<!\\)[\[\]|#!`]", attribution.replace("&#58;", "").replace("&#46;", ""))
    assert "javascript:" not in attribution
    assert "http:" not in attribution
    assert "www." not in attribution


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("CC-BY-4.0", "attribution"), ("CC-BY-SA-3.0", "share-alike"), ("cc-by-nc-sa-4.0", "non-commercial"),
        ("CC-BY-ND-4.0", "no derivatives"), ("unknown", "unknown"), ("", "unknown"), ("NOASSERTION", "unknown"),
        ("CC0-1.0", "free"), ("Public Domain", "free"), ("Apache-2.0", "attribution"), ("SA-1B research", "own terms"), ("ODbL-1.0", "share-alike"),
        ("my own terms", "own terms"),
    ],
)  # fmt: skip
def test_kinds_of_licences(name: str, kind: str) -> None:
    assert license_class(name) == kind


def test_a_judge_among_the_writers_is_called_out() -> None:
    tally = Tally()
    tally.add(AnnotatedImage("s", b"", 8, 8, "s.png", split="train"))
    facts = CardFacts(
        "t", "coco", "training", "train", "0" * 64, {}, tally, [ModelRow("captions", "m", "j" * 64)]
    )
    assert "means nothing" not in dataset_card(facts)
    apart = [ModelRow("regions", "embedded (bank of Fluent drawings)", "b" * 64)]
    assert "another art set" in dataset_card(dataclasses.replace(facts, models=apart))
    assert "shares none" in dataset_card(dataclasses.replace(facts, judge_digest="k" * 64))
    assert "mean nothing" in dataset_card(dataclasses.replace(facts, judge_digest="j" * 64))


def test_the_command_writes_and_says_what_is_lost(
    store: ManifestStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from orchestration.command import export as command

    workspace = Workspace(tmp_path / "home", "smoke", "pets")
    workspace.root.mkdir(parents=True)
    (tmp_path / "store").rename(workspace.store)
    command.run(workspace, tmp_path / "out", "layoutsam", as_json=True)
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["images"], row["entities"], row["left out"]) == (1, 2, 1)
    assert "masks" in row["not held"]
    command.run(workspace, tmp_path / "out", "coco", overwrite=True)
    shown = capsys.readouterr().out
    assert "not held by coco: box corners finer" in shown
    with pytest.raises(FoundryError, match="--table is 'all'"):
        command.run(workspace, tmp_path / "out", "coco", table="all")
