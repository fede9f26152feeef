"""Which removed images are still behind a version."""

from __future__ import annotations

import pyarrow.compute as pc

from assets.graph.interfaces import Store
from assets.graph.lineage import trace_version, walk
from assets.graph.versions import Manifest
from assets.versioning.impact import is_model, splits_in_dataset, trained_splits_of
from assets.versioning.subjects import is_one_of


def removed_images_behind(store: Store, manifest: Manifest) -> list[str]:
    """Image ids, sorted, that were taken down and that a version was nevertheless made from.

    For a model: those that it, or a model it descends from, was trained on. For anything else: those that lie in the
    landed images behind it. What was found out before bytes were collected is known from marks. Costs nothing while
    no image is taken down.
    """
    removed = store.takedowns()
    if not removed:
        return []
    behind = [node.manifest for _, node in walk(trace_version(store, manifest)) if node.manifest is not None]
    landed = _removed_samples(store, behind, removed)
    found = set(store.marked_images(manifest))
    if is_model(manifest):
        for model in (version for version in behind if is_model(version)):
            found |= store.marked_images(model)
            found |= {landed[sample] for sample in _trained_on(store, model, behind, frozenset(landed))}
    else:
        held = {
            sample
            for version in behind[:1]
            for sample in splits_in_dataset(store, version, frozenset(landed))
        }
        found |= {landed[sample] for sample in held} if held else set(landed.values())
    return sorted(found & removed)


def _removed_samples(store: Store, behind: list[Manifest], removed: frozenset[str]) -> dict[str, str]:
    """Image by sample of removed images among the landed versions; those whose bytes are gone tell nothing."""
    found: dict[str, str] = {}
    for version in behind:
        if version.name != "landed_images" or store.collected(version) is not None:
            continue
        rows = store.scan(version, verify=False).to_table(
            ["sample_id", "image_id"], filter=is_one_of("image_id", removed)
        )
        found.update(zip(rows["sample_id"].to_pylist(), rows["image_id"].to_pylist(), strict=True))
    return found


def _trained_on(store: Store, model: Manifest, behind: list[Manifest], samples: frozenset[str]) -> set[str]:
    """Those of some samples that lie in a split that the model trained on, in the very data that it read."""
    wanted = trained_splits_of(model)
    read = set(model.provenance.inputs.values())
    found: set[str] = set()
    for version in behind:
        if version.digest not in read or store.collected(version) is not None:
            continue
        if version.kind == "folder":
            splits = splits_in_dataset(store, version, samples)
            found |= {sample for sample, split in splits.items() if split in wanted}
        elif version.name == "curated_images":
            found |= _curated(store, version, samples, wanted)
    return found


def _curated(store: Store, version: Manifest, samples: frozenset[str], splits: tuple[str, ...]) -> set[str]:
    which = is_one_of("sample_id", samples) & is_one_of("split", splits) & pc.field("keep")
    return set(
        store.scan(version, verify=False).to_table(["sample_id"], filter=which)["sample_id"].to_pylist()
    )
