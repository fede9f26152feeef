"""Checkpoints on disk: found, known by their contents, refused where they would load wrongly."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from evaluation.perception.hub.weights import check_checkpoint, resolve_folder, weights_digest
from training.digests import sha256_bytes
from training.errors import FoundryError


def folder_with(folder: Path, **files: bytes) -> Path:
    folder.mkdir(exist_ok=True)
    for name, data in files.items():
        (folder / name.replace("__", ".")).write_bytes(data)
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return folder_with(
        tmp_path / "m", config__json=b'{"model_type": "sam"}', model__safetensors=b"w", README__md=b"hello"
    )


def test_digest_is_of_the_contents_that_count(folder: Path) -> None:
    first = weights_digest(folder)
    pairs = [
        ["config.json", sha256_bytes(b'{"model_type": "sam"}')],
        ["model.safetensors", sha256_bytes(b"w")],
    ]
    assert first == sha256_bytes(json.dumps(pairs, separators=(",", ":")).encode())
    (folder / "README.md").write_bytes(b"other")
    assert weights_digest(folder) == first
    for name in ("model.safetensors", "tokenizer.json", "chat_template.jinja"):
        (folder / name).write_bytes(b"v")
        second = weights_digest(folder)
        assert second != first
        first = second


def test_cache_spares_hashing_and_notices_changes(folder: Path, tmp_path: Path) -> None:
    cache = tmp_path / "deep" / "digests.json"
    first = weights_digest(folder, cache)
    weights = folder / "model.safetensors"
    stat = weights.stat()
    weights.write_bytes(b"W")  # as long as before, and dated back: the cache cannot know
    os.utime(weights, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert weights_digest(folder, cache) == first != weights_digest(folder)
    os.utime(weights, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    assert weights_digest(folder, cache) == weights_digest(folder)
    cache.write_text("{damaged")
    assert weights_digest(folder, cache) == weights_digest(folder)
    assert weights_digest(folder, weights / "no" / "place") == weights_digest(folder)


def test_a_snapshot_made_of_links_has_the_digest_of_its_files(folder: Path, tmp_path: Path) -> None:
    linked = tmp_path / "linked"
    linked.mkdir()
    for path in folder.iterdir():
        (linked / path.name).symlink_to(path)
    assert weights_digest(linked) == weights_digest(folder)


def test_resolves_a_folder_and_a_hub_id_in_the_local_cache(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert resolve_folder(str(folder)) == folder
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "hub" / "models--org--tiny"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    snapshot = folder_with(tmp_path / "snap", config__json=b"{}")
    (repository / "snapshots").mkdir()
    snapshot.rename(repository / "snapshots" / commit)
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    assert resolve_folder("org/tiny").name == commit
    assert resolve_folder("org/tiny", commit).name == commit
    with pytest.raises(FoundryError, match=r"path 'org/tiny' at revision 'v9'.*local folder"):
        resolve_folder("org/tiny", "v9")


@pytest.mark.parametrize("path", ["/no/such/folder", "./nowhere", "a b", "one/two/three"])
def test_refuses_what_is_neither_folder_nor_hub_id(path: str) -> None:
    with pytest.raises(FoundryError, match="no such folder. Give the folder of a checkpoint"):
        resolve_folder(path)


def test_an_unknown_hub_id_names_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(FoundryError, match=r"HF_HUB_OFFLINE.*hf download org/absent"):
        resolve_folder("org/absent")


def test_refuses_pickles_other_families_and_broken_configurations(folder: Path) -> None:
    assert check_checkpoint(folder, "sam")["model_type"] == "sam"
    with pytest.raises(
        FoundryError, match="model_type is 'sam', but family 'owlv2' loads owlv2. Set family to 'sam'"
    ):
        check_checkpoint(folder, "owlv2")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(FoundryError, match=r"only pytorch_model.bin, which can run code"):
        check_checkpoint(folder, "sam")
    (folder / "config.json").write_text("[1")
    with pytest.raises(FoundryError, match="no readable configuration"):
        check_checkpoint(folder, "sam")
    (folder / "config.json").unlink()
    with pytest.raises(FoundryError, match="no readable configuration"):
        check_checkpoint(folder, "sam")
