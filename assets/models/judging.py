"""The judge's own data and what it can do on real held-out pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from assets.graph.interfaces import Store
from assets.graph.versions import GateResult
from assets.models.backbones import finite_losses
from assets.models.training_runs import TrainedRun, run_metadata
from assets.pages.markdown import markdown_table
from assets.pages.tables import Column, Table
from training.errors import FoundryError

JUDGE_SIZE = 64


def write_judge_dataset(store: Store, folder: Path) -> tuple[Path, str]:
    """Pictures and original alt-texts of the judge's split as image shards; returns the folder and its digest.

    Raises FoundryError when the source has no samples in that split.
    """
    from training.digests import folder_digest
    from training.shards import write_image_shards

    samples = _kept(store, "judge")
    if samples.num_rows == 0:
        raise FoundryError(
            "No sample is in the split 'judge', so there is nothing to train a judge on. "
            "Import more pictures (one in ten goes to the judge), or give shards a column 'split'."
        )
    captions = [[text] for text in samples["alt_text"].to_pylist()]
    write_image_shards(folder, samples.select(["sample_id", "split"]), decoded(samples), captions)
    return folder, folder_digest(folder)


def held_out_pairs(store: Store) -> pa.Table:
    """Real held-out samples (sample_id, split, image, alt_text), by sample id."""
    tables = [_kept(store, split) for split in ("held_out_images", "held_out_concepts")]
    return pa.concat_tables(tables).sort_by("sample_id")


def real_pictures_of(store: Store, sample_ids: Sequence[str]) -> np.ndarray:
    """Real pictures of held-out samples, in the order asked for, as uint8 [n, 64, 64, 3]."""
    pairs = held_out_pairs(store)
    place = pc.index_in(pa.array(sample_ids), value_set=pairs["sample_id"].combine_chunks())
    return decoded(pairs.take(place))


def decoded(samples: pa.Table) -> np.ndarray:
    """Pictures as uint8 [n, 64, 64, 3]."""
    from assets.corpus.image_io import decode_rgb, resize_square

    return np.stack([resize_square(decode_rgb(data), JUDGE_SIZE) for data in samples["image"].to_pylist()])


def gate_of_judge(run: TrainedRun, store: Store) -> tuple[GateResult, dict[str, Any]]:
    """Finite loss, and the judge's score on real held-out pictures: the ceiling of every score it gives."""
    from evaluation.judge import Judge
    from evaluation.metrics.alignment import score_pairs, summarise_pairs

    finite = finite_losses(run)
    findings: dict[str, Any] = {"finite_loss": finite, "final_loss": run.done.final_loss}
    pairs = held_out_pairs(store)
    if pairs.num_rows < 16:
        return GateResult(finite, findings), {"ceiling": "unknown: fewer than 16 held-out samples"}
    judge = Judge.load(run.folder.model)
    texts = pairs["alt_text"].to_pylist()
    scores = score_pairs(judge.embed_images(decoded(pairs)), judge.embed_texts(texts), texts)
    summary = summarise_pairs(scores)
    ceiling = {
        "ceiling_cosine": summary.cosine.value,
        "floor_cosine": summary.floor.value,
        "top1_of_8_real": summary.top1_of_k.value,
        "top1_of_8_chance": scores.chance,
    }
    return GateResult(finite, findings), ceiling


def judge_card(run: TrainedRun, ceiling: dict[str, Any], profile: str) -> str:
    """The judge's card in Markdown."""
    figures = {**run_metadata(run), **ceiling}
    table = Table(
        (Column("figure"), Column("value")), [(name, str(value)) for name, value in figures.items()]
    )
    return (
        "# judge_clip\n\nA small open_clip model trained from scratch on the split `judge` with original alt-texts "
        f"(profile {profile}). It is not CLIP: its scores compare with nothing published. It shares no weights, "
        "features or labelled examples with the captioner.\n\n"
        f"{markdown_table(table)}\n"
    )


def _kept(store: Store, split: str) -> pa.Table:
    from assets.corpus.curation import mark_duplicates

    curated = mark_duplicates(store.read_all("curated_images"))
    wanted = curated.filter(pc.and_(curated["keep"], pc.equal(curated["split"], split)))["sample_id"]
    landed = store.read_all("landed_images", ["sample_id", "split", "image", "alt_text"])
    chosen = landed.filter(pc.is_in(landed["sample_id"], value_set=wanted.combine_chunks()))
    return chosen.sort_by("sample_id")
