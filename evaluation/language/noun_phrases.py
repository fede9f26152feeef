"""Noun phrases of captions, each a candidate for an entity."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from evaluation.language.english import (
    BATCH_SIZE,
    ENGLISH_NAME,
    MAX_CHARACTERS,
    TEXT_VERSION,
    english_digest,
    load_english,
)
from evaluation.tables.perception import PHRASES

if TYPE_CHECKING:
    from spacy.language import Language
    from spacy.tokens import Doc, Span, Token

NOUN_PHRASES_NAME = f"{ENGLISH_NAME}: noun phrases"
_SEPARATORS = frozenset(",;/|")
_WRITING = frozenset(("word", "text", "letter", "title"))
_NOUN_TAGS = frozenset(("NOUN", "PROPN"))


def noun_phrases(document: Doc) -> list[tuple[Span, Token]]:
    """Noun phrases of a parsed text with their head nouns, in order.

    spaCy's noun chunks, but for what captions and alt-texts are full of: a list without verbs ("sun, car, a tree") is
    taken apart at its commas, "the word" and the word that follows are one phrase, and punctuation around a phrase is
    left out. Mere pronouns name nothing and are skipped.
    """
    phrases: list[tuple[Span, Token]] = []
    for chunk in document.noun_chunks:
        if phrases and _is_quoted(phrases[-1], chunk):
            phrases[-1] = document[phrases[-1][0].start : chunk.end], phrases[-1][1]
            continue
        first = chunk.start
        for token in chunk:
            is_comma = (
                token.text in _SEPARATORS and token.i > first and document[token.i - 1].pos_ in _NOUN_TAGS
            )
            if is_comma or token.i == chunk.end - 1:
                part = _trimmed(document[first : token.i + (not is_comma)])
                nouns = [word for word in part if word.pos_ in _NOUN_TAGS]
                if nouns:
                    phrases.append((part, chunk.root if chunk.root in nouns else nouns[-1]))
                first = token.i + 1
    return phrases


def _is_quoted(before: tuple[Span, Token], chunk: Span) -> bool:
    """Whether a chunk is what is written: "STOP" after "the word"."""
    span, head = before
    return head.lemma_.lower() in _WRITING and span.end == chunk.start and span.text.split()[-1] == head.text


def _trimmed(span: Span) -> Span:
    """A span without punctuation and spaces at its ends."""
    first, last = span.start, span.end
    while first < last and not any(character.isalnum() for character in span.doc[first].text):
        first += 1
    while last > first and not any(character.isalnum() for character in span.doc[last - 1].text):
        last -= 1
    return span.doc[first:last]


class PhraseFinder:
    """A batch worker from rows (sample_id, caption) to rows of :data:`evaluation.tables.perception.PHRASES`.

    Which of them a detector is asked for is decided elsewhere.
    """

    def __call__(self, batch: pa.Table) -> pa.Table:
        """All phrases, by the batch's order; none for a caption that names nothing."""
        captions = (caption[:MAX_CHARACTERS] for caption in batch["caption"].to_pylist())
        digest = english_digest("noun phrases")
        rows: list[dict[str, Any]] = []
        for sample_id, document in zip(
            batch["sample_id"].to_pylist(), self._english.pipe(captions, batch_size=BATCH_SIZE), strict=True
        ):
            rows += [
                {
                    "sample_id": sample_id,
                    "phrase_index": index,
                    "phrase": span.text,
                    "head": head.lemma_.lower(),
                    "start": span.start_char,
                    "end": span.end_char,
                    "model": NOUN_PHRASES_NAME,
                    "model_digest": digest,
                    "function_version": TEXT_VERSION,
                }
                for index, (span, head) in enumerate(noun_phrases(document))
            ]
        return pa.Table.from_pylist(rows, schema=PHRASES)

    @cached_property
    def _english(self) -> Language:
        return load_english(("ner", "senter"))
