from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from assets.corpus import importing
from assets.corpus.importing import IMPORT_FILE, ImportReport, import_source
from assets.corpus.landing import land_shard, list_shards, read_quarantine
from tests.assets.corpus.makers import huge_png_header, picture, write_parquet, write_tar
from training.errors import FoundryError

TEXTS = ["a dog", "ein Bär, groß", 'say "hi"', "two\nlines", "emoji 🦊", "=1+1", "tab\there"]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    return folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "home" / "landing"


def _landed(report: ImportReport) -> tuple[pa.Table, pa.Table]:
    """What the graph makes of an import."""
    batches = [land_shard(shard, report.name) for shard in list_shards(report.folder)]
    return (
        pa.concat_tables([batch.images for batch in batches]),
        pa.concat_tables([batch.quarantined for batch in batches]),
    )


def _texts(report: ImportReport) -> dict[str, str]:
    images, _ = _landed(report)
    return dict(zip(images["key"].to_pylist(), images["alt_text"].to_pylist(), strict=True))


def _state(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()}


def _write_sidecars(source: Path, count: int) -> None:
    for index in range(count):
        (source / f"{index:04d}.png").write_bytes(picture(index, 16 + index % 5, 16))
        (source / f"{index:04d}.txt").write_text(f"text {index}")


def test_folder_with_sidecars(source: Path, root: Path) -> None:
    (source / "sub").mkdir()
    for index, text in enumerate(TEXTS):
        name = f"sub/{index}.png" if index % 2 else f"{index}.jpg"
        (source / name).write_bytes(picture(index, fmt="PNG" if index % 2 else "JPEG"))
        (source / name).with_suffix(".txt").write_text(text, encoding="utf-8")
    report = import_source(source, "mine", root)
    assert (report.num_samples, report.quarantined, report.layout) == (len(TEXTS), {}, "folder")
    expected = {(f"sub/{i}.png" if i % 2 else f"{i}.jpg"): text for i, text in enumerate(TEXTS)}
    assert _texts(report) == expected
    images, _ = _landed(report)
    assert images["image"].to_pylist() == [(source / key).read_bytes() for key in images["key"].to_pylist()]


@pytest.mark.parametrize("layout", ["captions.csv", "captions.jsonl", "metadata.jsonl"])
def test_folder_with_a_caption_file(source: Path, root: Path, layout: str) -> None:
    rows = [{"file_name": f"{i}.png", "text": text, "license": "CC0-1.0"} for i, text in enumerate(TEXTS)]
    for index in range(len(TEXTS)):
        (source / f"{index}.png").write_bytes(picture(index))
    rows.append({"file_name": "0.png", "text": "the dog again", "license": ""})
    with (source / layout).open("w", encoding="utf-8", newline="") as file:
        if layout.endswith("csv"):
            writer = csv.DictWriter(file, ["file_name", "text", "license"])
            writer.writeheader()
            writer.writerows(rows)
        else:
            file.writelines(json.dumps(row) + "\n" for row in rows)
    report = import_source(source, "mine", root)
    expected = {f"{i}.png": text for i, text in enumerate(TEXTS)} | {"0.png#2": "the dog again"}
    assert _texts(report) == expected
    images, _ = _landed(report)
    assert images.filter(pa.compute.equal(images["key"], "1.png"))["license"].to_pylist() == ["CC0-1.0"]
    assert len(set(images["sample_id"].to_pylist())) == len(TEXTS) + 1


def test_tars_and_parquet(tmp_path: Path, source: Path, root: Path) -> None:
    for number in range(2):  # the same member names in both tars
        members = [
            (f"{i}.{kind}", picture(i + 9 * number) if kind == "png" else f"t{i}-{number}".encode())
            for i in range(4)
            for kind in ("png", "txt")
        ]
        write_tar(source / f"w-{number}.tar", members)
    report = import_source(source, "web", root)
    assert _texts(report) == {f"w-{n}.tar/{i}": f"t{i}-{n}" for n in range(2) for i in range(4)}
    one = write_parquet(
        tmp_path / "one.parquet",
        [
            {"image": {"bytes": picture(i), "path": None}, "caption": f"p{i}", "split": "test"}
            for i in range(6)
        ],
    )
    report = import_source(one, "hub", root)
    assert sorted(_texts(report).values()) == [f"p{i}" for i in range(6)]
    images, _ = _landed(report)
    assert set(images["split"].to_pylist()) == {"held_out_images"}


def test_what_cannot_be_used_lands_in_the_quarantine(source: Path, root: Path) -> None:
    _write_sidecars(source, 3)
    (source / "broken.png").write_bytes(picture(0)[:40])
    (source / "broken.txt").write_text("broken")
    (source / "huge.png").write_bytes(huge_png_header(30000, 30000))
    (source / "huge.txt").write_text("huge")
    (source / "mute.png").write_bytes(picture(8))
    (source / "blank.png").write_bytes(picture(9))
    (source / "blank.txt").write_text("   \n")
    report = import_source(source, "mine", root)
    assert report.num_samples == 3
    assert report.quarantined == {"broken_image": 1, "no_caption": 2, "oversize": 1}
    table = read_quarantine(report.folder)
    reasons = dict(zip(table["shard"].to_pylist(), table["reason"].to_pylist(), strict=True))
    assert reasons == {
        "broken.png": "broken_image",
        "huge.png": "oversize",
        "mute.png": "no_caption",
        "blank.png": "no_caption",
    }
    assert _landed(report)[1].equals(table)  # the graph sees it, too


