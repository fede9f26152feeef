from __future__ import annotations

import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assets.corpus.identity import image_id_of, sample_id_of, shard_group, split_of
from assets.corpus.landing import group_shards, land_group, land_shard, list_shards, read_shard
from assets.graph.interfaces import Landing
from assets.graph.schemas import LANDED_IMAGES, QUARANTINE
from tests.assets.corpus.makers import huge_png_header, picture, write_parquet, write_tar
from training.errors import FoundryError


def _reasons(table: pa.Table) -> list[tuple[int, str]]:
    return list(zip(table["position"].to_pylist(), table["reason"].to_pylist(), strict=True))


def _struct(data: bytes | None) -> dict[str, object]:
    return {"bytes": data, "path": "a.png"}


def test_parquet_in_the_hugging_face_layout(tmp_path: Path) -> None:
    rows = [
        {"image": _struct(picture(i, 40 + i, 30)), "text": f"text {i}", "split": "train"} for i in range(10)
    ]
    write_parquet(tmp_path / "data.parquet", rows)
    (shard,) = list_shards(tmp_path)
    landed = land_shard(shard, "mine")
    assert landed.images.schema.equals(LANDED_IMAGES)
    assert landed.quarantined.num_rows == 0
    for index, row in enumerate(landed.images.to_pylist()):
        image = picture(index, 40 + index, 30)
        assert row["image"] == image
        assert row["image_id"] == image_id_of(image)
        assert row["sample_id"] == sample_id_of(image_id_of(image), "mine", f"data.parquet:{index}")
        assert (row["width"], row["height"], row["alt_text"]) == (40 + index, 30, f"text {index}")
        assert (row["split"], row["license"], row["attribution"]) == ("train", "unknown", "")


@pytest.mark.parametrize("column", ["text", "caption", "alt_text"])
def test_parquet_with_plain_bytes_and_other_caption_columns(tmp_path: Path, column: str) -> None:
    write_parquet(tmp_path / "a.parquet", [{"image": picture(0), column: "a dog", "license": "CC0-1.0"}])
    (row,) = land_shard(list_shards(tmp_path)[0], "mine").images.to_pylist()
    assert (row["alt_text"], row["license"]) == ("a dog", "CC0-1.0")


def test_what_cannot_be_used_is_set_aside_and_the_rest_goes_on(tmp_path: Path) -> None:
    rows = [
        {"image": _struct(picture(0)), "text": "good"},
        {"image": _struct(picture(1)[:50]), "text": "cut short"},
        {"image": _struct(picture(2)), "text": "  \n "},
        {"image": _struct(picture(3)), "text": None},
        {"image": _struct(huge_png_header(20000, 20000)), "text": "huge"},
        {"image": _struct(None), "text": "no bytes"},
        {"image": None, "text": "no struct"},
        {"image": _struct(b"not an image"), "text": "text as image"},
        {"image": _struct(picture(4)), "text": "good too"},
    ]
    write_parquet(tmp_path / "a.parquet", rows)
    landed = land_shard(list_shards(tmp_path)[0], "mine")
    assert landed.images["alt_text"].to_pylist() == ["good", "good too"]
    assert landed.quarantined.schema.equals(QUARANTINE)
    assert _reasons(landed.quarantined) == [
        (1, "broken_image"), (2, "no_caption"), (3, "no_caption"), (4, "oversize"),
        (5, "no_image"), (6, "no_image"), (7, "broken_image"),
    ]  # fmt: skip
    assert set(landed.quarantined["shard"].to_pylist()) == {"a.parquet"}
    assert land_shard(list_shards(tmp_path)[0], "mine").quarantined.equals(landed.quarantined)


