"""The judge: a small open_clip model that scores how well a picture fits a text.

It is trained from scratch on a split of its own with the original alt-texts, and shares no weights, features or
labelled examples with the perception that writes captions. Its scores compare with nothing published.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, UInt8
from numpy import ndarray

from evaluation.intervals import Interval, mean_interval
from training.errors import FoundryError

if TYPE_CHECKING:
    from training.model_folders.contrastive import ContrastiveModel


@runtime_checkable
class Embedder(Protocol):
    """Puts pictures and texts into one space, as rows of unit length."""

    def embed_images(self, images: UInt8[ndarray, "n h w 3"]) -> Float[ndarray, "n d"]:
        """One row per picture."""
        ...

    def embed_texts(self, texts: Sequence[str]) -> Float[ndarray, "n d"]:
        """One row per text."""
        ...


class Judge:
    """The trained judge of a model folder, an :class:`Embedder`."""

    def __init__(self, model: ContrastiveModel) -> None:
        self._model = model

    @classmethod
    def load(cls, folder: Path) -> Judge:
        """Load the ``model/`` folder of a contrastive run. Raises FoundryError when a file is missing."""
        from training.model_folders.contrastive import ContrastiveModel

        return cls(ContrastiveModel.load(folder))

    def embed_images(self, images: UInt8[ndarray, "n h w 3"]) -> Float[ndarray, "n d"]:
        """One unit row per picture; pictures have the size the judge was trained on."""
        return self._model.embed_images(images)

    def embed_texts(self, texts: Sequence[str]) -> Float[ndarray, "n d"]:
        """One unit row per text; each distinct text is read once. Unseen words all read as one unknown word."""
        distinct, own = np.unique(np.asarray(texts, dtype=object), return_inverse=True)
        return self._model.embed_texts(distinct.tolist())[own]

    def unknown_words(self, text: str) -> list[str]:
        """Words of the text that the judge never saw in training, and so cannot judge."""
        from training.model_folders.contrastive import split_words

        known = set(self._model.vocabulary.words)
        return [word for word in split_words(text) if word not in known]


@dataclass(frozen=True)
class SwapQuestion:
    """Which text fits the picture: what was drawn, or the same with one object swapped?"""

    right: str
    wrong: str


@dataclass(frozen=True)
class Separation:
    """How well a judge tells right from wrong texts. ``accuracy`` compares the two texts of one picture;
    ``area`` (AUC) compares right and wrong scores across pictures. Guessing gets ``chance`` in both."""

    accuracy: Interval
    area: Interval
    chance: float = 0.5

    @property
    def above_chance(self) -> bool:
        """Whether the judge tells what was drawn beyond chance."""
        return self.accuracy.low > self.chance


def swap_questions(
    drawn: Sequence[Sequence[str]], vocabulary: Sequence[str], seed: int = 0
) -> list[SwapQuestion]:
    """One question per picture, from the names of what was drawn and the names a swap may bring in.

    The swapped object and its replacement (a name not in the picture) depend on (seed, position) alone.
    Raises FoundryError for a picture without objects or a vocabulary that leaves no other name.
    """
    questions = []
    for index, names in enumerate(drawn):
        distinct = list(dict.fromkeys(names))
        others = sorted(set(vocabulary) - set(distinct))
        if not distinct or not others:
            raise FoundryError(
                f"judge separation: picture {index} shows {distinct} and {len(others)} other names are known; "
                "at least one of each is needed; leave out pictures without objects"
            )
        random = np.random.default_rng((seed, index))
        place = int(random.integers(len(distinct)))
        swapped = list(distinct)
        swapped[place] = others[int(random.integers(len(others)))]
        questions.append(SwapQuestion(", ".join(distinct), ", ".join(swapped)))
    return questions


def separation(
    judge: Embedder, images: UInt8[ndarray, "n h w 3"], questions: Sequence[SwapQuestion], seed: int = 0
) -> Separation:
    """Ask the judge every question; a tie counts half. Intervals are bootstrap over pictures.

    Raises FoundryError when there is not one question per picture.
    """
    if len(images) != len(questions) or not questions:
        raise FoundryError(
            f"judge separation: found {len(images)} pictures and {len(questions)} questions; one each is needed"
        )
    pictures = judge.embed_images(images)
    right = (pictures * judge.embed_texts([question.right for question in questions])).sum(axis=1)
    wrong = (pictures * judge.embed_texts([question.wrong for question in questions])).sum(axis=1)
    won = np.heaviside(right - wrong, 0.5).astype(np.float64)
    return Separation(mean_interval(won, seed=seed), _area(right, wrong, seed))


def _area(
    right: Float[ndarray, " n"],
    wrong: Float[ndarray, " n"],
    seed: int,
    resamples: int = 1000,
    level: float = 0.95,
) -> Interval:
    """Area under the ROC curve with a bootstrap over pictures, right and wrong score resampled together."""
    wins = np.heaviside(right[:, None] - wrong[None], 0.5).astype(np.float64)
    count = len(wins)
    counts = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=resamples)
    areas = np.einsum("rn,rn->r", counts @ wins, counts) / count**2
    low, high = np.quantile(areas, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(wins.mean()), float(low), float(high), level, count)
