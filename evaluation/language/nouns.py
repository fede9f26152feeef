"""Nouns of captions: what caption statistics count, as in Table 3 of the paper on scalability (which uses spaCy too)."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import pyarrow as pa

from evaluation.language.english import (
    BATCH_SIZE,
    ENGLISH_NAME,
    MAX_CHARACTERS,
    TEXT_VERSION,
    english_digest,
    load_english,
)
from evaluation.tables.perception import NOUNS

if TYPE_CHECKING:
    from spacy.language import Language

NOUNS_NAME = f"{ENGLISH_NAME}: nouns"


class NounCounter:
    """A batch worker from rows (text_id, text) to one row of :data:`evaluation.tables.perception.NOUNS` each.

    Nouns are tokens tagged NOUN or PROPN, as lemmas in lower case. The parser and the names' recogniser are left out.
    """

    def __call__(self, batch: pa.Table) -> pa.Table:
        """One row a text, in the batch's order."""
        texts = batch["text"].to_pylist()
        nouns, num_words = [], []
        for document in self._english.pipe((text[:MAX_CHARACTERS] for text in texts), batch_size=BATCH_SIZE):
            nouns.append([token.lemma_.lower() for token in document if token.pos_ in ("NOUN", "PROPN")])
            num_words.append(sum(not (token.is_punct or token.is_space) for token in document))
        made_by = [pa.repeat(value, len(texts)) for value in (NOUNS_NAME, english_digest("nouns"))]
        version = pa.repeat(pa.scalar(TEXT_VERSION, pa.int32()), len(texts))
        return pa.table([batch["text_id"], texts, nouns, num_words, *made_by, version], schema=NOUNS)

    @cached_property
    def _english(self) -> Language:
        return load_english(("parser", "ner", "senter"))
