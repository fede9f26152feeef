"""How well a model writes and draws: what OCR reads, what the judge sees, and how its pictures lie among real ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.compute as pc
from jaxtyping import Float, UInt8

from assets.graph.interfaces import Models, Store
from assets.writing.text_model import OcrEngine, TextModel
from assets.writing.writer_scores import draw_signs
from evaluation.intervals import Interval, mean_interval, paired_difference
from evaluation.localization.prompts import WordPair
from evaluation.metrics.fidelity_diversity import manifolds
from evaluation.metrics.metric import lite0_features
from evaluation.metrics.written_words import WordScores, score_words
from training.digests import canonical_json, sha256_bytes

if TYPE_CHECKING:
    from evaluation.judge import Embedder

WRITTEN = "written_f1"
METRICS: Mapping[str, str] = {
    WRITTEN: "character F1",
    "written_exact": "read exactly",
    "image_text": "image-text score",
    "fidelity": "fidelity",
    "diversity": "diversity",
}
"""What is measured of a model that writes, with titles."""
Units = Float[np.ndarray, "n k"]
MOST_REAL = 256


@dataclass(frozen=True)
class Looks:
    """Who looks at pictures: OCR, the judge where there is one, and features of real pictures."""

    engine: OcrEngine
    judge: Embedder | None
    real_features: Float[np.ndarray, "m d"] | None

    @classmethod
    def of(cls, store: Store, engine: OcrEngine) -> Looks:
        """The workspace's judge, and held-out pictures through its autoencoder and back, for a model draws nothing sharper; None of
        either where there is none."""
        from evaluation.judge import Judge

        judge = None
        if store.current("judge_clip") is not None:
            judge = Judge.load(store.local_folder("judge_clip", require_gate=True))
        real = reconstructed_pictures(store)
        return cls(engine, judge, None if real is None else lite0_features(real))


def reconstructed_pictures(store: Store) -> list[UInt8[np.ndarray, "h w 3"]] | None:
    """Held-out pictures as large as they landed, the first by sample id, as the autoencoder gives them back.

    None before any has landed, or without an autoencoder.
    """
    from assets.corpus.image_io import decode_rgb
    from assets.encodings.assembly import HELD_OUT
    from training.model_folders.autoencoders import decode_latents, encode_images, load_autoencoder

    if not store.partitions("landed_images") or store.current("autoencoder") is None:
        return None
    model = load_autoencoder(store.local_folder("autoencoder"))
    landed = store.read_all("landed_images", ["sample_id", "split", "image"])
    held_out = pc.is_in(landed["split"], value_set=pc.cast(list(HELD_OUT), "string"))
    rows = landed.filter(held_out).sort_by("sample_id").slice(0, MOST_REAL)
    by_shape: dict[tuple[int, ...], list[UInt8[np.ndarray, "h w 3"]]] = {}
    for data in rows["image"].to_pylist():
        image = decode_rgb(data)
        by_shape.setdefault(image.shape, []).append(image)
    groups = [decode_latents(model, encode_images(model, np.stack(group))) for group in by_shape.values()]
    return [image for group in groups for image in group] or None


def stored_text_model(store: Store, models: Models, version: tuple[str, str]) -> TextModel:
    """A model of the workspace with its text encoder; where it tells no size, pictures are as large as the data's."""
    return with_size_of_data(
        store, TextModel.load(store.local_folder(*version, require_gate=True), models.text_encoder)
    )


def with_size_of_data(store: Store, model: TextModel) -> TextModel:
    """The same model, drawing pictures of the training shards' size where it names none of its own."""
    from training.backbones import size_from_data
    from training.shards import TrainingShards

    if model.latent_size is not None or store.current("training_shards") is None:
        return model
    shape = TrainingShards.open(store.local_folder("training_shards")).description.latent_shapes[0]
    return replace(model, latent_size=size_from_data(model.denoiser.backbone, shape))


@dataclass(frozen=True)
class Written:
    """What a model drew for prompts that ask for words. ``units``: values by metric, a row a unit."""

    images: UInt8[np.ndarray, "n h w 3"]
    read: Sequence[str]
    units: Mapping[str, Units]


def write(model: TextModel, pairs: Sequence[WordPair], looks: Looks, steps: int, guidance: float) -> Written:
    """Draw the source prompts of pairs and measure the pictures."""
    images = draw_signs(model, [pair.source for pair in pairs], steps, guidance)
    read = [reading.text for reading in looks.engine.read(images)]
    words = score_words(read, [pair.source_word for pair in pairs])
    units: dict[str, Units] = {
        WRITTEN: np.stack([words.precision, words.recall], axis=1),
        "written_exact": words.exact[:, None],
    }
    if looks.judge is not None:
        texts = looks.judge.embed_texts([pair.source for pair in pairs])
        cosines = (looks.judge.embed_images(judge_squares(images)) * texts).sum(axis=1)
        units["image_text"] = cosines.astype(np.float64)[:, None]
    if looks.real_features is not None:
        found = manifolds(lite0_features(images), looks.real_features)
        units |= {"fidelity": found.fidelity[:, None], "diversity": found.diversity[:, None]}
    return Written(images, read, units)


def judge_squares(images: UInt8[np.ndarray, "n h w 3"]) -> UInt8[np.ndarray, "n side side 3"]:
    """As the judge was trained on them."""
    from assets.corpus.image_io import resize_square
    from assets.models.judging import JUDGE_SIZE

    return np.stack([resize_square(image, JUDGE_SIZE) for image in images])


def mean_of(metric: str, units: Units) -> Interval:
    """A metric's value with its interval over units."""
    return WordScores.of_shares(units).f1() if metric == WRITTEN else mean_interval(units[:, 0])


def difference_of(metric: str, first: Units, second: Units) -> Interval:
    """First minus second, of the same units."""
    if metric == WRITTEN:
        return WordScores.of_shares(first).f1_minus(WordScores.of_shares(second))
    return paired_difference(first[:, 0], second[:, 0])


def prompts_digest(pairs: Sequence[WordPair], steps: int, guidance: float) -> str:
    """Under which units of two models compare."""
    asked = [[pair.source, pair.source_word, number] for number, pair in enumerate(pairs)]
    return sha256_bytes(canonical_json({"asked": asked, "steps": steps, "guidance": guidance}).encode())
