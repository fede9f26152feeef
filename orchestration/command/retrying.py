"""``foundry retry-failed``: ask a model again for the samples on which it failed, and for nothing else."""

from __future__ import annotations

from assets.derivation.units import failed_units
from orchestration.command.output import console, print_rows
from orchestration.launching import Launch, launch_pool
from orchestration.profile import load_profile
from orchestration.resources.store import ManifestStore
from orchestration.workspace import Workspace
from training.errors import FoundryError

DERIVED = (
    "regions",
    "recaptions",
    "caption_nouns",
    "entity_phrases",
    "entity_boxes",
    "entity_annotations",
    "entity_masks",
    "text_embeddings",
    "image_latents",
)
"""Assets whose rows a model makes sample by sample."""


def run(workspace: Workspace, asset: str, *, as_json: bool) -> bool:
    """Retry the failed units of one asset in every shard group that has some; whether all succeeded now.

    The retries are ordinary runs, which the UI shows. Assets after this one become stale where rows came of it.
    Raises FoundryError for an asset that has no such samples, and with a run's own sentence when a run fails.
    """
    if asset not in DERIVED:
        raise FoundryError(
            f"'{asset}' is not made sample by sample, so nothing of it can be retried alone. Allowed: {', '.join(DERIVED)}."
        )
    store = ManifestStore(workspace.store)
    before = failed_units(store, asset)
    launches = [
        Launch("refresh_group", key, {asset: {"retry_failed": True}}, (asset,))
        for key in sorted(before, key=str)
    ]
    if launches and not as_json:
        count = sum(table.num_rows for table in before.values())
        console.print(f"retrying {count:,} failed units of {asset} in {len(launches)} shard group(s)")
    with launch_pool(workspace, load_profile(workspace.profile).compute.concurrent_runs) as pool:
        outcomes = pool.run(launches, lambda outcome: None)
    error = next((outcome.error for outcome in outcomes if outcome.error), None)
    if error is not None:
        raise FoundryError(error)
    after = failed_units(store, asset)
    rows = [
        {
            "asset": asset,
            "partition": key,
            "retried": table.num_rows,
            "still_failing": after[key].num_rows if key in after else 0,
            "first_error": after[key]["error"][0].as_py() if key in after else "",
        }
        for key, table in sorted(before.items(), key=lambda item: str(item[0]))
    ]
    if rows or as_json:
        print_rows(rows, as_json=as_json, title=f"retry-failed {asset}")
    else:
        console.print(f"no unit of {asset} has failed; nothing to retry")
    return not after
