"""ConSE: naming pictures without training, through ImageNet classes and sentence vectors.

Norouzi et al. 2014 (arXiv 1312.5650): an image's vector is the sum, over its K most probable ImageNet classes, of
probability times the sentence vector of the class name; a text's vector is its own sentence vector. Both are centred
with one **fixed** mean, that of the class names, so that a score never depends on what else is in the batch, and
compared by cosine. Not CLIP: never compare it with published CLIP scores.

Shape legend: b images, v vocabulary, k classes (1000), d sentence dimension (384).
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files

import numpy as np
from jaxtyping import Float

from training.errors import FoundryError

NUM_TOP_CLASSES = 10


@cache
def imagenet_names() -> tuple[str, ...]:
    """English names of the 1000 ImageNet classes in the order of the logits: the first lemma of each WordNet synset.

    Raises:
        FoundryError: the package timm, which holds the lists, is not installed or not complete.
    """
    folder = files("timm.data") / "_info"
    synsets = (folder / "imagenet_synsets.txt").read_text(encoding="utf-8").split()
    lines = (folder / "imagenet_synset_to_lemma.txt").read_text(encoding="utf-8").splitlines()
    lemmas = dict(line.split("\t", 1) for line in lines if "\t" in line)
    missing = [synset for synset in synsets if synset not in lemmas]
    if len(synsets) != 1000 or missing:
        raise FoundryError(
            f"timm's ImageNet lists: found {len(synsets)} classes, {len(missing)} without a name, expected 1000 "
            "named ones; reinstall the package timm"
        )
    return tuple(lemmas[synset].split(",")[0].strip().lower() for synset in synsets)


def unit(rows: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
    """Rows at Euclidean length 1 (rows of zeros stay zeros)."""
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


def class_probabilities(logits_bk: Float[np.ndarray, "b k"]) -> Float[np.ndarray, "b k"]:
    """Softmax over classes."""
    shifted = np.exp(logits_bk - logits_bk.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


def image_vectors(
    logits_bk: Float[np.ndarray, "b k"],
    class_vectors_kd: Float[np.ndarray, "k d"],
    num_top: int = NUM_TOP_CLASSES,
) -> Float[np.ndarray, "b d"]:
    """ConSE vectors of images, centred with the fixed mean of the class names and at unit length (eq. 4 there)."""
    probabilities = class_probabilities(logits_bk.astype(np.float64))
    cut = np.partition(probabilities, -num_top, axis=1)[:, -num_top][:, None]
    top = np.where(probabilities >= cut, probabilities, 0.0)
    top /= top.sum(axis=1, keepdims=True)
    return unit(top @ class_vectors_kd - class_vectors_kd.mean(axis=0)).astype(np.float32)


def text_vectors(
    sentence_vectors_vd: Float[np.ndarray, "v d"], class_vectors_kd: Float[np.ndarray, "k d"]
) -> Float[np.ndarray, "v d"]:
    """Sentence vectors centred with the same fixed mean and at unit length."""
    return unit(sentence_vectors_vd - class_vectors_kd.mean(axis=0)).astype(np.float32)


def conse_scores(
    logits_bk: Float[np.ndarray, "b k"],
    sentence_vectors_vd: Float[np.ndarray, "v d"],
    class_vectors_kd: Float[np.ndarray, "k d"],
    num_top: int = NUM_TOP_CLASSES,
) -> Float[np.ndarray, "b v"]:
    """ConSE score, a cosine in [-1, 1], of every image with every text."""
    images = image_vectors(logits_bk, class_vectors_kd, num_top)
    return images @ text_vectors(sentence_vectors_vd, class_vectors_kd).T
