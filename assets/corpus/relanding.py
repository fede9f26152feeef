"""What of the last landing can be kept: rows of shards whose bytes have not changed."""

from __future__ import annotations

from collections.abc import Callable

from assets.corpus.landing import LandedBatch, LandedBefore
from assets.derivation.reuse import previous_rows
from assets.graph.interfaces import Store
from assets.graph.versions import Provenance

_SHARD = "shard:"


def landed_before(
    store: Store, provenance: Provenance, partition: str, log: Callable[[str], None]
) -> LandedBefore | None:
    """The newest landing of a group, None where it was judged by other settings or another version of the code."""
    manifest = store.current("landed_images", partition)
    if manifest is None or (manifest.provenance.function_version, dict(manifest.provenance.config)) != (
        provenance.function_version,
        dict(provenance.config),
    ):
        return None
    images = previous_rows(store, "landed_images", partition, log)
    quarantined = previous_rows(store, "quarantine", partition, log)
    if images is None or quarantined is None:
        return None
    inputs = manifest.provenance.inputs.items()
    shards = {name.removeprefix(_SHARD): digest for name, digest in inputs if name.startswith(_SHARD)}
    return LandedBefore(LandedBatch(images, quarantined), shards)
