"""Shards of a dataset by URL, brought into a bounded folder of this machine ahead of their use and removed after it."""

from __future__ import annotations

import fcntl
import hashlib
import threading
import time
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from training.digests import sha256_file
from training.errors import FoundryError, write_error
from training.shards.description import (
    DESCRIPTION_FILE,
    LATENT_FORMAT,
    digest_from_description,
    parse_description,
)
from training.shards.gathering import MappedArrays

ATTEMPTS = 3
BLOCK_BYTES = 8 * 2**20


class RemoteDataset:
    """A dataset folder by fsspec URL: its description, and its files one at a time."""

    def __init__(self, url: str) -> None:
        import fsspec

        self.url = url.rstrip("/")
        try:
            self._files, root = fsspec.core.url_to_fs(self.url)
        except (ImportError, ValueError) as error:
            raise FoundryError(
                f"{self.url}: cannot be reached ({error}); install the extra 's3' or 'gcs', or correct the URL"
            ) from error
        self._root = root.rstrip("/")
        where = f"{self.url}/{DESCRIPTION_FILE}"
        try:
            text = self._files.cat_file(f"{self._root}/{DESCRIPTION_FILE}").decode("utf-8")
        except (OSError, ValueError) as error:
            raise FoundryError(
                f"{where}: cannot be read ({error}); name the folder of a dataset that was written whole"
            ) from error
        self.description = parse_description(text, where, LATENT_FORMAT)
        self.digest = digest_from_description(text, self.description.files)

    def fetch(self, name: str, target: Path) -> None:
        """Bring one file here, its sha256 verified. Raises FoundryError after a few attempts, or when the disk is full."""
        for attempt in range(1, ATTEMPTS + 1):
            problem = self._try_fetch(name, target)
            if problem is None:
                return
            time.sleep(0.1 * attempt**2)
        raise FoundryError(
            f"{self.url}/{name}: cannot be staged, {problem} ({ATTEMPTS} attempts); restore the file and launch again"
        )

    def obtain(self, name: str, folder: Path) -> None:
        """Have one file in ``folder``: fetched, unless it is there already and whole."""
        target = folder / name
        if not target.is_file() or sha256_file(target) != self.description.files[name]:
            self.fetch(name, target)

    def _try_fetch(self, name: str, target: Path) -> str | None:
        temporary = target.with_name(f".{target.name}.tmp")
        found = hashlib.sha256()
        try:
            with self._files.open(f"{self._root}/{name}", "rb") as source:
                _copy(source, temporary, found)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            return str(error)
        if found.hexdigest() != self.description.files[name]:
            temporary.unlink()
            return "its sha256 differs from dataset.json"
        temporary.replace(target)
        return None


