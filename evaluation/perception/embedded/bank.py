"""The concept bank: Lite0 features of pictures of training concepts, by which crops are named.

What the bank may hold is pictures of *training* concepts only; those that are held out are never in it, or it would
be the answer key. In the demo the pictures are the very drawings that scenes are composed of, at other sizes, so
naming a training concept is easier there than in the wild: numbers for training concepts are an upper bound, and
those for held-out concepts (:mod:`evaluation.perception.embedded.conse` alone) the sober side. Rows say so by their model's
name.

A crop is like a concept as far as their features and their colours agree (:func:`concept_similarities`). Probabilities
are calibrated on the bank itself: crops of each picture as perception would cut them from a scene against the clean
ones, once with the own concept present (known) and once without it (unknown), both as likely.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from jaxtyping import Float, Int, UInt8

from evaluation.perception.embedded import conse
from evaluation.perception.embedded.bank_views import (
    VIEW_SIDES_PX,
    clean_view,
    cut_out,
    decode_picture,
    scene_views,
)
from evaluation.perception.embedded.calibration import Logistic, fit_logistic, fit_temperature, softmax
from evaluation.perception.embedded.identity import BANK_SIDE_PX, bank_inputs_digest
from evaluation.perception.networks.efficientnet_lite import load_lite0, look
from training.errors import FoundryError

SentenceEncoder = Callable[[Sequence[str]], Float[np.ndarray, "n d"]]

COLOR_WEIGHT = 0.5  # of agreeing colours against the cosine of features; both at most 1


@dataclass(frozen=True)
class ConceptBank:
    """Everything needed to name crops.

    ``features`` [views, 1280] are centred by ``center`` and at unit length; ``colors`` are the views' shares of colour
    words; ``view_concept`` says whose view each is.
    ``vocabulary_vectors`` [words, 384] and ``class_vectors`` [1000, 384] are MiniLM sentence vectors for ConSE.
    ``pictures`` are the bank's pictures as RGBA, by which drawings are found again one behind another
    (:mod:`evaluation.perception.embedded.known_drawings`); ``picture_concept`` says whose each is.
    ``inputs_digest`` says what it was made of (:func:`evaluation.perception.embedded.identity.bank_inputs_digest`);
    ``known`` and ``conse_right`` hold (slope, intercept) of
    :class:`~evaluation.perception.embedded.calibration.Logistic`.
    """

    inputs_digest: str
    concepts: tuple[str, ...]
    features: Float[np.ndarray, "views 1280"]
    colors: Float[np.ndarray, "views words12"]
    center: Float[np.ndarray, " 1280"]
    view_concept: Int[np.ndarray, " views"]
    vocabulary: tuple[str, ...]
    vocabulary_vectors: Float[np.ndarray, "words d"]
    class_vectors: Float[np.ndarray, "1000 d"]
    temperature: float
    known: tuple[float, float]
    conse_right: tuple[float, float]
    side_px: int
    pictures: UInt8[np.ndarray, "looks s s 4"]
    picture_concept: Int[np.ndarray, " looks"]

    def to_bytes(self) -> bytes:
        """The bank as one uncompressed npz file, fit to be sent to a worker or stored."""
        buffer = io.BytesIO()
        arrays: dict[str, Any] = {entry.name: np.asarray(getattr(self, entry.name)) for entry in fields(self)}
        np.savez(buffer, **arrays)
        return buffer.getvalue()

    @staticmethod
    def from_bytes(data: bytes) -> ConceptBank:
        """The bank written by :meth:`to_bytes`. Raises FoundryError for anything else."""
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as stored:
                found = {name: stored[name] for name in stored.files}
        except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
            raise FoundryError(
                f"concept bank: not a bank file ({error}); build it again with build_bank"
            ) from error
        missing = sorted({entry.name for entry in fields(ConceptBank)} - set(found))
        if missing:
            raise FoundryError(f"concept bank: lacks {', '.join(missing)}; build it again with build_bank")
        return ConceptBank(
            inputs_digest=str(found["inputs_digest"]),
            concepts=tuple(found["concepts"].tolist()),
            features=found["features"],
            colors=found["colors"],
            center=found["center"],
            view_concept=found["view_concept"],
            vocabulary=tuple(found["vocabulary"].tolist()),
            vocabulary_vectors=found["vocabulary_vectors"],
            class_vectors=found["class_vectors"],
            temperature=float(found["temperature"]),
            known=tuple(found["known"].tolist()),
            conse_right=tuple(found["conse_right"].tolist()),
            side_px=int(found["side_px"]),
            pictures=found["pictures"],
            picture_concept=found["picture_concept"],
        )


def build_bank(
    pictures: Mapping[str, bytes],
    vocabulary: Sequence[str],
    encode_sentences: SentenceEncoder | None = None,
    side_px: int = BANK_SIDE_PX,
) -> ConceptBank:
    """The bank of some training concepts.

    Args:
        pictures: encoded pictures (PNG) by the concept's name, or by name and look ("heart/red") where a concept has
            several: RGBA, or RGB on a background of one colour.
        vocabulary: words that ConSE may answer with where the bank knows no answer; text only.
        encode_sentences: sentence vectors of texts, any length; :func:`minilm_sentences` when left out.
        side_px: resolution Lite0 looks at; below 224 trades exactness for time.

    Raises:
        FoundryError: fewer than two concepts, an empty vocabulary, or a picture that cannot be used.
    """
    looks, words = tuple(sorted(pictures)), tuple(dict.fromkeys(vocabulary))
    concepts = tuple(sorted({concept_of_look(look) for look in looks}))
    if len(concepts) < 2 or not words:
        raise FoundryError(
            f"concept bank: {len(concepts)} concepts and {len(words)} words; at least 2 concepts and 1 word "
            "are needed to tell known from unknown"
        )
    decoded = {look: decode_picture(pictures[look], look) for look in looks}
    network = load_lite0()
    views = [clean_view(decoded[look], side, look) for look in looks for side in VIEW_SIDES_PX]
    concept_of = np.array([concepts.index(concept_of_look(look)) for look in looks])
    view_concept = np.repeat(concept_of, len(VIEW_SIDES_PX))
    raw_features, view_logits = look(network, [view.image_hwc for view in views], side_px=side_px)
    center = np.stack(
        [raw_features[view_concept == index].mean(axis=0) for index in range(len(concepts))]
    ).mean(axis=0)  # a concept of many looks is one concept
    features = conse.unit(raw_features - center)
    colors = np.stack([view.color_shares for view in views])
    in_scenes = [scene_views(decoded[look], look) for look in looks]
    crops = [view for found in in_scenes for view in found]
    truth = np.repeat(concept_of, [len(found) for found in in_scenes])
    crop_features, _ = look(network, [view.image_hwc for view in crops], side_px=side_px)
    crop_colors = np.stack([view.color_shares for view in crops])
    similarity = concept_similarities(crop_features, crop_colors, features, colors, center, view_concept)
    sentences = (encode_sentences or minilm_sentences)([*conse.imagenet_names(), *words]).astype(np.float32)
    class_vectors = sentences[: len(conse.imagenet_names())]
    vocabulary_vectors = conse.text_vectors(sentences[len(class_vectors) :], class_vectors)
    known, temperature = _fit_known(similarity, truth), fit_temperature(similarity, truth)
    right = _fit_conse(
        view_logits, [concepts[index] for index in view_concept], words, vocabulary_vectors, class_vectors
    )
    return ConceptBank(
        bank_inputs_digest(pictures, words, side_px), concepts, features, colors, center, view_concept, words,
        vocabulary_vectors, class_vectors, temperature, (known.slope, known.intercept),
        (right.slope, right.intercept), side_px, np.stack([cut_out(decoded[look]) for look in looks]), concept_of,
    )  # fmt: skip


def concept_of_look(look: str) -> str:
    """The concept that a bank picture shows: "heart" for "heart/red", "dog" for "dog"."""
    return look.partition("/")[0]


def concept_similarities(
    features_bf: Float[np.ndarray, "b 1280"],
    colors_bw: Float[np.ndarray, "b words12"],
    bank_vf: Float[np.ndarray, "views 1280"],
    bank_colors_vw: Float[np.ndarray, "views words12"],
    center_f: Float[np.ndarray, " 1280"],
    view_concept: Int[np.ndarray, " views"],
) -> Float[np.ndarray, "b concepts"]:
    """Likeness of each crop with the likest view of each concept, for features and colours apart.

    Cosine of features after centring, plus :data:`COLOR_WEIGHT` times the intersection of colour shares.
    """
    cosines = conse.unit(features_bf - center_f) @ bank_vf.T
    agreement = np.minimum(colors_bw[:, None], bank_colors_vw[None]).sum(axis=-1)
    columns = []
    for index in range(int(view_concept.max()) + 1):
        own = view_concept == index
        columns.append(cosines[:, own].max(axis=1) + COLOR_WEIGHT * agreement[:, own].max(axis=1))
    return np.stack(columns, axis=1)


def bank_probabilities(
    similarity_bc: Float[np.ndarray, "b c"], known: Logistic, temperature: float
) -> Float[np.ndarray, "b c"]:
    """P(concept is in the bank) x P(which one)."""
    similarity = similarity_bc.astype(np.float64)
    return known(similarity.max(axis=1))[:, None] * softmax(similarity, temperature)


def _without_own(
    similarity_nc: Float[np.ndarray, "n c"], truth_n: Int[np.ndarray, " n"]
) -> Float[np.ndarray, "n c"]:
    """The same crops for a bank that lacks the concept of each."""
    without_own = similarity_nc.copy()
    without_own[np.arange(len(truth_n)), truth_n] = -1.0
    return without_own


def _fit_known(similarity_nc: Float[np.ndarray, "n c"], truth_n: Int[np.ndarray, " n"]) -> Logistic:
    """Probability that a crop's concept is in the bank, from the best cosine it finds there."""
    without_own = _without_own(similarity_nc, truth_n)
    best = np.concatenate([similarity_nc.max(axis=1), without_own.max(axis=1)]).astype(np.float64)
    return fit_logistic(best, np.arange(len(best)) < len(truth_n))


