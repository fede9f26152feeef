"""How a layout model learns to follow: objects in their box after parts of its training, on the same few layouts."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from assets.graph.interfaces import Perception, Store
from assets.layout.configs import LayoutModelConfig
from assets.layout.held_out import draw_way, held_out_layouts, max_boxes_of
from assets.layout.scores import truth_of_scenes, wanted_of
from assets.models.drawing import DrawingPlace, load_denoiser
from assets.models.looking import look_at
from evaluation.intervals import Interval
from evaluation.metrics.objects_in_box import counts_in_box, share_in_box
from training.recipes.specification import Recipe
from training.run_folder import RunFolder

if TYPE_CHECKING:
    from training.model_folders.denoiser import Denoiser


@dataclass(frozen=True)
class Learned:
    """The share of told objects in their box after so many images."""

    images_seen: int
    in_box: Interval


def kept_counts(recipe: Recipe, parts: int) -> tuple[int, ...]:
    """After how many images the model is kept on the way: the ends of all parts but the last, whole batches."""
    steps = recipe.images_total // recipe.batch_size
    counts = (steps * part // parts * recipe.batch_size for part in range(1, parts))
    return tuple(dict.fromkeys(count for count in counts if count))


def learning_of(
    store: Store,
    perception: Perception,
    place: DrawingPlace,
    run: RunFolder,
    config: LayoutModelConfig,
    images_total: int,
) -> list[Learned]:
    """What the models that a run kept, and its last one, put in its box; nothing where no truth names the objects.

    A run that ended before counts were asked for has kept none: then only its last model is told.
    """
    max_boxes = max_boxes_of(run.model)
    layouts = held_out_layouts(store, config.curve_layouts, max_boxes)
    truth = truth_of_scenes(store, perception)
    wanted = wanted_of(layouts, truth, "told") if truth else []
    if not wanted:
        return []
    kept = [path for path in sorted(run.snapshots.glob("*")) if path.is_dir()]
    loads = [(int(path.name), partial(load_kept, str(run.model), str(path))) for path in kept]
    loads.append((images_total, partial(load_denoiser, str(run.model))))
    curve = []
    for images_seen, load in dict(loads).items():
        images = draw_way(
            store, place, load, layouts, (config.num_steps, config.guidance), "told",
            max_boxes=max_boxes, strength=config.strength,
        )  # fmt: skip
        found = look_at(images, layouts.sample_ids, perception, "closed_set")
        curve.append(Learned(images_seen, share_in_box(counts_in_box(layouts.sample_ids, wanted, found))))
    return curve


def load_kept(model: str, kept: str) -> Denoiser:
    """The denoiser of a model folder with the weights that its run kept on the way."""
    return load_denoiser(model).with_weights(Path(model), Path(kept))


def learning_picture(curve: list[Learned]) -> bytes:
    """The curve with the ends of its intervals, as PNG bytes."""
    from evaluation.plots.panels import Line, lines

    seen = np.array([point.images_seen for point in curve], np.float64)
    ends = {"low": "95 %, from", "value": "objects in their box", "high": "to"}
    curves = [
        Line(title, seen, np.array([getattr(point.in_box, end) for point in curve]))
        for end, title in ends.items()
    ]
    return lines(curves, title="Objects in their box", x_label="images seen", y_label="share of told objects")
