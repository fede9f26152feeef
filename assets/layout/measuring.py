"""Whether a layout model follows: held-out layouts drawn every way, scored and shown."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from assets.graph.interfaces import Perception, Store
from assets.layout.configs import LayoutModelConfig
from assets.layout.held_out import draw_layouts, held_out_layouts
from assets.layout.scores import layout_sheet, score_layouts
from assets.models.drawing import DrawingPlace
from assets.models.judging import real_pictures_of


@dataclass(frozen=True)
class Followed:
    """Rows of :data:`evaluation.tables.scores.LAYOUT_SCORES`, and a JPEG of the pictures with their boxes."""

    scores: pa.Table
    sheet: bytes


def measure_following(
    store: Store,
    perception: Perception,
    place: DrawingPlace,
    model: Path,
    config: LayoutModelConfig,
    max_boxes: int,
    *,
    recipe: str,
    digest: str,
) -> Followed:
    """Draw held-out layouts with a model folder and look at them beside real pictures and reconstructions.

    Raises FoundryError when no held-out sample has annotated entities.
    """
    from training.model_folders.autoencoders import reconstructed

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
    return Followed(scores, layout_sheet(layouts, drawn, real))
