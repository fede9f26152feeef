"""Where an image or sample went: every table version that holds a row of it, every model that was made with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import reduce
from operator import or_
from typing import Any

import pyarrow.compute as pc

from assets.graph.interfaces import Store
from assets.graph.steps import input_label
from assets.graph.versions import Manifest
from assets.versioning.naming import State, state_of
from assets.versioning.subjects import Subject, is_one_of, keys_of, stored_versions

SAMPLES_FILE = "samples.parquet"
MAY_SHOW = "may show it"
HELD_OUT = frozenset({"held_out_images", "held_out_concepts"})


@dataclass(frozen=True)
class Holding:
    """A version that holds something of the subject; ``num_rows`` of it, found by ``by`` (the columns that matched).

    Pages of pictures that were made from such a version count too, with no rows and MAY_SHOW.
    """

    name: str
    partition: str | None
    digest: str
    state: State
    num_rows: int
    by: str
    splits: tuple[str, ...] = ()


@dataclass(frozen=True)
class ModelUse:
    """A model version and what the subject was to it: trained on, evaluated on, or an ancestor's training data."""

    name: str
    partition: str | None
    digest: str
    state: State
    role: str
    by_way_of: str


@dataclass(frozen=True)
class Impact:
    """All that came of a subject. ``is_removed`` says whether its image is taken down."""

    subject: Subject
    is_removed: bool
    holdings: list[Holding]
    models: list[ModelUse]

    @property
    def trained(self) -> list[ModelUse]:
        """Models that were trained on it, themselves or by way of an ancestor."""
        return [model for model in self.models if model.role != "evaluated on"]


def impact(store: Store, subject: Subject) -> Impact:
    """Look through every stored version. Bytes are not verified: this looks, it does not compute."""
    holdings: list[Holding] = []
    if subject.is_known:
        holdings = [*_holding_tables(store, subject), *_holding_folders(store, subject)]
        holdings += _showing_folders(store, subject, holdings)
    models = _models(store, subject, holdings)
    return Impact(subject, subject.image_id in store.takedowns(), holdings, models)


# -- what holds it ---------------------------------------------------------------------------------------


def _keys_to_search(store: Store, name: str, subject: Subject) -> list[str | None]:
    """Partitions that can hold a row: of a table in shard groups only those in which the sample landed."""
    keys = keys_of(store, name)
    groups = set(store.partitions("landed_images"))
    if groups and set(keys) <= groups:
        return [key for key in keys if key in subject.partitions]
    return keys


def _versions(store: Store, subject: Subject, kind: str) -> Iterator[tuple[Manifest, State]]:
    for name in store.names():
        for key in _keys_to_search(store, name, subject):
            current = store.current(name, key)
            for version in stored_versions(store, name, key):
                if version.kind == kind:
                    yield version, state_of(store, version, current)


def _holding_tables(store: Store, subject: Subject) -> Iterator[Holding]:
    known: dict[tuple[str, ...], _Rows] = {}  # versions may share their files
    for version, state in _versions(store, subject, "table"):
        files = (version.name, *(file.sha256 for file in version.files))
        if files not in known:
            known[files] = _count_rows(store, version, _ids_by_column(subject, version.name))
        rows = known[files]
        if rows.number:
            label = (version.name, version.partition, version.digest, state)
            yield Holding(*label, rows.number, rows.by, rows.splits)


def _ids_by_column(subject: Subject, table: str) -> Mapping[str, frozenset[str]]:
    if table.endswith("_units"):
        return {"key": subject.sample_ids | subject.text_ids | subject.entity_ids}
    return {
        "image_id": frozenset({subject.image_id}) if subject.is_image else frozenset(),
        "sample_id": subject.sample_ids,
        "text_id": subject.text_ids,
        "prompt_id": subject.text_ids,
        "entity_id": subject.entity_ids,
    }


@dataclass(frozen=True)
class _Rows:
    """Rows of one version that carry an id of the subject, the columns that do, and splits where they were kept."""

    number: int = 0
    by: str = ""
    splits: tuple[str, ...] = ()


def _count_rows(store: Store, version: Manifest, by_column: Mapping[str, frozenset[str]]) -> _Rows:
    scan = store.scan(version, verify=False)
    columns = [name for name, ids in by_column.items() if ids and name in scan.schema.names]
    if not columns:
        return _Rows()
    which: Any = reduce(or_, (is_one_of(name, by_column[name]) for name in columns))
    splits: tuple[str, ...] = ()
    if {"keep", "split"} <= set(scan.schema.names):
        kept = scan.to_table(["split"], filter=which & pc.field("keep"))
        splits = tuple(sorted(set(kept["split"].to_pylist())))
    return _Rows(scan.count_rows(filter=which), ", ".join(columns), splits)


