"""How much captions say: the figures of Table 3 in the scalability paper (arXiv 2404.02883), for each set of captions.

As there, a noun counts once for an image, whichever of its captions says it, original or generated: I-N is the number
of pairs (image, noun), UN the number of different nouns, N/I = I-N / I. The paper's tagger and captioner are not
public; ours are named in the tables that come in, so figures compare between our sets and not with the paper's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Int
from numpy import ndarray

from assets.captions.duplicates import cluster, distinct, similar_pairs
from assets.encodings.text import text_id
from assets.graph.versions import GateResult
from evaluation.tables.columns import described
from training.errors import FoundryError

SETS = ("original", "recaptioned", "mixed")
CAPTION_STATISTICS = pa.schema(
    [
        described(
            "captions",
            pa.string(),
            "original: alt-texts; recaptioned: generated captions that were kept, the alt-text where none was; "
            "mixed: alt-text and kept captions together",
        ),
        described("num_images", pa.int64(), "images, the same in all sets (I)"),
        described("num_captions", pa.int64(), "captions counted"),
        described("words_per_caption", pa.float64(), "mean number of words"),
        described("image_noun_pairs", pa.int64(), "pairs of an image and a noun said of it (I-N)"),
        described("nouns_per_image", pa.float64(), "image_noun_pairs / num_images (N/I)"),
        described("unique_nouns", pa.int64(), "different nouns in all (UN)"),
        described("near_duplicate_share", pa.float64(), "captions that nearly repeat another, in [0, 1]"),
        described("words_histogram", pa.list_(pa.int64()), "captions of 0, 1, ... words; the last: or more"),
        described("growth_captions", pa.list_(pa.int64()), "captions seen, in a fixed random order"),
        described("growth_unique_nouns", pa.list_(pa.int64()), "different nouns among so many captions"),
        described("largest_cluster", pa.int64(), "captions in the largest cluster of near-duplicates"),
        described("largest_cluster_example", pa.string(), "one of them, empty where there is none"),
    ]
)
_GROWTH_POINTS = 40


@dataclass(frozen=True)
class CaptionSet:
    """Captions of one set: parallel arrays of image number and text number (row of :class:`Texts`)."""

    image: Int[ndarray, " n"]
    text: Int[ndarray, " n"]


@dataclass(frozen=True)
class Texts:
    """Distinct captions with their nouns: those of text i are ``noun[starts[i]:starts[i + 1]]``, as numbers."""

    texts: pa.Array
    num_words: Int[ndarray, " t"]
    noun: Int[ndarray, " m"]
    starts: Int[ndarray, " t_plus_1"]

    def nouns_of(self, text: Int[ndarray, " n"]) -> tuple[Int[ndarray, " k"], Int[ndarray, " k"]]:
        """(position in ``text``, noun) for every noun of every text asked for."""
        counts = np.diff(self.starts)[text]
        ends = np.cumsum(counts)
        total = int(ends[-1]) if len(ends) else 0
        place = np.arange(total) - np.repeat(ends - counts, counts) + np.repeat(self.starts[text], counts)
        return np.repeat(np.arange(len(text)), counts), self.noun[place]


def caption_statistics(
    alt_texts: pa.Table,
    recaptions: pa.Table,
    nouns: pa.Table,
    *,
    longest_words: int = 40,
    min_similarity: float = 0.8,
    seed: int = 0,
) -> pa.Table:
    """One row of :data:`CAPTION_STATISTICS` for each of the sets original, recaptioned and mixed.

    Args:
        alt_texts: columns sample_id and alt_text; samples that were never recaptioned do not count.
        recaptions: columns sample_id, caption and keep, of :data:`assets.graph.schemas.RECAPTIONS`.
        nouns: columns text_id, nouns and num_words, of :data:`evaluation.tables.perception.NOUNS`.
        longest_words: captions are counted by length up to so many words.
        min_similarity: Jaccard similarity of word shingles from which captions are near-duplicates.
        seed: of the order in which captions are seen for the growth of the vocabulary.

    Raises:
        FoundryError: a recaptioned sample without alt-text, or a caption whose nouns are not in ``nouns``.
    """
    all_texts, num_images, sets = caption_sets(alt_texts, recaptions)
    texts = _with_nouns(all_texts, nouns)
    similar = similar_pairs(all_texts, min_similarity)
    rows = [
        {
            "captions": name,
            **_counts(chosen, texts, num_images),
            **_growth(chosen, texts, seed),
            **_repeats(chosen, texts, similar),
            "words_histogram": _histogram(texts.num_words[chosen.text], longest_words),
        }
        for name, chosen in sets.items()
    ]
    return pa.Table.from_pylist(rows, schema=CAPTION_STATISTICS)


def caption_sets(alt_texts: pa.Table, recaptions: pa.Table) -> tuple[pa.Array, int, dict[str, CaptionSet]]:
    """Distinct captions, number of images, and the three sets. Only samples of ``recaptions`` count.

    Raises FoundryError for a recaptioned sample without alt-text.
    """
    sample_ids = recaptions["sample_id"].combine_chunks().dictionary_encode()
    image, size = sample_ids.indices.to_numpy().astype(np.int64), len(sample_ids.dictionary)
    found = pc.index_in(sample_ids.dictionary, value_set=alt_texts["sample_id"].combine_chunks())
    if found.null_count:
        missing = sample_ids.dictionary.filter(pc.is_null(found))[0]
        raise FoundryError(
            f"sample {missing} was recaptioned but has no alt-text; curate and recaption the same samples"
        )
    own = alt_texts["alt_text"].combine_chunks().take(found)
    captions = recaptions["caption"].combine_chunks()
    encoded = pa.chunked_array([own, captions]).combine_chunks().dictionary_encode()
    text = encoded.indices.to_numpy().astype(np.int64)
    keep = recaptions["keep"].to_numpy(zero_copy_only=False).astype(bool)
    original = CaptionSet(np.arange(size), text[:size])
    generated = CaptionSet(image[keep], text[size:][keep])
    left_alone = np.setdiff1d(original.image, generated.image)
    recaptioned = _joined(generated, CaptionSet(left_alone, original.text[left_alone]))
    sets = {"original": original, "recaptioned": recaptioned, "mixed": _joined(original, generated)}
    return encoded.dictionary, size, sets


def _joined(first: CaptionSet, second: CaptionSet) -> CaptionSet:
    return CaptionSet(np.concatenate([first.image, second.image]), np.concatenate([first.text, second.text]))


def _with_nouns(texts: pa.Array, nouns: pa.Table) -> Texts:
    """The nouns of each text, found by text id. Raises FoundryError for a text that ``nouns`` lacks."""
    text_ids = pa.array([text_id(text) for text in texts.to_pylist()], pa.string())
    found = pc.index_in(text_ids, value_set=nouns["text_id"].combine_chunks())
    if found.null_count:
        missing = texts.filter(pc.is_null(found))[0].as_py()
        raise FoundryError(
            f"caption_nouns lacks {found.null_count} of {len(texts)} captions, such as {missing[:80]!r}; "
            "materialize caption_nouns again"
        )
    lists = nouns["nouns"].combine_chunks().take(found)
    numbers = lists.flatten().dictionary_encode().indices.to_numpy().astype(np.int64)
    counts = pc.list_value_length(lists).to_numpy()
    num_words = nouns["num_words"].combine_chunks().take(found).to_numpy()
    return Texts(texts, num_words, numbers, np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]))


def _counts(chosen: CaptionSet, texts: Texts, num_images: int) -> dict[str, Any]:
    """The paper's columns."""
    position, noun = texts.nouns_of(chosen.text)
    size = int(texts.noun.max(initial=0)) + 1
    pairs = distinct(chosen.image[position] * size + noun)
    words = texts.num_words[chosen.text]
    return {
        "num_images": num_images,
        "num_captions": len(chosen.text),
        "words_per_caption": float(words.mean()) if len(words) else 0.0,
        "image_noun_pairs": len(pairs),
        "nouns_per_image": len(pairs) / num_images if num_images else 0.0,
        "unique_nouns": len(distinct(pairs % size)),
    }


