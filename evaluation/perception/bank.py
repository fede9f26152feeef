"""The concept bank: Lite0 features of pictures of training concepts, by which crops are named.

What the bank may hold is pictures of *training* concepts only; those that are held out are never in it, or it would
be the answer key. In the demo the pictures are the very drawings that scenes are composed of, at other sizes, so
naming a training concept is easier there than in the wild: numbers for training concepts are an upper bound, and
those for held-out concepts (:mod:`evaluation.perception.conse` alone) the sober side. Rows say so by their model's
name.

Probabilities are calibrated on the bank itself: damaged views of each picture against the whole ones, once with the
own concept present (known) and once without it (unknown).
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from evaluation.perception import conse
from evaluation.perception.calibration import Logistic, fit_logistic, fit_temperature
from evaluation.perception.efficientnet_lite import load_lite0, look
from evaluation.perception.identity import BANK_SIDE_PX, bank_inputs_digest
from training.errors import FoundryError

Picture = UInt8[np.ndarray, "h w channels"]
SentenceEncoder = Callable[[Sequence[str]], Float[np.ndarray, "n d"]]

PAPER_RGB = (255, 255, 255)  # what crops and bank pictures are put on, so that backgrounds do not count
_VIEW_SIDES_PX = (24, 36)
_CALIBRATION_SIDE_PX = 30
_CUT = 0.45


@dataclass(frozen=True)
class ConceptBank:
    """Everything needed to name crops.

    ``features`` [views, 1280] are centred by ``center`` and at unit length; ``view_concept`` says whose view each is.
    ``vocabulary_vectors`` [words, 384] and ``class_vectors`` [1000, 384] are MiniLM sentence vectors for ConSE.
    ``inputs_digest`` says what it was made of (:func:`evaluation.perception.identity.bank_inputs_digest`);
    ``known`` and ``conse_right`` hold (slope, intercept) of :class:`~evaluation.perception.calibration.Logistic`.
    """

    inputs_digest: str
    concepts: tuple[str, ...]
    features: Float[np.ndarray, "views 1280"]
    center: Float[np.ndarray, " 1280"]
    view_concept: Int[np.ndarray, " views"]
    vocabulary: tuple[str, ...]
    vocabulary_vectors: Float[np.ndarray, "words d"]
    class_vectors: Float[np.ndarray, "1000 d"]
    temperature: float
    known: tuple[float, float]
    conse_right: tuple[float, float]
    side_px: int

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
            center=found["center"],
            view_concept=found["view_concept"],
            vocabulary=tuple(found["vocabulary"].tolist()),
            vocabulary_vectors=found["vocabulary_vectors"],
            class_vectors=found["class_vectors"],
            temperature=float(found["temperature"]),
            known=tuple(found["known"].tolist()),
            conse_right=tuple(found["conse_right"].tolist()),
            side_px=int(found["side_px"]),
        )


def on_paper(
    image_hwc: UInt8[np.ndarray, "h w 3"], mask: Bool[np.ndarray, "h w"]
) -> UInt8[np.ndarray, "side side 3"]:
    """The masked pixels, cut to their box, centred on a white square with a margin; holes in the mask are kept."""
    from scipy import ndimage

    ys, xs = np.nonzero(mask)
    y1, y2, x1, x2 = int(ys.min()), int(ys.max()) + 1, int(xs.min()), int(xs.max()) + 1
    filled = ndimage.binary_fill_holes(mask[y1:y2, x1:x2])
    cut = np.where(filled[..., None], image_hwc[y1:y2, x1:x2], np.array(PAPER_RGB, dtype=np.uint8))
    side = int(1.15 * max(cut.shape[:2])) + 1
    paper = np.full((side, side, 3), PAPER_RGB, dtype=np.uint8)
    top, left = (side - cut.shape[0]) // 2, (side - cut.shape[1]) // 2
    paper[top : top + cut.shape[0], left : left + cut.shape[1]] = cut
    return paper


def _decode(data: bytes, name: str) -> Picture:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(data)) as opened:
            return np.asarray(opened.convert("RGBA" if "A" in opened.getbands() else "RGB"))
    except (UnidentifiedImageError, OSError) as error:
        raise FoundryError(
            f"bank picture of {name!r}: cannot be decoded ({error}); give PNG bytes"
        ) from error


def _view(picture: Picture, side_px: int, name: str) -> UInt8[np.ndarray, "side side 3"]:
    """A picture (RGBA, or RGB on a background of one colour) at a size of scenes, on paper."""
    from PIL import Image

    if min(picture.shape[:2]) < 8:
        raise FoundryError(
            f"bank picture of {name!r} is {picture.shape[1]}x{picture.shape[0]} pixels; at least 8 on a side are needed"
        )
    small = np.asarray(Image.fromarray(picture).resize((side_px, side_px), Image.Resampling.LANCZOS))
    if small.shape[2] == 3:
        mask = np.abs(small.astype(np.int16) - small[0, 0]).max(-1) > 24
        rgb = small
    else:
        alpha = small[..., 3:].astype(np.float64) / 255
        rgb = np.rint(small[..., :3] * alpha + np.array(PAPER_RGB) * (1 - alpha)).astype(np.uint8)
        mask = small[..., 3] > 64
    if not mask.any():
        raise FoundryError(f"bank picture of {name!r} is empty: no pixel differs from its background")
    return on_paper(rgb, mask)


def _damaged(view: UInt8[np.ndarray, "side side 3"]) -> list[UInt8[np.ndarray, "side side 3"]]:
    """Four copies, each with another corner hidden, as by an object in front."""
    cut = int(_CUT * len(view))
    copies = []
    for rows in (slice(0, cut), slice(len(view) - cut, None)):
        for columns in (slice(0, cut), slice(len(view) - cut, None)):
            copy = view.copy()
            copy[rows, columns] = PAPER_RGB
            copies.append(copy)
    return copies


def build_bank(
    pictures: Mapping[str, bytes],
    vocabulary: Sequence[str],
    encode_sentences: SentenceEncoder | None = None,
    side_px: int = BANK_SIDE_PX,
) -> ConceptBank:
    """The bank of some training concepts.

    Args:
        pictures: one encoded picture (PNG) of each concept by name: RGBA, or RGB on a background of one colour.
        vocabulary: words that ConSE may answer with where the bank knows no answer; text only.
        encode_sentences: sentence vectors of texts, any length; :func:`minilm_sentences` when left out.
        side_px: resolution Lite0 looks at; below 224 trades exactness for time.

    Raises:
        FoundryError: fewer than two concepts, an empty vocabulary, or a picture that cannot be used.
    """
    if len(pictures) < 2 or not vocabulary:
        raise FoundryError(
            f"concept bank: {len(pictures)} concepts and {len(vocabulary)} words; at least 2 concepts and 1 word "
            "are needed to tell known from unknown"
        )
    concepts, words = tuple(sorted(pictures)), tuple(dict.fromkeys(vocabulary))
    decoded = {name: _decode(pictures[name], name) for name in concepts}
    network = load_lite0()
    views = [_view(decoded[name], side, name) for name in concepts for side in _VIEW_SIDES_PX]
    view_concept = np.repeat(np.arange(len(concepts)), len(_VIEW_SIDES_PX))
    raw_features, view_logits = look(network, views, side_px=side_px)
    center = raw_features.mean(axis=0)
    features = conse.unit(raw_features - center)
    damaged = [
        copy for name in concepts for copy in _damaged(_view(decoded[name], _CALIBRATION_SIDE_PX, name))
    ]
    damaged_features, _ = look(network, damaged, side_px=side_px)
    truth = np.repeat(np.arange(len(concepts)), 4)
    similarity = concept_similarities(damaged_features, features, center, view_concept)
    sentences = (encode_sentences or minilm_sentences)([*conse.imagenet_names(), *words]).astype(np.float32)
    class_vectors = sentences[: len(conse.imagenet_names())]
    vocabulary_vectors = conse.text_vectors(sentences[len(class_vectors) :], class_vectors)
    known = _fit_known(similarity, truth)
    right = _fit_conse(
        view_logits, [concepts[index] for index in view_concept], words, vocabulary_vectors, class_vectors
    )
    return ConceptBank(
        bank_inputs_digest(pictures, words, side_px), concepts, features, center, view_concept, words, vocabulary_vectors, class_vectors,
        fit_temperature(similarity, truth), (known.slope, known.intercept), (right.slope, right.intercept), side_px,
    )  # fmt: skip


def concept_similarities(
    features_bf: Float[np.ndarray, "b 1280"],
    bank_vf: Float[np.ndarray, "views 1280"],
    center_f: Float[np.ndarray, " 1280"],
    view_concept: Int[np.ndarray, " views"],
) -> Float[np.ndarray, "b concepts"]:
    """Cosine, after centring, of each crop with the nearest view of each concept."""
    cosines = conse.unit(features_bf - center_f) @ bank_vf.T
    columns = [cosines[:, view_concept == index].max(axis=1) for index in range(int(view_concept.max()) + 1)]
    return np.stack(columns, axis=1)


def _fit_known(similarity_nc: Float[np.ndarray, "n c"], truth_n: Int[np.ndarray, " n"]) -> Logistic:
    """Probability that a crop's concept is in the bank, from the best cosine it finds there."""
    rows = np.arange(len(truth_n))
    without_own = similarity_nc.copy()
    without_own[rows, truth_n] = -1.0
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
    return fit_logistic(evidence.astype(np.float64), is_right)


def minilm_sentences(texts: Sequence[str]) -> Float[np.ndarray, "n 384"]:
    """Unit-length sentence vectors of the packaged MiniLM."""
    from training.text_encoders import MiniLMEncoder

    return MiniLMEncoder().encode(list(texts)).pooled.astype(np.float32)
