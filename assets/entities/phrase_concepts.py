"""Which concept a phrase names: a known name where one stands in it, else the head noun by plain rules of English."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from functools import lru_cache

# A noun phrase ends before these: what follows says where the thing is or what it has.
_AFTER_HEAD = frozenset(
    [
        "in",
        "on",
        "at",
        "of",
        "with",
        "by",
        "from",
        "under",
        "over",
        "near",
        "behind",
        "beside",
        "between",
        "above",
        "below",
        "wearing",
        "holding",
        "standing",
        "sitting",
        "that",
        "which",
        "who",
        "and",
        "or",
        "to",
        "next",
        "for",
        "against",
        "across",
        "along",
        "around",
        "inside",
    ]
)
_NOT_NOUNS = frozenset(["a", "an", "the", "some", "several", "two", "three", "four", "five", "six"])


def words_of(text: str) -> list[str]:
    """Words in lower case; what is no letter, digit, apostrophe or hyphen parts them."""
    return re.findall(r"[^\W_]+(?:['’-][^\W_]+)*", text.lower())


def concept_of(phrase: str, known_names: Collection[str] = ()) -> str:
    """The concept of an entity's phrase, in lower case: "a red soccer ball" is a "soccer ball" where that is a known
    name and a "ball" otherwise.

    Without a word in it the phrase itself is returned, stripped; where several names stand in it, the longest counts.
    """
    words = words_of(phrase)
    named = [name for name in known_names if mentions(words, name)]
    if named:
        return max(named, key=lambda name: (len(name), name))
    head = ""
    for word in words:
        if word in _AFTER_HEAD and head:
            break
        if word not in _NOT_NOUNS:
            head = word
    return head or phrase.strip().lower()


def mentions(words: Sequence[str], name: str) -> bool:
    """Whether the words of ``name`` stand among ``words`` side by side, the last one perhaps in the plural."""
    wanted = _name_forms(name)
    size = len(wanted)
    if not size or wanted[-1].isdisjoint(words):  # by far the most frequent answer, found quickly
        return False
    return any(
        all(words[start + offset] in forms for offset, forms in enumerate(wanted))
        for start in range(len(words) - size + 1)
    )


@lru_cache(maxsize=4096)
def _name_forms(name: str) -> tuple[frozenset[str], ...]:
    """For each word of a name the forms that count."""
    words = words_of(name)
    if not words:
        return ()
    last = words[-1]
    plurals = {last, last + "s", last + "es"}
    if last.endswith("y"):
        plurals.add(last[:-1] + "ies")
    return (*(frozenset({word}) for word in words[:-1]), frozenset(plurals))