def _growth(chosen: CaptionSet, texts: Texts, seed: int) -> dict[str, list[int]]:
    """Different nouns among the first n captions of a random order, for n from 1 to all, evenly on a log scale."""
    size = len(chosen.text)
    if size == 0:
        return {"growth_captions": [], "growth_unique_nouns": []}
    position, noun = texts.nouns_of(chosen.text)
    rank = np.random.default_rng(seed).permutation(size)[position]
    first = np.full(int(texts.noun.max(initial=0)) + 1, size)
    np.minimum.at(first, noun, rank)
    seen = distinct(np.geomspace(1, size, _GROWTH_POINTS).round().astype(np.int64))
    unique = np.searchsorted(np.sort(first), seen)
    return {"growth_captions": seen.tolist(), "growth_unique_nouns": unique.tolist()}


def _repeats(chosen: CaptionSet, texts: Texts, similar: Int[ndarray, "pairs 2"]) -> dict[str, Any]:
    """Near-duplicates in the set, given the similar pairs among all texts."""
    found = cluster(chosen.text, similar, len(texts.texts))
    example, size = next(iter(found.largest(1)), (None, 0))
    return {
        "near_duplicate_share": found.redundant_share,
        "largest_cluster": size,
        "largest_cluster_example": "" if example is None else texts.texts[chosen.text[example]].as_py(),
    }


