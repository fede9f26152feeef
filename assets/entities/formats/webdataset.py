"""WebDataset: plain tars in which ``<sample_id>.<jpg|png|...>`` and ``<sample_id>.json`` stand side by side.

The JSON holds everything but the image's bytes and, as ``caption``, the first caption, so that readers that know one
text per image find it. Shards are cut by number of samples and by bytes; equal input gives equal bytes.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from assets.entities.formats.records import AnnotatedImage, as_json, from_json, image_path_of
from training.errors import FoundryError

SHARD_SAMPLES, SHARD_BYTES = 1000, 256 * 2**20


def write_webdataset(
    folder: Path,
    records: Iterable[AnnotatedImage],
    split: str = "train",
    shard_samples: int = SHARD_SAMPLES,
    shard_bytes: int = SHARD_BYTES,
) -> int:
    """Write tars ``<split>-000000.tar`` ...; returns the number of samples. Memory holds one sample."""
    folder.mkdir(parents=True, exist_ok=True)
    archive: tarfile.TarFile | None = None
    num_samples = num_shards = in_shard = filled = 0
    try:
        for record in records:
            if archive is None or in_shard >= shard_samples or filled >= shard_bytes:
                if archive is not None:
                    archive.close()
                archive = tarfile.open(folder / f"{split}-{num_shards:06d}.tar", "w")  # noqa: SIM115
                num_shards, in_shard, filled = num_shards + 1, 0, 0
            path = PurePosixPath(image_path_of(record))
            content = {**as_json(record), "caption": record.global_caption}
            text = json.dumps(content, ensure_ascii=False).encode("utf-8", "replace")
            if record.image is not None:
                _add(archive, path.name, record.image)
            _add(archive, f"{path.stem}.json", text)
            num_samples, in_shard = num_samples + 1, in_shard + 1
            filled += len(text) + len(record.image or b"")
    finally:
        if archive is not None:
            archive.close()
    return num_samples


def read_webdataset(path: Path) -> Iterator[AnnotatedImage]:
    """Samples of a folder of tars, or of one, as :func:`write_webdataset` left them.

    Raises FoundryError for a damaged tar or a JSON that is not of the form.
    """
    for file in [path] if path.is_file() else sorted(path.glob("*.tar")):
        try:
            with tarfile.open(file, "r:") as archive:
                yield from _samples(archive, file.name)
        except (tarfile.TarError, OSError, EOFError) as error:
            raise FoundryError(f"{file}: is damaged ({error}). Download or export it again.") from error


def _samples(archive: tarfile.TarFile, where: str) -> Iterator[AnnotatedImage]:
    images: dict[str, bytes] = {}
    for member in archive:
        if not member.isfile():
            continue
        stem, _, suffix = member.name.rpartition(".")
        file = archive.extractfile(member)
        data = file.read() if file else b""
        if suffix != "json":
            images = {stem: data}  # the image stands right before its JSON
            continue
        try:
            values = json.loads(data)
        except ValueError as error:
            raise FoundryError(f"{where}: {member.name} is not JSON ({error}). Export it again.") from error
        yield from_json(values, images.get(stem), f"{where}: {member.name}")


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)  # no time, no owner: equal input gives equal bytes
    member.size = len(data)
    archive.addfile(member, io.BytesIO(data))
