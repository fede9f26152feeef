"""Whether a layout model follows: held-out layouts drawn every way, scored, shown and kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import UInt8

from assets.graph.interfaces import Perception, Store
from assets.graph.versions import Provenance
from assets.layout.configs import FollowingConfig
from assets.layout.held_out import HeldOutLayouts, Way, draw_layouts, held_out_layouts, max_boxes_of
from assets.layout.scores import layout_sheet, score_layouts
from assets.models.drawing import DrawingPlace
from assets.models.judging import real_pictures_of
from evaluation.tables.samples import LAYOUT_PICTURES

PICTURES = "layout_pictures"
"""Table of what layout models drew of held-out layouts, a partition a model."""


@dataclass(frozen=True)
class Followed:
    """Rows of :data:`evaluation.tables.scores.LAYOUT_SCORES` and of :data:`evaluation.tables.samples.LAYOUT_PICTURES`, and a
    JPEG of the pictures with their boxes."""

    scores: pa.Table
    pictures: pa.Table
    sheet: bytes

    def keep(self, store: Store, provenance: Provenance, partition: str) -> None:
        """Store scores and pictures, so that variants can be held side by side without drawing again."""
        store.write_table("layout_scores", self.scores, provenance, partition)
        store.write_table(PICTURES, self.pictures, provenance, partition)


def measure_following(
    store: Store,
    perception: Perception,
    place: DrawingPlace,
    model: Path,
    config: FollowingConfig,
    *,
    recipe: str,
    digest: str,
) -> Followed:
    """Draw held-out layouts with a model folder and look at them beside real pictures and reconstructions.

    Raises FoundryError when no held-out sample has annotated entities, or the folder's model has no branch.
    """
    from training.model_folders.autoencoders import reconstructed

    max_boxes = max_boxes_of(model)
    layouts = held_out_layouts(store, config.num_layouts, max_boxes)
    sampling = (config.num_steps, config.guidance)
    drawn = draw_layouts(
        store, place, model, layouts, sampling, max_boxes=max_boxes, strength=config.strength
    )
    real = real_pictures_of(store, layouts.sample_ids)
    ceilings = {"real": real, "reconstructed": reconstructed(store.local_folder("autoencoder"), real)}
    looking = perception.model("closed_set")
    about = {
        "recipe": recipe,
        "model_digest": digest,
        "judged_by": looking.name if looking else "",
        "num_pictures": len(real),
        "num_steps": config.num_steps,
        "guidance": config.guidance,
        "strength": config.strength,
    }
    scores = score_layouts(store, perception, layouts, drawn, ceilings, about)
    return Followed(scores, pictures_table(layouts, drawn, about), layout_sheet(layouts, drawn, real))


def pictures_table(
    layouts: HeldOutLayouts,
    drawn: Mapping[Way, UInt8[np.ndarray, "n h w 3"]],
    about: Mapping[str, Any],
) -> pa.Table:
    """Rows of :data:`evaluation.tables.samples.LAYOUT_PICTURES`; ``about`` holds what is the same for all."""
    from assets.corpus.image_io import encode_png

    rows = [
        {
            **{name: about[name] for name in ("recipe", "model_digest", "num_steps", "guidance")},
            "strength": 0.0 if way == "base" else about["strength"],
            "sample_id": sample_id,
            "drawn": way,
            "caption": layout.caption,
            "phrases": [entity.phrase for entity in layout.entities],
            "boxes_xyxy_norm": [entity.box_xyxy_norm for entity in layout.entities],
            "seed": seed,
            "image": encode_png(image),
        }
        for way, images in drawn.items()
        for sample_id, layout, seed, image in zip(
            layouts.sample_ids, layouts.layouts, layouts.prompts["seed"].to_pylist(), images, strict=True
        )
    ]
    return pa.Table.from_pylist(rows, schema=LAYOUT_PICTURES)