def test_bad_rows_of_a_caption_file_are_set_aside(tmp_path: Path, source: Path, root: Path) -> None:
    (source / "a.png").write_bytes(picture(0))
    (source / "unnamed.png").write_bytes(picture(1))
    (tmp_path / "secret.png").write_bytes(picture(2))
    lines = ['{"file_name": "a.png", "text": "good"}', "not json", "[1]", '{"file_name": "b.png", "text": "gone"}', '{"file_name": "../secret.png", "text": "outside"}', '{"text": "nameless"}']  # fmt: skip
    (source / "captions.jsonl").write_text("\n".join(lines))
    report = import_source(source, "mine", root)
    assert _texts(report) == {"a.png": "good"}
    table = read_quarantine(report.folder).to_pylist()
    assert [(row["position"], row["reason"]) for row in table] == [
        (1, "unreadable"), (2, "unreadable"), (3, "no_image"), (4, "no_image"), (5, "no_image"), (1, "no_caption"),
    ]  # fmt: skip


def test_truncated_tar_is_imported_as_far_as_it_goes(source: Path, root: Path) -> None:
    members = [
        (f"{i}.{kind}", picture(i, 80, 80) if kind == "png" else b"t")
        for i in range(9)
        for kind in ("png", "txt")
    ]
    path = write_tar(source / "w.tar", members)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    report = import_source(source, "web", root)
    assert 0 < report.num_samples < 9
    assert report.quarantined == {"truncated": 1}


def test_repeating_changes_nothing(source: Path, root: Path) -> None:
    _write_sidecars(source, 5)
    (source / "bad.png").write_bytes(b"not an image")
    (source / "bad.txt").write_text("bad")
    first = import_source(source, "mine", root)
    assert first.changed
    before = _state(first.folder)
    again = import_source(source, "mine", root)
    assert not again.changed
    assert again.shards_unchanged == first.shards_written
    assert _state(first.folder) == before
    assert [path.name for path in root.iterdir()] == ["mine"]  # nothing is left beside it


def test_a_change_touches_few_shards(source: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importing, "_CUT_EVERY", 4)
    monkeypatch.setattr(importing, "_MIN_SHARD_SAMPLES", 4)
    _write_sidecars(source, 120)
    first = import_source(source, "mine", root)
    num_shards = len(first.shards_written)
    assert num_shards >= 4
    (source / "0050.txt").write_text("another text")
    changed = import_source(source, "mine", root)
    assert (len(changed.shards_written), len(changed.shards_removed)) == (1, 0)
    (source / "0060a.png").write_bytes(picture(999))
    (source / "0060a.txt").write_text("new")
    added = import_source(source, "mine", root)
    assert len(added.shards_written) <= 3
    for index in range(60, 90):
        (source / f"{index:04d}.png").unlink()
    fewer = import_source(source, "mine", root)
    assert fewer.shards_removed
    kept = {f"{i:04d}.png" for i in range(120) if not 60 <= i < 90} | {"0060a.png"}
    assert set(_texts(fewer)) == kept


def test_shards_are_bounded(source: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importing, "MAX_SHARD_SAMPLES", 10)
    _write_sidecars(source, 35)
    report = import_source(source, "mine", root)
    sizes = [land_shard(shard, "mine").images.num_rows for shard in list_shards(report.folder)]
    assert sorted(sizes) == [5, 10, 10, 10]
    monkeypatch.setattr(importing, "MAX_SHARD_BYTES", 3 * len(picture(0, 20, 16)))
    report = import_source(source, "mine", root)
    assert max(land_shard(shard, "mine").images.num_rows for shard in list_shards(report.folder)) <= 4


def test_files_of_others_are_left_alone(source: Path, root: Path) -> None:
    _write_sidecars(source, 3)
    report = import_source(source, "mine", root)
    foreign = write_parquet(report.folder / "theirs.parquet", [{"image": picture(50), "text": "theirs"}])
    (source / "0001.txt").write_text("changed")
    import_source(source, "mine", root)
    assert foreign.is_file()


def test_quarantine_goes_when_its_cause_goes(source: Path, root: Path) -> None:
    _write_sidecars(source, 2)
    (source / "mute.png").write_bytes(picture(7))
    report = import_source(source, "mine", root)
    assert read_quarantine(report.folder).num_rows == 1
    (source / "mute.txt").write_text("now with a text")
    report = import_source(source, "mine", root)
    assert read_quarantine(report.folder).num_rows == 0
    assert report.num_samples == 3