def _histogram(num_words: Int[ndarray, " n"], longest: int) -> list[int]:
    """Number of captions of 0, 1, ... words; the last of ``longest + 1`` entries counts all longer ones too."""
    return np.bincount(np.minimum(num_words, longest), minlength=longest + 1).tolist()


def caption_check(
    statistics: pa.Table,
    min_density_gain: float = 1.0,
    min_diversity_ratio: float = 0.5,
    max_near_duplicate_share: float = 0.9,
) -> GateResult:
    """Whether generated captions are denser than the originals and have not collapsed onto a few.

    Args:
        statistics: rows of :data:`CAPTION_STATISTICS`.
        min_density_gain: least nouns per image of the recaptioned set, as a multiple of the original's.
        min_diversity_ratio: least number of different nouns of the recaptioned set, as a multiple of the original's.
            The mixed set holds the original, so its own vocabulary cannot shrink; it is checked to be no smaller.
        max_near_duplicate_share: largest share of near-duplicates in the recaptioned set.

    Returns:
        the gate, with every figure beside its limit; a ratio is None where the originals have no noun.
    """
    by_set = {row["captions"]: row for row in statistics.to_pylist()}
    original, recaptioned, mixed = (by_set[name] for name in SETS)
    gain = _ratio(recaptioned["nouns_per_image"], original["nouns_per_image"])
    diversity = _ratio(float(recaptioned["unique_nouns"]), float(original["unique_nouns"]))
    share = recaptioned["near_duplicate_share"]
    passed = {
        "dense": _reaches(gain, min_density_gain) and mixed["nouns_per_image"] >= original["nouns_per_image"],
        "diverse": _reaches(diversity, min_diversity_ratio)
        and mixed["unique_nouns"] >= original["unique_nouns"],
        "not_repetitive": share <= max_near_duplicate_share,
    }
    findings = {
        "density_gain": gain,
        "min_density_gain": min_density_gain,
        "diversity_ratio": diversity,
        "min_diversity_ratio": min_diversity_ratio,
        "near_duplicate_share": share,
        "max_near_duplicate_share": max_near_duplicate_share,
        **passed,
    }
    return GateResult(all(passed.values()), findings)


def _ratio(above: float, below: float) -> float | None:
    """Ratio of two counts; None where there was nothing to compare with."""
    return above / below if below > 0 else None


def _reaches(ratio: float | None, least: float) -> bool:
    return ratio is None or ratio >= least
