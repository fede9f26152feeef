"""Which phrases of a caption name an entity that a detector can be asked for.

Rows that are dropped keep the reason: ``background`` (what fills the picture, places in it, the picture itself, or a
mere colour), ``text`` ("the text", "a caption": writing without saying what is written), ``duplicate`` (named before),
``too_long``.
A phrase that quotes what is written ('the word STOP') is kept: rendered words are entities with a box of their own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from assets.captions.recaption import require_columns
from assets.graph.schemas import ENTITY_PHRASES
from evaluation.perception.embedded.colors import COLOR_WORDS
from evaluation.tables.perception import PHRASES
from training.errors import FoundryError

MAX_WORDS = 8


def _word_set(words: str) -> frozenset[str]:
    return frozenset(words.split())


_STUFF = _word_set(
    "background backdrop foreground ground surface sky air wall floor scenery scene landscape view"
)
_PLACES = _word_set("left right top bottom middle center centre corner side edge front back upper lower")
_PICTURE = _word_set(
    "picture image photo photograph illustration drawing painting wallpaper stock clipart icon"
)
BACKGROUND_HEADS = _STUFF | _PLACES | _PICTURE
"""Heads of phrases that name no object: stuff, places in a picture, and the picture itself."""

TEXT_HEADS = _word_set("word words text texts letter letters lettering writing caption title inscription")
"""Heads of phrases that speak of writing."""

_DETERMINERS = _word_set("a an the this that these those its their his her our your my some")
_COLORS = frozenset((*COLOR_WORDS, "grey", "two", "tone"))
_DEFINITE = _word_set("the this that these those its their his her")


def select_phrases(phrases: pa.Table, captions: pa.Table, max_words: int = MAX_WORDS) -> pa.Table:
    """Rows of :data:`evaluation.tables.perception.PHRASES` as :data:`assets.graph.schemas.ENTITY_PHRASES`: which go on.

    Args:
        phrases: phrases of one caption per sample, in any order.
        captions: sample_id and caption that they were taken from, such as
            :func:`assets.captions.recaption.global_captions` gives.
        max_words: longest phrase in words that a detector is asked for.

    Returns:
        all rows, sorted by sample_id and phrase_index, with ``keep`` and the first reason that struck.

    Raises:
        FoundryError: ``max_words`` below 1, a column is missing, or a phrase of a sample without caption.
    """
    if max_words < 1:
        raise FoundryError(f"max_words is {max_words}; allowed is 1 or more")
    require_columns(phrases, "phrases", PHRASES.names)
    require_columns(captions, "captions", ("sample_id", "caption"))
    ordered = phrases.select(PHRASES.names).sort_by(
        [("sample_id", "ascending"), ("phrase_index", "ascending")]
    )
    texts = dict(zip(captions["sample_id"].to_pylist(), captions["caption"].to_pylist(), strict=True))
    sample_ids = ordered["sample_id"].to_pylist()
    reasons: list[str] = []
    sample, named = "", dict[str, list[frozenset[str]]]()
    for sample_id, phrase, head in zip(
        sample_ids, ordered["phrase"].to_pylist(), ordered["head"].to_pylist(), strict=True
    ):
        if sample_id != sample:
            sample, named = sample_id, {}
        reasons.append(_reason(phrase, head, named, max_words))
    columns: dict[str, Any] = {name: ordered.column(name) for name in PHRASES.names}
    columns |= {
        "caption": [_caption_of(texts, sample_id) for sample_id in sample_ids],
        "keep": [not reason for reason in reasons],
        "dropped_because": reasons,
    }
    return pa.table([columns[field.name] for field in ENTITY_PHRASES], schema=ENTITY_PHRASES)


def _caption_of(texts: Mapping[str, str], sample_id: str) -> str:
    if sample_id not in texts:
        raise FoundryError(
            f"sample {sample_id}: phrases but no caption; take phrases of the captions that are selected here"
        )
    return texts[sample_id]


def _reason(phrase: str, head: str, named: dict[str, list[frozenset[str]]], max_words: int) -> str:
    """Why a phrase is dropped, empty where it is kept; ``named`` remembers by head the words of those kept."""
    words = re.findall(r"[^\W_]+", phrase.lower())
    if len(words) > max_words:
        return "too_long"
    own = frozenset(words) - _DETERMINERS
    is_mere_color = own <= _COLORS and own != {
        "orange"
    }  # "an orange" is a fruit; no word left is no thing either
    if head in BACKGROUND_HEADS or is_mere_color:
        return "background"
    if head in TEXT_HEADS and own <= TEXT_HEADS:
        return "text"
    definite = words[0] in _DEFINITE
    if any(own == earlier or (definite and own <= earlier) for earlier in named.get(head, [])):
        return "duplicate"
    named.setdefault(head, []).append(own)
    return ""