def _holding_folders(store: Store, subject: Subject) -> Iterator[Holding]:
    for version, state in _versions(store, subject, "folder"):
        splits = splits_in_dataset(store, version, subject.sample_ids)
        if splits:
            label = (version.name, version.partition, version.digest, state, len(splits))
            yield Holding(*label, "sample_id", tuple(sorted(set(splits.values()))))


def _showing_folders(store: Store, subject: Subject, holdings: list[Holding]) -> Iterator[Holding]:
    """Pages and figures made from something that holds it: they may show it, and nothing in them tells."""
    held = {(input_label(holding.name, holding.partition), holding.digest) for holding in holdings}
    known = {(holding.name, holding.digest) for holding in holdings}
    for version, state in _versions(store, subject, "folder"):
        if is_model(version) or (version.name, version.digest) in known:
            continue
        if held & set(version.provenance.inputs.items()):
            yield Holding(version.name, version.partition, version.digest, state, 0, MAY_SHOW)


def splits_in_dataset(store: Store, version: Manifest, sample_ids: frozenset[str]) -> dict[str, str]:
    """Those of some samples that a dataset folder holds, with the split of each; empty for any other folder."""
    files = tuple(file for file in version.files if file.path.endswith(f"/{SAMPLES_FILE}"))
    if not files or not sample_ids:
        return {}
    scan = store.scan(replace(version, files=files), verify=False)
    rows = scan.to_table(["sample_id", "split"], filter=is_one_of("sample_id", sample_ids))
    return dict(zip(rows["sample_id"].to_pylist(), rows["split"].to_pylist(), strict=True))


# -- models ----------------------------------------------------------------------------------------------


def _models(store: Store, subject: Subject, holdings: list[Holding]) -> list[ModelUse]:
    folders = [pair for pair in _versions(store, subject, "folder") if is_model(pair[0])]
    found: dict[tuple[str, str], ModelUse] = {}
    for version, state in folders:
        label = input_label(version.name, version.partition)
        role = _role(version, holdings)
        if role is not None:
            found[(label, version.digest)] = _use(version, state, *role)
        elif subject.image_id in store.marked_images(version):
            found[(label, version.digest)] = _use(version, state, "trained on", "the mark of its removal")
    _add_descendants(folders, found)
    return list(found.values())


def _role(version: Manifest, holdings: list[Holding]) -> tuple[str, str] | None:
    """What the subject was to a model that read one of the versions that hold it, and which version that was."""
    evaluated: tuple[str, str] | None = None
    for holding in holdings:
        label = input_label(holding.name, holding.partition)
        if not holding.splits or version.provenance.inputs.get(label) != holding.digest:
            continue
        by_way_of = f"{label} {holding.digest[:12]}"
        if set(holding.splits) & set(trained_splits_of(version)):
            return "trained on", by_way_of
        if set(holding.splits) & HELD_OUT:
            evaluated = ("evaluated on", by_way_of)
    return evaluated


def is_model(version: Manifest) -> bool:
    """Whether a version is a trained model: its settings are a recipe, which names a data set."""
    return version.kind == "folder" and isinstance(version.provenance.config.get("dataset"), Mapping)


def trained_splits_of(version: Manifest) -> tuple[str, ...]:
    """Splits that a model trains on, by its recipe; none for one that is only cut out of another."""
    dataset = version.provenance.config.get("dataset")
    splits = dataset.get("splits") if isinstance(dataset, Mapping) else None
    return ("train",) if splits is None else tuple(splits)


def _use(version: Manifest, state: State, role: str, by_way_of: str) -> ModelUse:
    return ModelUse(version.name, version.partition, version.digest, state, role, by_way_of)


def _add_descendants(folders: list[tuple[Manifest, State]], found: dict[tuple[str, str], ModelUse]) -> None:
    """Models made from a model that was trained on it, however many steps away."""
    trained = {key for key, use in found.items() if use.role == "trained on"}
    while True:
        fresh = {}
        for version, state in folders:
            key = (input_label(version.name, version.partition), version.digest)
            parents = [
                label for label, digest in version.provenance.inputs.items() if (label, digest) in trained
            ]
            if parents and key not in trained:
                fresh[key] = _use(version, state, "descends from one trained on", parents[0])
        if not fresh:
            return
        found.update(fresh)
        trained |= fresh.keys()
