"""Held-out layouts, and what a model draws for them: without a layout, with it, and with boxes left and right exchanged."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import UInt8

from assets.graph.interfaces import Store
from assets.models.drawing import DrawingPlace, draw_held_out, held_out_prompts, load_denoiser, pictures_of
from training.errors import FoundryError
from training.layout.entities import Layout
from training.recipes.layout import LayoutOptions, options_of_folder

if TYPE_CHECKING:
    from training.conditioning import Condition
    from training.model_folders.denoiser import Denoiser

SPLIT = "held_out_images"
"""The held-out split whose concepts are among the training concepts, which perception's bank has."""
Way = Literal["base", "told", "exchanged"]
WAYS: tuple[Way, ...] = ("base", "told", "exchanged")


@dataclass(frozen=True)
class HeldOutLayouts:
    """Rows of :func:`assets.models.drawing.held_out_prompts`, each with the layout of its real picture."""

    prompts: pa.Table
    layouts: tuple[Layout, ...]

    @property
    def sample_ids(self) -> list[str]:
        """Whose pictures they are."""
        ids: list[str] = self.prompts["sample_id"].to_pylist()
        return ids

    def told(self, way: Way) -> tuple[Layout, ...]:
        """The layouts as a model is told them one way."""
        return tuple(layout.swapped() for layout in self.layouts) if way == "exchanged" else self.layouts


def held_out_layouts(store: Store, count: int, max_boxes: int, seed: int = 0) -> HeldOutLayouts:
    """The first held-out samples that have one to ``max_boxes`` annotated entities.

    Raises FoundryError when there are none.
    """
    from training.layout.shards import LayoutShards
    from training.shards import TrainingShards

    shards = TrainingShards.open(store.local_folder("training_shards", require_gate=True))
    layouts = LayoutShards.open(store.local_folder("layout_shards"))
    every = held_out_prompts(shards.samples, shards.samples.num_rows, seed)
    prompts = every.filter(pc.equal(every["split"], SPLIT))
    found = [layouts.entities(row) for row in prompts["row"].to_pylist()]
    chosen = [row for row, entities in enumerate(found) if 1 <= len(entities) <= max_boxes][:count]
    if not chosen:
        raise FoundryError(
            f"no sample of split '{SPLIT}' has one to {max_boxes} annotated entities, so there is no layout to draw; look at "
            "entity_annotations, or allow more boxes"
        )
    captions = prompts["prompt"].to_pylist()
    return HeldOutLayouts(
        prompts.take(pa.array(chosen)), tuple(Layout(captions[row], found[row]) for row in chosen)
    )


def max_boxes_of(model: Path) -> int:
    """How many entities a layout model's folder takes. Raises FoundryError for a model without a branch."""
    return _branch(model).max_boxes


def branch_of_folder(model: Path) -> str:
    """How a layout model's folder is told of boxes, for people. Raises FoundryError for a model without a branch."""
    branch = _branch(model)
    more = {"box-aligned": branch.box_aligned, "attention inside boxes": branch.attend_inside}
    return ", ".join([branch.kind, *(title for title, there in more.items() if there)])


def _branch(model: Path) -> LayoutOptions:
    found = options_of_folder(model)
    if found is None:
        raise FoundryError(f"{model}: has no layout branch; name a layout model")
    return found


class LayoutTexts:
    """Texts of prompts with their layouts, by their column ``row``; left and right ``exchanged`` or as they are."""

    def __init__(self, texts: Mapping[str, str], max_boxes: int, strength: float, *, exchanged: bool) -> None:
        from training.layout.shards import LayoutShards
        from training.shards import TrainingShards

        self._shards = TrainingShards.open(Path(texts["training_shards"]))
        self._layouts = LayoutShards.open(Path(texts["layout_shards"]))
        self._max_boxes, self._strength, self._exchanged = max_boxes, strength, exchanged

    def __call__(self, prompts: pa.Table) -> Condition:
        from training.feed.conditions import alt_texts
        from training.sampling.layout import with_layout

        rows = prompts["row"].to_numpy()
        placed = self._layouts.placed(rows, self._max_boxes)
        if self._exchanged:
            placed = placed.exchanged()
        return with_layout(alt_texts(self._shards, rows), placed, self._strength)


def draw_layouts(
    store: Store,
    place: DrawingPlace,
    model: Path,
    layouts: HeldOutLayouts,
    sampling: tuple[int, float],
    *,
    max_boxes: int,
    strength: float,
) -> dict[Way, UInt8[np.ndarray, "n h w 3"]]:
    """Pictures of each way from the same noise; the base is the model at strength 0, which answers bit for bit as its base."""
    load = partial(load_denoiser, str(model))
    return {
        way: draw_way(
            store,
            place,
            load,
            layouts,
            sampling,
            way,
            max_boxes=max_boxes,
            strength=0.0 if way == "base" else strength,
        )
        for way in WAYS
    }


def draw_way(
    store: Store,
    place: DrawingPlace,
    load: Callable[[], Denoiser],
    layouts: HeldOutLayouts,
    sampling: tuple[int, float],
    way: Way,
    *,
    max_boxes: int,
    strength: float,
) -> UInt8[np.ndarray, "n h w 3"]:
    """Pictures of all layouts, told one way; ``load`` is picklable."""
    folders = {name: str(store.local_folder(name)) for name in ("training_shards", "layout_shards")}
    texts = partial(LayoutTexts, folders, max_boxes, strength, exchanged=way == "exchanged")
    return pictures_of(draw_held_out(replace(place, texts=texts), load, layouts.prompts, [sampling]))
