"""Names for crops: the concept bank where it knows, ConSE over a vocabulary where that is worth something, or none."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from evaluation.perception.embedded.bank import (
    ConceptBank,
    bank_probabilities,
    concept_similarities,
    conse_evidence,
)
from evaluation.perception.embedded.calibration import Logistic
from evaluation.perception.embedded.identity import MIN_BANK_PROBABILITY, MIN_CONSE_PROBABILITY

NUM_CANDIDATES = 3


@dataclass(frozen=True)
class Naming:
    """Candidate names, best first, with a probability in [0, 1] each; ``source`` is concept_bank, conse or none."""

    names: tuple[str, ...]
    scores: tuple[float, ...]
    source: str


NO_NAME = Naming((), (), "none")


def name_crops(
    features: Float[np.ndarray, "b 1280"],
    logits: Float[np.ndarray, "b 1000"],
    colors: Float[np.ndarray, "b words12"],
    bank: ConceptBank,
    *,
    closed_set: bool = False,
) -> list[Naming]:
    """A naming of every crop.

    The probability of a bank name is P(concept is in the bank) x P(which one). Below :data:`MIN_BANK_PROBABILITY`
    ConSE may answer; its probability is how often it was right on the bank's own pictures at such evidence, shared
    among candidates. Below :data:`MIN_CONSE_PROBABILITY` the crop stays without a name.

    ``closed_set`` takes for granted that the concept is in the bank and names every crop by the closest: for pictures
    that a model drew, which are further from the bank's than the calibration's crops are.
    """
    if len(features) == 0:
        return []
    similarity = concept_similarities(
        features, colors, bank.features, bank.colors, bank.center, bank.view_concept
    )
    bank_probability = bank_probabilities(similarity, Logistic(*bank.known), bank.temperature)
    if closed_set:
        return [_of_bank(bank, row) for row in bank_probability]
    conse_scores, evidence = conse_evidence(logits, bank.vocabulary_vectors, bank.class_vectors)
    conse_probability = Logistic(*bank.conse_right)(evidence.astype(np.float64))
    return [
        _choose(bank, bank_probability[row], conse_scores[row], float(conse_probability[row]))
        for row in range(len(features))
    ]


def _choose(
    bank: ConceptBank,
    bank_probability_c: Float[np.ndarray, " c"],
    conse_scores_v: Float[np.ndarray, " v"],
    conse_probability: float,
) -> Naming:
    if bank_probability_c.max() >= MIN_BANK_PROBABILITY:
        return _of_bank(bank, bank_probability_c)
    if conse_probability >= MIN_CONSE_PROBABILITY:
        best = np.argsort(-conse_scores_v, kind="stable")[:NUM_CANDIDATES]
        # the runners-up are worth at most what is left, in the ratio of their scores to the best
        share = np.maximum(conse_scores_v[best], 0) / max(float(conse_scores_v[best[0]]), 1e-9)
        rest = np.minimum(conse_probability, 1 - conse_probability) * share
        scores = (conse_probability, *(float(value) for value in rest[1:]))
        return Naming(tuple(bank.vocabulary[index] for index in best), scores, "conse")
    return NO_NAME


def _of_bank(bank: ConceptBank, bank_probability_c: Float[np.ndarray, " c"]) -> Naming:
    best = np.argsort(-bank_probability_c, kind="stable")[:NUM_CANDIDATES]
    names = tuple(bank.concepts[index] for index in best)
    return Naming(names, tuple(float(bank_probability_c[index]) for index in best), "concept_bank")