def test_the_pixel_cap_is_the_callers(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a.parquet", [{"image": picture(0, 40, 40), "text": "x"}])
    (shard,) = list_shards(tmp_path)
    assert land_shard(shard, "m", max_pixels=1600).images.num_rows == 1
    assert _reasons(land_shard(shard, "m", max_pixels=1599).quarantined) == [(0, "oversize")]


def test_unreadable_parquet_is_one_row_for_the_file(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1 and then nothing")
    write_parquet(tmp_path / "b.parquet", [{"picture": picture(0), "text": "x"}])
    write_parquet(tmp_path / "c.parquet", [{"image": picture(0), "label": 3}])
    (tmp_path / "d.parquet").write_bytes(b"")
    for shard in list_shards(tmp_path):
        landed = land_shard(shard, "mine")
        assert landed.images.num_rows == 0
        assert _reasons(landed.quarantined) == [(-1, "unreadable")], shard.name


def test_a_damaged_row_group_is_set_aside_and_the_next_goes_on(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", [{"image": picture(i), "text": str(i)} for i in range(40)])
    data = bytearray(path.read_bytes())
    start = pq.read_metadata(path).row_group(5).column(0).data_page_offset
    data[start : start + 40] = bytes([255]) * 40
    path.write_bytes(bytes(data))
    landed = land_shard(list_shards(tmp_path)[0], "mine")
    assert landed.images["alt_text"].to_pylist() == [str(i) for i in range(40) if i not in range(20, 24)]
    assert _reasons(landed.quarantined) == [(20, "unreadable")]
    assert "rows 20 to 23" in landed.quarantined["detail"][0].as_py()


def test_webdataset_tar(tmp_path: Path) -> None:
    members = [
        ("000001.jpg", picture(1, fmt="JPEG")), ("000001.txt", b"one\n"),
        ("sub/000002.png", picture(2)), ("sub/000002.json", json.dumps({"caption": "two", "license": "MIT"}).encode()),
        ("000003.webp", picture(3, fmt="WEBP")), ("000003.caption", "drei äöü".encode()), ("000003.cls", b"7"),
        ("000004.png", picture(4)),
        ("000005.txt", b"text alone"),
        ("000006.png", b"broken"), ("000006.txt", b"six"),
        ("000007.png", picture(7)), ("000007.txt", b"seven \xff"),
    ]  # fmt: skip
    write_tar(tmp_path / "w-0.tar", members)
    write_tar(tmp_path / "w-1.tar.gz", members[:2])
    plain, zipped = list_shards(tmp_path)
    landed = land_shard(plain, "web")
    assert landed.images["alt_text"].to_pylist() == ["one", "two", "drei äöü", "seven \ufffd"]
    assert landed.images["key"].to_pylist()[1] == "w-0.tar/sub/000002"
    assert landed.images["license"].to_pylist()[1] == "MIT"
    assert _reasons(landed.quarantined) == [(7, "no_caption"), (8, "no_image"), (9, "broken_image")]
    assert land_shard(zipped, "web").images["alt_text"].to_pylist() == ["one"]


@pytest.mark.parametrize("name", ["w.tar", "w.tar.gz"])
def test_truncated_tar_keeps_whole_samples(tmp_path: Path, name: str) -> None:
    members = [
        (f"{i:03d}.{kind}", picture(i, 90, 90) if kind == "png" else b"text")
        for i in range(20)
        for kind in ("png", "txt")
    ]
    path = write_tar(tmp_path / name, members)
    whole = path.read_bytes()
    for cut in (len(whole) // 2, len(whole) // 2 + 300, len(whole) * 3 // 4):
        path.write_bytes(whole[:cut])
        landed = land_shard(list_shards(tmp_path)[0], "web")
        assert 3 <= landed.images.num_rows < 20
        expected = [picture(i, 90, 90) for i in range(landed.images.num_rows)]
        assert landed.images["image"].to_pylist() == expected
        assert [reason for _, reason in _reasons(landed.quarantined)][-1] == "truncated"


def test_tar_cut_between_members_or_without_end_is_noticed(tmp_path: Path) -> None:
    path = write_tar(
        tmp_path / "w.tar", [("a.png", picture(0)), ("a.txt", b"a"), ("b.png", picture(1)), ("b.txt", b"b")]
    )
    data = path.read_bytes()
    path.write_bytes(data[: data.rindex(b"b.txt")])
    landed = land_shard(list_shards(tmp_path)[0], "web")
    assert landed.images["alt_text"].to_pylist() == ["a"]
    assert _reasons(landed.quarantined) == [(2, "no_caption"), (-1, "truncated")]


def test_something_else_called_tar(tmp_path: Path) -> None:
    (tmp_path / "w.tar").write_bytes(b"this is no archive" * 100)
    (tmp_path / "v.tar").write_bytes(b"")
    for shard in list_shards(tmp_path):
        landed = land_shard(shard, "web")
        assert landed.images.num_rows == 0
        assert _reasons(landed.quarantined) == [(-1, "unreadable")], shard.name


def test_same_image_and_key_twice_in_a_file_is_one_sample(tmp_path: Path) -> None:
    rows = [{"image": picture(0), "text": "a", "key": "k"}, {"image": picture(0), "text": "b", "key": "k"}]
    rows.append({"image": picture(0), "text": "c", "key": "other"})  # two alt-texts of one image: two samples
    write_parquet(tmp_path / "a.parquet", rows)
    landed = land_shard(list_shards(tmp_path)[0], "mine")
    assert landed.images["alt_text"].to_pylist() == ["a", "c"]
    assert _reasons(landed.quarantined) == [(1, "duplicate_key")]


def test_batches_are_bounded(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a.parquet", [{"image": picture(i), "text": str(i)} for i in range(25)])
    batches = list(read_shard(list_shards(tmp_path)[0], "mine", batch_rows=10))
    assert [batch.images.num_rows for batch in batches] == [10, 10, 5]


def test_a_shard_that_vanished_is_a_finding(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a.parquet", [{"image": picture(0), "text": "x"}])
    (shard,) = list_shards(tmp_path)
    shard.path.unlink()
    assert _reasons(land_shard(shard, "mine").quarantined) == [(-1, "unreadable")]
    with pytest.raises(FoundryError, match="cannot be read"):
        _ = shard.sha256


def test_listing_passes_over_what_is_no_shard(tmp_path: Path) -> None:
    assert list_shards(tmp_path / "absent") == []
    (tmp_path / "sub").mkdir()
    for name in (
        "b.tar",
        "a.parquet",
        "sub/c.tgz",
        ".a.parquet.1.tmp",
        "_import.json",
        "readme.md",
        ".x.parquet",
    ):
        (tmp_path / name).write_bytes(b"x")
    assert [(shard.name, shard.format) for shard in list_shards(tmp_path)] == [
        ("a.parquet", "parquet"), ("b.tar", "tar"), ("sub/c.tgz", "tar"),
    ]  # fmt: skip
    with pytest.raises(FoundryError, match="is a file"):
        list_shards(tmp_path / "b.tar")


def test_stamp_and_digest_follow_the_file(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", [{"image": picture(0), "text": "x"}])
    (before,) = list_shards(tmp_path)
    first = before.sha256
    write_parquet(tmp_path / "new", [{"image": picture(0), "text": "y"}])
    (tmp_path / "new").replace(path)
    (after,) = list_shards(tmp_path)
    assert before.stamp != after.stamp
    assert first != after.sha256


def test_every_shard_lies_in_one_group_and_stays_there(tmp_path: Path) -> None:
    for index in range(12):
        write_parquet(tmp_path / f"s-{index}.parquet", [{"image": picture(index), "text": "x"}])
    landing = Landing("mine", tmp_path, ("group-00", "group-01", "group-02"), tmp_path / "world.yaml", False)
    groups = {key: [shard.name for shard in group_shards(landing, key)] for key in landing.group_keys}
    assert sorted(name for names in groups.values() for name in names) == sorted(
        f"s-{index}.parquet" for index in range(12)
    )
    assert sum(land_group(landing, key)[0].num_rows for key in landing.group_keys) == 12
    write_parquet(tmp_path / "s-99.parquet", [{"image": picture(99), "text": "x"}])
    changed = [key for key in groups if [s.name for s in group_shards(landing, key)] != groups[key]]
    assert len(changed) == 1
    with pytest.raises(FoundryError, match="'group-09' does not exist"):
        group_shards(landing, "group-09")
    with pytest.raises(FoundryError, match="num_groups is 65"):
        shard_group("a", 65)


def test_splits_are_declared_or_drawn_by_image() -> None:
    ids = [image_id_of(bytes([i % 256, i // 256])) for i in range(4000)]
    drawn = [split_of(image_id, None) for image_id in ids]
    assert abs(drawn.count("train") / 4000 - 0.8) < 0.03
    assert abs(drawn.count("judge") / 4000 - 0.1) < 0.02
    assert drawn.count("held_out_concepts") == 0
    assert split_of(ids[0], "judge") == "judge"
    assert split_of(ids[0], "validation") == "held_out_images"
    assert split_of(ids[0], "whatever") == drawn[0]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.text(min_size=0, max_size=60), st.sampled_from(["txt", "json", "parquet"]))
def test_any_text_is_landed_or_set_aside(
    tmp_path_factory: pytest.TempPathFactory, text: str, how: str
) -> None:
    folder = tmp_path_factory.mktemp("any")
    if how == "parquet":
        safe = text.encode("utf-8", "replace").decode()
        write_parquet(folder / "a.parquet", [{"image": picture(0), "text": safe}])
    else:
        data = text.encode("utf-8", "surrogatepass") if how == "txt" else json.dumps({"text": text}).encode()
        write_tar(folder / "a.tar", [("a.png", picture(0)), (f"a.{how}", data)])
    landed = land_shard(list_shards(folder)[0], "mine")
    assert landed.images.num_rows + landed.quarantined.num_rows == 1
    if landed.images.num_rows:
        stored = landed.images["alt_text"][0].as_py()
        assert stored
        assert stored == stored.strip()
        assert pa.ipc.open_stream(io.BytesIO(_as_stream(landed.images))).read_all().equals(landed.images)
        if text.isprintable() and how != "txt":
            assert stored == text.strip()
    else:
        assert not text.replace("\x00", " ").replace("\ufeff", "").strip()


def _as_stream(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()