class Stager:
    """Keeps the shards that are needed now in a local folder, and fetches the next ones in a thread.

    ``arrays`` names what of a shard is read; ``mapped`` lets go of a shard before its files are removed.
    """

    def __init__(
        self,
        remote: RemoteDataset,
        cache: Path,
        limit_bytes: int,
        arrays: Sequence[str],
        mapped: MappedArrays,
    ) -> None:
        self._remote, self._limit, self._mapped = remote, limit_bytes, mapped
        self._cache = cache
        about = remote.description
        self._names = [about.shard_files(shard, arrays) for shard in range(len(about.shards))]
        self._sizes = [sum(about.sizes[name] for name in names) for names in self._names]
        self._condition = threading.Condition()
        self._staged: dict[int, None] = {}  # least recently needed first
        self._wanted: tuple[int, ...] = ()
        self._fetching: int | None = None
        self._error: BaseException | None = None
        self._last: tuple[Sequence[int], Sequence[int]] | None = None
        self._closed = threading.Event()
        self._thread = threading.Thread(
            target=_fetch_wanted, args=(weakref.ref(self), self._condition, self._closed), daemon=True
        )
        self.seconds_waited = 0.0
        for name in about.shared_files():
            remote.obtain(name, cache)
        weakref.finalize(self, self._closed.set)
        self._thread.start()

    def require(self, now: Sequence[int], then: Sequence[int] = ()) -> None:
        """Return once the shards of ``now`` are here; those of ``then`` are fetched as far as there is room.

        Raises FoundryError when they do not fit into the cache or cannot be fetched.
        """
        if self._last == (now, then) and self._error is None:
            return
        begin = time.monotonic()
        keep = self._plan(now, then)
        with self._condition:
            self._wanted = tuple(keep)
            for shard in keep:
                if shard in self._staged:
                    self._staged[shard] = self._staged.pop(shard)
            while not all(shard in self._staged for shard in now):
                self._raise_error()
                self._make_room(keep)
                self._condition.notify_all()
                self._condition.wait(1.0)
            self._make_room(keep)
            self._condition.notify_all()
        self._last = (now, then)
        self.seconds_waited += time.monotonic() - begin

    def wait(self, shards: Sequence[int]) -> None:
        """Return once somebody required these shards and they are here. For threads that work ahead."""
        with self._condition:
            while not all(shard in self._staged for shard in shards):
                self._raise_error()
                if self._closed.is_set():
                    raise FoundryError(f"{self._remote.url}: staging was closed")
                self._condition.wait(0.2)

    def close(self) -> None:
        """End the thread; what is staged stays for the next run."""
        self._closed.set()
        with self._condition:
            self._condition.notify_all()

    def _plan(self, now: Sequence[int], then: Sequence[int]) -> list[int]:
        """What to keep, most urgent first: all of ``now``, of ``then`` what fits."""
        keep = list(dict.fromkeys(now))
        total = sum(self._sizes[shard] for shard in keep)
        if total > self._limit:
            raise FoundryError(
                f"{self._remote.url}: {len(keep)} shards of {total / 2**30:.3g} GiB are needed at once, local_cache_gib "
                f"allows {self._limit / 2**30:.3g}; raise it, lower dataset.buffer_shards, or set dataset.order to "
                "'blocks'"
            )
        for shard in dict.fromkeys(then):
            if shard not in keep and total + self._sizes[shard] <= self._limit:
                keep.append(shard)
                total += self._sizes[shard]
        return keep

    def _make_room(self, keep: Sequence[int]) -> None:
        """Remove shards that are not kept, the longest unused first, until all that is kept fits."""
        present = {*self._staged, *keep, *([] if self._fetching is None else [self._fetching])}
        total = sum(self._sizes[shard] for shard in present)
        for shard in list(self._staged):
            if total <= self._limit:
                return
            if shard not in keep:
                del self._staged[shard]
                self._mapped.forget(shard)
                for name in self._names[shard]:
                    (self._cache / name).unlink(missing_ok=True)
                total -= self._sizes[shard]

    def _next_to_fetch(self) -> int | None:
        """The most urgent shard that is missing and has room. Called with the lock held."""
        held = sum(self._sizes[shard] for shard in self._staged)
        for shard in self._wanted:
            if shard not in self._staged:
                return shard if held + self._sizes[shard] <= self._limit else None
        return None

    def _raise_error(self) -> None:
        if self._error is not None:
            raise self._error

    def _step(self) -> bool:
        """Fetch one shard, if any is wanted. The thread's work; an error is kept for whoever needs the shard."""
        with self._condition:
            shard = self._next_to_fetch()
            self._fetching = shard
        if shard is None:
            return False
        try:
            for name in self._names[shard]:
                self._remote.obtain(name, self._cache)
        except FoundryError as error:
            with self._condition:
                self._error, self._fetching = error, None
                self._condition.notify_all()
            self._closed.set()
            return False
        with self._condition:
            self._staged[shard], self._fetching = None, None
            self._condition.notify_all()
        return True


def _fetch_wanted(
    stager: weakref.ref[Stager], condition: threading.Condition, closed: threading.Event
) -> None:
    """The thread: fetch while something is wanted, and end with its stager."""
    while not closed.is_set():
        owner = stager()
        if owner is None:
            return
        worked = owner._step()
        del owner
        if not worked:
            with condition:
                condition.wait(0.2)


def _copy(source: Any, target: Path, digest: Any) -> None:
    """Copy in blocks while hashing; errors of reading pass on. Raises FoundryError when this machine's disk is full."""
    try:
        file = target.open("wb", buffering=0)
    except OSError as error:
        raise write_error(target, error) from error
    with file:
        while block := source.read(BLOCK_BYTES):
            digest.update(block)
            _write(file, target, memoryview(block))


def _write(file: IO[bytes], target: Path, block: memoryview) -> None:
    while block:
        try:
            block = block[file.write(block) :]
        except OSError as error:
            raise write_error(target, error) from error


def claim_cache(root: Path, digest: str) -> tuple[Path, IO[str]]:
    """A folder below ``root`` that this process alone uses while it holds the file returned.

    Another process of this machine that trains on the same dataset gets another folder; one that ended leaves its
    folder, and the next finds its shards there.
    """
    base = root / digest[:16]
    try:
        base.mkdir(parents=True, exist_ok=True)
        number = 0
        while (lock := _try_lock(base / f"{number}.lock")) is None:
            number += 1
        folder = base / str(number)
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise write_error(base, error) from error
    return folder, lock


def _try_lock(path: Path) -> IO[str] | None:
    file = path.open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file