def test_equal_images_with_one_key_each_keep_every_text(source: Path, root: Path) -> None:
    rows = [{"image": picture(0), "text": f"text {i}", "key": "same" if i < 2 else f"k{i}"} for i in range(4)]
    write_parquet(source / "a.parquet", rows)
    report = import_source(source, "mine", root)
    assert report.quarantined == {"duplicate_key": 1}
    assert sorted(_texts(report).values()) == ["text 0", "text 2", "text 3"]


def _missing(source: Path) -> Path:
    return source / "absent"


def _empty(source: Path) -> Path:
    return source


def _unknown(source: Path) -> Path:
    (source / "notes.md").write_text("x")
    return source


def _unknown_file(source: Path) -> Path:
    (source / "notes.md").write_text("x")
    return source / "notes.md"


def _mixed(source: Path) -> Path:
    _write_sidecars(source, 1)
    write_tar(source / "w.tar", [])
    return source


def _no_column(source: Path) -> Path:
    _write_sidecars(source, 1)
    (source / "captions.csv").write_text("file,label\n0000.png,x\n")
    return source


def _useless(source: Path) -> Path:
    (source / "a.png").write_bytes(b"x")
    (source / "a.txt").write_text("x")
    return source


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (_missing, "does not exist"),
        (_empty, "is empty; allowed are images"),
        (_unknown, "holds no image, tar or Parquet file"),
        (_unknown_file, r"neither a \.tar nor a \.parquet"),
        (_mixed, "mixes layouts .* put each into a folder of its own"),
        (_no_column, "has no column 'text'"),
        (_useless, r"none of its samples can be used \(1 broken_image"),
    ],
)
def test_bad_sources_are_one_sentence_and_touch_nothing(
    source: Path, root: Path, make: Callable[[Path], Path], message: str
) -> None:
    with pytest.raises(FoundryError, match=message):
        import_source(make(source), "mine", root)
    assert not (root / "mine").exists()
    assert not root.exists() or not list(root.iterdir())


@pytest.mark.parametrize("name", ["", "Mine", "-a", ".hidden", "a/b", "..", "a" * 65, "a b", "ä", "a\n"])
def test_bad_names_are_refused(source: Path, root: Path, name: str) -> None:
    _write_sidecars(source, 1)
    with pytest.raises(FoundryError, match="allowed are 1 to 64"):
        import_source(source, name, root)


def test_source_and_landing_root_must_not_overlap(source: Path, tmp_path: Path) -> None:
    _write_sidecars(source, 1)
    for root in (source, source / "landing", tmp_path):
        with pytest.raises(FoundryError, match="overlaps the landing folders"):
            import_source(source, "mine", root)
    (tmp_path / "link").symlink_to(source)
    with pytest.raises(FoundryError, match="overlaps"):
        import_source(tmp_path / "link", "mine", source)


def test_a_folder_that_no_import_made_is_refused(source: Path, root: Path) -> None:
    _write_sidecars(source, 1)
    (root / "mine").mkdir(parents=True)
    write_parquet(root / "mine" / "theirs.parquet", [{"image": picture(0), "text": "x"}])
    with pytest.raises(FoundryError, match="no import wrote"):
        import_source(source, "mine", root)
    (root / "mine" / IMPORT_FILE).write_text("{broken")
    with pytest.raises(FoundryError, match="is damaged"):
        import_source(source, "mine", root)


def test_a_failing_import_leaves_what_was_there(source: Path, root: Path) -> None:
    _write_sidecars(source, 40)
    report = import_source(source, "mine", root)
    before = _state(report.folder)

    def stop(done: int, total: int | None) -> None:
        if done == 20:
            raise KeyboardInterrupt

    (source / "0000.txt").write_text("changed")
    with pytest.raises(KeyboardInterrupt):
        import_source(source, "mine", root, stop)
    assert _state(report.folder) == before
    assert [path.name for path in root.iterdir()] == ["mine"]


def test_progress_counts_up_to_the_total(source: Path, root: Path) -> None:
    _write_sidecars(source, 4)
    seen: list[tuple[int, int | None]] = []
    import_source(source, "mine", root, lambda done, total: seen.append((done, total)))
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_bytes_are_equal_wherever_they_are_written(source: Path, tmp_path: Path) -> None:
    _write_sidecars(source, 6)
    first, second = (import_source(source, "mine", tmp_path / name / "landing") for name in "ab")
    assert {n: data for n, (data, _) in _state(first.folder).items()} == {
        n: data for n, (data, _) in _state(second.folder).items()
    }


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_root_that_cannot_be_written_is_one_sentence(source: Path, tmp_path: Path) -> None:
    _write_sidecars(source, 1)
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    with pytest.raises(FoundryError, match="cannot be written"):
        import_source(source, "mine", locked / "landing")


def test_a_root_that_is_a_file_is_one_sentence(source: Path, tmp_path: Path) -> None:
    _write_sidecars(source, 1)
    (tmp_path / "file").write_text("x")
    with pytest.raises(FoundryError, match="cannot be written"):
        import_source(source, "mine", tmp_path / "file" / "landing")
