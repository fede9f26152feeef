"""Does a model write what it is asked to? Held-out signs drawn by their alt-texts, and what OCR reads in them.

Real signs and their reconstructions by the autoencoder are read alike: the ceilings. Words of the split ``held_out_concepts``
are strings that no training picture shows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.compute as pc
from jaxtyping import Float, UInt8

from assets.corpus.image_io import decode_rgb
from assets.graph.interfaces import Store
from assets.pages.markdown import markdown_table
from assets.pages.tables import Column, Table
from assets.writing.text_model import OcrEngine, TextModel
from evaluation.intervals import Interval, mean_interval
from evaluation.metrics.written_words import WordScores, chance_level, score_words
from training.errors import FoundryError

HELD_OUT_WORDS = "held_out_concepts"
BAR_F1 = 0.9
"""Character F1 on held-out strings that a writer which ships has to reach."""


@dataclass(frozen=True)
class Signs:
    """Held-out signs: what models are told, what they say, their sign's colour, and the pictures."""

    prompts: tuple[str, ...]
    words: tuple[str, ...]
    colors: tuple[str, ...]
    images: UInt8[np.ndarray, "n h w 3"]


def held_out_signs(store: Store, most: int | None = None) -> Signs:
    """Signs whose strings training never shows, the first by sample id. Raises FoundryError where there are none."""
    truth = store.read_table("scene_truth", columns=["sample_id", "split", "word", "background"])
    truth = truth.filter(pc.and_(pc.equal(truth["split"], HELD_OUT_WORDS), pc.not_equal(truth["word"], "")))
    landed = store.read_all("landed_images", ["sample_id", "alt_text", "image"])
    rows = truth.join(landed, "sample_id", join_type="inner").sort_by("sample_id").slice(0, most)
    if not rows.num_rows:
        raise FoundryError(
            "no held-out sign has landed: scenes of the split held_out_concepts carry no word; score a writer in a profile "
            "whose world is of signs"
        )
    return Signs(
        tuple(rows["alt_text"].to_pylist()),
        tuple(rows["word"].to_pylist()),
        tuple(text.split()[0] for text in rows["background"].to_pylist()),
        np.stack([decode_rgb(image) for image in rows["image"].to_pylist()]),
    )


@dataclass(frozen=True)
class WriterScores:
    """Scores of one set of pictures. ``color``: share of signs whose colour is nearest to the one that was asked for."""

    words: WordScores
    color: Interval
    chance: Interval

    def told(self) -> dict[str, Any]:
        """As they are stored."""
        f1 = self.words.f1()
        return {
            "f1": _interval(f1),
            "exact": _interval(mean_interval(self.words.exact)),
            "edit_distance": _interval(mean_interval(self.words.distance)),
            "color": _interval(self.color),
            "chance": self.chance.value,
        }


def score_signs(
    images: UInt8[np.ndarray, "n h w 3"],
    signs: Signs,
    palette: Mapping[str, tuple[int, int, int]],
    engine: OcrEngine,
) -> WriterScores:
    """Read pictures of held-out signs. ``palette``: the world's colours by word, RGB in [0, 255]."""
    read = [reading.text for reading in engine.read(images)]
    named = nearest_colors(images, palette)
    hits = np.array([float(found == wanted) for found, wanted in zip(named, signs.colors, strict=True)])
    return WriterScores(score_words(read, signs.words), mean_interval(hits), chance_level(read, signs.words))


def nearest_colors(
    images: UInt8[np.ndarray, "n h w 3"], palette: Mapping[str, tuple[int, int, int]]
) -> list[str]:
    """The palette's colour nearest to the median of each picture's dark half: signs are darker than walls and letters."""
    names, wanted = list(palette), np.array(list(palette.values()), np.float64)
    found = []
    for image in images:
        pixels = image.reshape(-1, 3).astype(np.float64)
        dark = pixels[pixels.min(axis=1) < 128]
        middle: Float[np.ndarray, " 3"] = np.median(dark, axis=0) if len(dark) else np.full(3, 255.0)
        found.append(names[int(((wanted - middle) ** 2).sum(axis=1).argmin())])
    return found


def draw_signs(
    model: TextModel, prompts: Sequence[str], steps: int, guidance: float
) -> UInt8[np.ndarray, "n h w 3"]:
    """A picture a prompt, the n-th from noise n."""
    from training.model_folders.denoiser import sample_with

    told = model.encoder.prompts(prompts)
    return sample_with(
        model.denoiser, told, list(range(len(prompts))), steps, guidance, latent_size=model.latent_size
    )


COLUMNS = (
    Column("Pictures"),
    Column("character F1", ".3f", note="95 %"),
    Column("read exactly", ".3f", note="95 %"),
    Column("edit distance", ".3f", note="95 %"),
    Column("colour", ".3f", note="95 %"),
    Column("F1 of unrelated words", ".3f"),
)
TITLES: Mapping[str, str] = {
    "real": "real signs",
    "reconstructed": "through the autoencoder and back",
    "drawn": "drawn",
}


def writer_markdown(scores: Mapping[str, Any]) -> str:
    """A packed writer's scores for its page and its card."""
    rows = [
        (
            title,
            *(_as_interval(scores[key][name]) for name in ("f1", "exact", "edit_distance", "color")),
            scores[key]["chance"],
        )
        for key, title in TITLES.items()
        if key in scores
    ]
    sampling = scores["sampling"]
    return markdown_table(Table(COLUMNS, rows)) + (
        f"\n\n{scores['num_signs']} signs with strings that no training picture shows, {sampling['num_steps']} steps, guidance "
        f"{sampling['guidance']:g}. Read by {scores['read_by']}; letters count as multisets (F1), so that unrelated words share some."
    )


def _interval(found: Interval) -> dict[str, float]:
    return {"value": found.value, "low": found.low, "high": found.high}


def _as_interval(told: Mapping[str, float]) -> Interval:
    return Interval(told["value"], told["low"], told["high"])
