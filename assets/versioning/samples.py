"""Row-level lineage: from each training caption of a sample back to its model, prompt, image, shard and licence.

Rows are looked up in the very versions that the data set's provenance names, never in the newest ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow.compute as pc

from assets.encodings.text import text_id
from assets.graph.interfaces import Store
from assets.graph.lineage import trace_version, walk
from assets.graph.steps import input_label
from assets.graph.versions import Manifest
from assets.versioning.impact import SAMPLES_FILE
from assets.versioning.subjects import is_one_of
from training.errors import FoundryError

_IMAGE_COLUMNS = (
    "sample_id",
    "image_id",
    "source",
    "shard",
    "key",
    "split",
    "license",
    "attribution",
    "alt_text",
)
_MADE_BY = ("model", "model_digest", "function_version")
_CAPTION_COLUMNS = ("caption_index", "caption", "prompt", "decoding", "seed", "score", *_MADE_BY)


@dataclass(frozen=True)
class SampleLineage:
    """A training sample and where all of it came from.

    ``image`` are facts of the landed image, ``captions`` one record a training caption, ``derived`` which models made
    the other rows behind the sample (regions, latents, embeddings), ``versions`` the versions they were found in.
    """

    sample_id: str
    dataset: str
    image: dict[str, Any]
    captions: list[dict[str, Any]]
    derived: dict[str, list[dict[str, Any]]]
    versions: dict[str, str]


def sample_lineage(store: Store, name: str, partition: str | None, sample: str) -> SampleLineage:
    """Trace one sample of the newest version of a data set; ``sample`` is its id or the first digits of it.

    Raises FoundryError when ``name`` is no data set, holds no such sample, or what it was made from was collected.
    """
    dataset = store.require(name, partition)
    row = _dataset_row(store, dataset, sample)
    sample_id = row["sample_id"]
    behind = [node.manifest for _, node in walk(trace_version(store, dataset)) if node.manifest is not None]
    read: dict[str, str] = {}
    landed = _rows(store, behind, "landed_images", sample_id, _IMAGE_COLUMNS, read)
    if not landed:
        raise FoundryError(
            f"'{sample_id}' is in {name} {dataset.digest[:12]}, but the landed images that it was made from hold it no "
            "more: their bytes were collected. Trace it in a newer version."
        )
    recaptions = _rows(store, behind, "recaptions", sample_id, _CAPTION_COLUMNS, read)
    derived = {
        table: _distinct(_rows(store, behind, table, sample_id, columns, read))
        for table, columns in (
            ("regions", _MADE_BY),
            ("image_latents", _MADE_BY),
        )
    }
    captions = [
        _caption(index, text, landed[0], recaptions) for index, text in enumerate(row.get("captions") or [])
    ]
    embeddings = _embeddings(store, behind, [caption["caption"] for caption in captions], read)
    for caption in captions:
        caption["encoder"] = embeddings.get(text_id(caption["caption"]))
    return SampleLineage(sample_id, f"{name} {dataset.digest}", landed[0], captions, derived, read)


def _dataset_row(store: Store, dataset: Manifest, sample: str) -> dict[str, Any]:
    files = tuple(file for file in dataset.files if file.path.endswith(f"/{SAMPLES_FILE}"))
    if not files:
        raise FoundryError(
            f"'{dataset.name}' holds no list of samples, so none can be traced in it. Name a data set, such as training_shards."
        )
    scan = store.scan(replace(dataset, files=files))
    found: list[dict[str, Any]] = scan.to_table(
        filter=pc.starts_with(pc.field("sample_id"), sample)
    ).to_pylist()
    if len(found) == 1:
        return found[0]
    if found:
        raise FoundryError(f"'{sample}' is the beginning of {len(found)} sample ids. Give more digits.")
    raise FoundryError(
        f"'{sample}' is no sample of {dataset.name} {dataset.digest[:12]}, which has {scan.count_rows():,}. "
        "`foundry impact` says where a sample went."
    )


def _rows(
    store: Store,
    behind: Sequence[Manifest],
    name: str,
    sample_id: str,
    columns: Iterable[str],
    read: dict[str, str],
) -> list[dict[str, Any]]:
    """Rows of one sample in the versions of a table behind the data set; notes in ``read`` where they were found."""
    found: list[dict[str, Any]] = []
    for version in behind:
        if version.name != name or store.collected(version) is not None:
            continue
        scan = store.scan(version, verify=False)
        known = [column for column in columns if column in scan.schema.names]
        rows = scan.to_table(known, filter=is_one_of("sample_id", [sample_id])).to_pylist()
        if rows:
            store.scan(version)  # what is shown was verified
            read[input_label(name, version.partition)] = version.digest
            found += rows
    return found


def _caption(
    index: int, text: str, image: dict[str, Any], recaptions: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """A training caption with what made it; the original alt-text was made by nobody here."""
    made = next((row for row in recaptions if row["caption"] == text), None)
    if index == 0 or made is None:
        origin = "alt-text" if text == image["alt_text"] else "unknown"
        return {"position": index, "caption": text, "from": origin, **dict.fromkeys(_CAPTION_COLUMNS[2:])}
    about = {column: made.get(column) for column in _CAPTION_COLUMNS[2:]}
    return {
        "position": index,
        "caption": text,
        "from": f"recaptions, caption {made['caption_index']}",
        **about,
    }


def _embeddings(
    store: Store, behind: Sequence[Manifest], captions: Sequence[str], read: dict[str, str]
) -> dict[str, str]:
    """The text encoder behind each caption (name and the first digits of its digest), by text id."""
    wanted = [text_id(caption) for caption in captions]
    found: dict[str, str] = {}
    for version in behind:
        if version.name != "text_embeddings" or store.collected(version) is not None:
            continue
        rows = store.scan(version, verify=False).to_table(
            ["text_id", "model", "model_digest"], filter=is_one_of("text_id", wanted)
        )
        for row in rows.to_pylist():
            found.setdefault(row["text_id"], f"{row['model']} {row['model_digest'][:12]}")
            read.setdefault(input_label(version.name, version.partition), version.digest)
    return found


def _distinct(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return list({tuple(row.items()): row for row in rows}.values())