def conse_evidence(
    logits_bk: Float[np.ndarray, "b 1000"],
    vocabulary_vd: Float[np.ndarray, "v d"],
    class_vectors_kd: Float[np.ndarray, "1000 d"],
) -> tuple[Float[np.ndarray, "b v"], Float[np.ndarray, " b"]]:
    """ConSE scores with a centred vocabulary, and how much the best one is worth: its score times the top class's
    probability (a peaked prediction is a sign of something the network was trained on)."""
    scores = conse.image_vectors(logits_bk, class_vectors_kd) @ vocabulary_vd.T
    certainty = conse.class_probabilities(logits_bk.astype(np.float64)).max(axis=1)
    return scores, scores.max(axis=1) * certainty


def _fit_conse(
    logits: Float[np.ndarray, "n 1000"],
    names: Sequence[str],
    words: Sequence[str],
    vocabulary_vectors: Float[np.ndarray, "v d"],
    class_vectors: Float[np.ndarray, "1000 d"],
) -> Logistic:
    scores, evidence = conse_evidence(logits, vocabulary_vectors, class_vectors)
    is_right = np.array(
        [words[best] == name for best, name in zip(scores.argmax(axis=1), names, strict=True)]
    )
    fitted = fit_logistic(evidence.astype(np.float64), is_right)
    # more evidence cannot mean less trust: where a few pictures say so, only how often ConSE is right is believed
    return fitted if fitted.slope >= 0 else fit_logistic(np.zeros(len(is_right)), is_right)


def minilm_sentences(texts: Sequence[str]) -> Float[np.ndarray, "n 384"]:
    """Unit-length sentence vectors of the packaged MiniLM."""
    from training.text_encoders import MiniLMEncoder

    return MiniLMEncoder().encode(list(texts)).pooled.astype(np.float32)
