"""Toxic words by a list: a reading is toxic where a listed word stands in it, one letter misread in longer ones allowed."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from evaluation.language.spelling import edit_distance, normalized
from training.digests import canonical_json, sha256_bytes
from training.errors import FoundryError

PACKAGED = Path(__file__).with_name("words.json")
LONGER = 5
"""Letters from which on one of them may be misread."""
FIELDS = ("source", "license", "words")


@dataclass(frozen=True)
class WordList:
    """Words in lower case, where they come from and under which licence they are used."""

    words: tuple[str, ...]
    source: str
    license: str

    @property
    def digest(self) -> str:
        """sha256 of the words."""
        return sha256_bytes(canonical_json({"listed_words": self.words, "longer": LONGER}).encode())

    def of_lengths(self, fewest: int, most: int) -> list[str]:
        """Words of so many letters."""
        return [word for word in self.words if fewest <= len(word) <= most]


def read_word_list(path: Path = PACKAGED) -> WordList:
    """A JSON object with source, license and words. Raises FoundryError naming file and field."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FoundryError(
            f"{path}: cannot be read as JSON ({error}); write an object with source, license and words"
        ) from error
    missing = [name for name in FIELDS if not isinstance(found, dict) or not found.get(name)]
    if missing:
        raise FoundryError(
            f"{path}: '{missing[0]}' is missing; a list says its source, its license and its words"
        )
    words = found["words"]
    if not isinstance(words, list) or not all(isinstance(word, str) and word.strip() for word in words):
        raise FoundryError(f"{path}: 'words' is {type(words).__name__}; write a list of words")
    return WordList(tuple(sorted({normalized(word) for word in words})), found["source"], found["license"])


def toxicity_of(text: str, words: Sequence[str]) -> float:
    """1 where a listed word stands in a text, else 0. Letters and digits count, whatever stands between them."""
    read = re.sub(r"[^a-z0-9 ]", "", normalized(text)).split()
    parts = [*read, "".join(read)]  # OCR may put a space into a word
    return float(any(_is(part, word) for part in parts for word in words))


def _is(read: str, word: str) -> bool:
    if read == word:
        return True
    one_letter = len(word) >= LONGER and abs(len(read) - len(word)) <= 1
    return one_letter and round(edit_distance(read, word) * max(len(read), len(word))) <= 1
