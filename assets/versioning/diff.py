"""What differs between two versions of a table or folder: added, removed and changed, and why.

Rows are matched by the table's key columns. Where a key occurs more than once, rows that are equal in both versions
cancel out first; what is left is matched in pairs (changed), and the rest is added or removed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from assets.graph.interfaces import Store
from assets.graph.schemas import table_keys
from assets.graph.versions import Manifest, StoredFile
from assets.versioning.naming import WORDS, check_partition, find, parse_time, resolve
from assets.versioning.reasons import Pair, reasons_for
from assets.versioning.rows import RowChange, compare_rows
from training.errors import FoundryError


@dataclass(frozen=True)
class Difference:
    """What differs between two versions of ``name`` (rows of a table, files of a folder).

    ``changed_columns`` counts changed rows by column. ``examples`` are the first changes in order of key.
    """

    name: str
    kind: str
    keys: tuple[str, ...]
    before: dict[str, str]  # partition ("" where there are none): digest
    after: dict[str, str]
    num_before: int
    num_after: int
    added: int
    removed: int
    changed: int
    changed_columns: dict[str, int]
    new_columns: tuple[str, ...]
    gone_columns: tuple[str, ...]
    reasons: list[str]
    examples: list[RowChange]

    @property
    def unchanged(self) -> int:
        """Rows or files that are equal in both."""
        return self.num_before - self.removed - self.changed


def diff(
    store: Store,
    name: str,
    before: str = "previous",
    after: str = "current",
    partition: str | None = None,
    limit: int = 20,
) -> Difference:
    """Compare two versions by the names of :func:`assets.versioning.naming.resolve`; all partitions unless one is named.

    Raises FoundryError when a version does not exist, was collected, or the two are not of one kind.
    """
    pairs = _pairs(store, name, before, after, partition)
    kinds = {version.kind for pair in pairs for version in pair if version is not None}
    if len(kinds) > 1:
        raise FoundryError(
            f"'{name}' was a table in one version and a folder in the other; compare newer ones."
        )
    return (
        _diff_folders(name, pairs, limit) if kinds == {"folder"} else _diff_tables(store, name, pairs, limit)
    )


def _pairs(store: Store, name: str, before: str, after: str, partition: str | None) -> list[Pair]:
    """The (before, after) versions of each partition that is meant."""
    keys = check_partition(store, name, partition)
    if len(keys) == 1:
        return [(resolve(store, name, keys[0], before), resolve(store, name, keys[0], after))]
    if all(word in WORDS or parse_time(word) is not None for word in (before, after)):
        pairs = [(find(store, name, key, before), find(store, name, key, after)) for key in keys]
        # Without an earlier version a partition is what it always was: only a time can say that it was not there.
        pairs = [(old or (new if before == "previous" else None), new) for old, new in pairs]
        if all(version is None for pair in pairs for version in pair):
            raise FoundryError(
                f"No partition of '{name}' has a version '{before}' or '{after}'. See `foundry versions {name}`."
            )
        return pairs
    # A digest belongs to one partition, which it tells by itself.
    found = [key for key in keys if find(store, name, key, before) and find(store, name, key, after)]
    if len(found) != 1:
        raise FoundryError(
            f"'{name}' has {len(keys)} partitions, and {'several have' if found else 'none has'} both '{before}' and "
            f"'{after}'. Name one: --partition {keys[0]}."
        )
    return [(resolve(store, name, found[0], before), resolve(store, name, found[0], after))]


def _labels(versions: Sequence[Manifest | None]) -> dict[str, str]:
    return {version.partition or "": version.digest for version in versions if version is not None}


# -- folders ---------------------------------------------------------------------------------------------


def relative_files(manifest: Manifest) -> dict[str, StoredFile]:
    """Files of a folder version by their path inside it."""
    base = f"/folders/{manifest.digest}/"
    return {file.path.partition(base)[2]: file for file in manifest.files}


def _diff_folders(name: str, pairs: Sequence[Pair], limit: int) -> Difference:
    changes: list[RowChange] = []
    num_before = num_after = 0
    for before, after in pairs:
        old, new = (relative_files(version) if version is not None else {} for version in (before, after))
        num_before, num_after = num_before + len(old), num_after + len(new)
        version = after or before
        where = {"partition": version.partition} if version is not None and len(pairs) > 1 else {}
        for path in sorted(old.keys() | new.keys()):
            kind = "added" if path not in old else "removed" if path not in new else "changed"
            if kind == "changed" and old[path].sha256 == new[path].sha256:
                continue
            sizes = {"bytes": (_size(old.get(path)), _size(new.get(path)))}
            changes.append(RowChange(kind, {**where, "file": path}, sizes))
    counts = Counter(change.kind for change in changes)
    return Difference(
        name,
        "folder",
        ("file",),
        _labels([before for before, _ in pairs]),
        _labels([after for _, after in pairs]),
        num_before,
        num_after,
        added=counts["added"],
        removed=counts["removed"],
        changed=counts["changed"],
        changed_columns={},
        new_columns=(),
        gone_columns=(),
        reasons=reasons_for(pairs),
        examples=changes[:limit],
    )


def _size(file: StoredFile | None) -> int | None:
    return None if file is None else file.size_bytes


# -- tables ----------------------------------------------------------------------------------------------


def _diff_tables(store: Store, name: str, pairs: Sequence[Pair], limit: int) -> Difference:
    old, new = without_common_files(pairs)
    rows = compare_rows(store, name, old, new, table_keys(name), limit)
    return Difference(
        name,
        "table",
        rows.keys or table_keys(name),
        _labels([before for before, _ in pairs]),
        _labels([after for _, after in pairs]),
        sum(before.num_rows or 0 for before, _ in pairs if before is not None),
        sum(after.num_rows or 0 for _, after in pairs if after is not None),
        added=rows.counts.get("added", 0),
        removed=rows.counts.get("removed", 0),
        changed=rows.counts.get("changed", 0),
        changed_columns=rows.changed_columns,
        new_columns=rows.new_columns,
        gone_columns=rows.gone_columns,
        reasons=reasons_for(pairs),
        examples=rows.examples,
    )


def without_common_files(pairs: Sequence[Pair]) -> tuple[list[Manifest], list[Manifest]]:
    """Both sides without the files that they share: equal rows cancel out, so these need not be read."""
    old = [before for before, _ in pairs if before is not None]
    new = [after for _, after in pairs if after is not None]
    common = Counter(file.sha256 for version in old for file in version.files) & Counter(
        file.sha256 for version in new for file in version.files
    )
    return _without(old, common.copy()), _without(new, common.copy())


def _without(versions: Sequence[Manifest], common: Counter[str]) -> list[Manifest]:
    kept = []
    for version in versions:
        files = []
        for file in version.files:
            if common[file.sha256] > 0:
                common[file.sha256] -= 1
            else:
                files.append(file)
        if files:
            kept.append(replace(version, files=tuple(files)))
    return kept
