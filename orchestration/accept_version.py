"""Declaring rows of an old function version equivalent to today's, so that they are not made again."""

from __future__ import annotations

from assets.graph.interfaces import Store
from assets.graph.steps import STEPS
from orchestration.resources.records import Acceptance, current_user, now
from orchestration.resources.store import ManifestStore
from training.errors import FoundryError


def accept_version(
    store: ManifestStore, asset: str, version: int | None, because: str, *, undo: bool = False
) -> list[Acceptance]:
    """Log that rows of an asset's older function version equal what today's would make; returns what was logged.

    Without ``version`` those that the stored versions were made by are meant. Raises FoundryError for an unknown
    asset or version, where there is nothing to declare, and where no reason is given.
    """
    if asset not in STEPS:
        raise FoundryError(f"There is no asset '{asset}'. Assets: {', '.join(STEPS)}.")
    today = STEPS[asset].function_version
    if not undo and not because.strip():
        raise FoundryError(
            "--because is empty. Say in a few words why the rows are equal; it is kept in the log."
        )
    standing = store.accepted_versions(asset)
    versions = sorted(standing) if undo else sorted(_stored_versions(store, asset) - standing - {today})
    if version is not None:
        _check(asset, version, today, standing, undo)
        versions = [version]
    if not versions:
        done = (
            "no version is declared equivalent"
            if undo
            else f"its rows were made by version {today}, today's, or one accepted before"
        )
        raise FoundryError(f"There is nothing to do for '{asset}': {done}.")
    records = [Acceptance(asset, old, today, because, current_user(), now(), undo) for old in versions]
    if undo:
        records = _undone(store, asset, records)
    for record in records:
        store.records.accept(record)
    return records


def _check(asset: str, version: int, today: int, standing: frozenset[int], undo: bool) -> None:
    if undo and version not in standing:
        known = ", ".join(map(str, sorted(standing))) or "none"
        raise FoundryError(f"Version {version} of '{asset}' is not accepted. Accepted: {known}.")
    if not 1 <= version < today:
        raise FoundryError(
            f"--from is {version}, but the function of '{asset}' is at version {today}; older versions are "
            f"{', '.join(map(str, range(1, today))) or 'none'}."
        )


def _undone(store: ManifestStore, asset: str, records: list[Acceptance]) -> list[Acceptance]:
    """One undoing for each declaration that a version was accepted by, whatever was today's version then."""
    made = {(old.version, old.equivalent_to) for old in store.records.acceptances(asset)}
    versions = {record.version: record for record in records}
    return [
        Acceptance(asset, old, new, versions[old].because, versions[old].who, versions[old].when, undo=True)
        for old, new in sorted(made)
        if old in versions
    ]


def _stored_versions(store: Store, name: str) -> set[int]:
    """Function versions that the current versions of an asset were made by."""
    keys: list[str | None] = [*store.partitions(name)] or [None]
    found = (store.current(name, key) for key in keys)
    return {manifest.provenance.function_version for manifest in found if manifest is not None}
