"""Role phrases: a language model lists the entities that a caption names."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from evaluation.perception.hub.captioning import NO_TEMPLATE
from evaluation.perception.hub.generation import generate
from evaluation.perception.hub.loading import Loaded
from evaluation.perception.hub.rows import Maker
from evaluation.perception.hub.settings import HubModel
from evaluation.tables.perception import PHRASES
from training.errors import FoundryError

RETRY = "That was no JSON list. Answer again with the JSON list alone, nothing before or after it."
_SMALL_WORDS = re.compile(r"\b(of|with|in|on|at|from|that|which|and|by|under|over|near|for|to)\b")


@dataclass(frozen=True)
class Phrase:
    """Words that name one entity and their head noun (lower case, singular)."""

    text: str
    head: str


@dataclass(frozen=True)
class HubPhraseFinder:
    """Batch function of role phrases: rows (sample_id, caption) to phrases in the caption's order."""

    loaded: Loaded
    settings: HubModel
    maker: Maker

    def __call__(self, rows: pa.Table) -> pa.Table:
        """Phrases of the rows' captions.

        Raises FoundryError naming the sample whose answer is no list of phrases, also when asked a second time.
        """
        captions = dict(zip(rows["sample_id"].to_pylist(), rows["caption"].to_pylist(), strict=True))
        prompt = self.settings.prompts_for("phrases")[0]
        turns = {
            unit: [{"role": "user", "content": prompt.replace("{caption}", caption)}]
            for unit, caption in captions.items()
        }
        found: dict[str, list[Phrase] | None] = {}
        answers = self._ask(turns)
        for unit, answer in answers.items():
            found[unit] = parse_phrases(answer)
        again = {
            unit: [
                *turns[unit],
                {"role": "assistant", "content": answers[unit]},
                {"role": "user", "content": RETRY},
            ]
            for unit, phrases in found.items()
            if phrases is None
        }
        for unit, answer in self._ask(again).items():
            found[unit] = parse_phrases(answer)
            if found[unit] is None:
                raise FoundryError(
                    f"sample {unit}: the model's answer is no JSON list of phrases, also when asked again: "
                    f"{answer[:200]!r}. Raise decoding.max_new_tokens, change 'prompts', or take a larger model."
                )
        return phrases_table(captions, {unit: phrases or [] for unit, phrases in found.items()}, self.maker)

    def _ask(self, turns: dict[str, list[dict[str, str]]]) -> dict[str, str]:
        """Answers by unit, in batches of like length."""
        texts = {unit: chat_text(self.loaded.tokenizer, turn) for unit, turn in turns.items()}
        units = sorted(texts, key=lambda unit: len(self.loaded.tokenizer(texts[unit])["input_ids"]))
        answers: dict[str, str] = {}
        for first in range(0, len(units), self.settings.batch_size):
            batch = units[first : first + self.settings.batch_size]
            inputs = self.loaded.tokenizer(
                [texts[unit] for unit in batch],
                padding=True,
                add_special_tokens=False,  # the chat template has put them
                return_token_type_ids=False,
                return_tensors="pt",
            )
            made = generate(
                self.loaded, self.loaded.to_device(inputs), self.settings.decoding, 1, [0] * len(batch)
            )
            answers |= {unit: answer[0].text for unit, answer in zip(batch, made, strict=True)}
        return {unit: answers[unit] for unit in turns}


def chat_text(tokenizer: Any, turns: Sequence[dict[str, str]]) -> str:
    """A conversation as the model reads it. Raises FoundryError where the checkpoint has no chat template."""
    if not getattr(tokenizer, "chat_template", None):
        raise FoundryError(NO_TEMPLATE.format(family="llm"))
    text: str = tokenizer.apply_chat_template(list(turns), add_generation_prompt=True, tokenize=False)
    return text


def parse_phrases(answer: str) -> list[Phrase] | None:
    """The first JSON list in an answer, of strings or of objects with "phrase" and perhaps "head"; None for no such.

    A phrase said twice counts once.
    """
    start = answer.find("[")
    if start < 0:
        return None
    try:
        items, _ = json.JSONDecoder().raw_decode(answer, start)
    except json.JSONDecodeError:
        return None
    phrases: dict[str, Phrase] = {}
    for item in items:
        entry = {"phrase": item} if isinstance(item, str) else item
        if not isinstance(entry, dict) or not isinstance(entry.get("phrase"), str):
            return None
        text = " ".join(entry["phrase"].split())
        head = entry.get("head")
        if text:
            named = head if isinstance(head, str) and head.strip() else head_noun(text)
            phrases.setdefault(text.lower(), Phrase(text, singular(named.strip().lower())))
    return list(phrases.values())


def head_noun(phrase: str) -> str:
    """The likely head of a noun phrase: the last word before the first preposition. "a cup of tea" has "cup"."""
    before = _SMALL_WORDS.split(phrase.lower(), maxsplit=1)[0].split()
    words = before or phrase.lower().split()
    return words[-1].strip(".,;:!?\"'") if words else ""


def singular(noun: str) -> str:
    """A noun without its plural ending, by the common rules: "berries", "boxes" and "cars" but not "glass" or "bus"."""
    if noun.endswith("ies") and len(noun) > 4:
        return noun[:-3] + "y"
    if re.search(r"(ss|bus|x|z|ch|sh)es$", noun):
        return noun[:-2]
    if noun.endswith("s") and not noun.endswith(("ss", "us", "is")) and len(noun) > 3:
        return noun[:-1]
    return noun


def locate(phrase: str, caption: str) -> tuple[int, int]:
    """First and past-the-last character of the phrase's words in the caption; (-1, -1) where they are not in it."""
    pattern = r"\s+".join(re.escape(word) for word in phrase.split())
    match = re.search(rf"(?<!\w){pattern}(?!\w)", caption, flags=re.IGNORECASE)
    return match.span() if match else (-1, -1)


def phrases_table(captions: dict[str, str], found: dict[str, list[Phrase]], maker: Maker) -> pa.Table:
    """Rows of :data:`evaluation.tables.perception.PHRASES`, in the caption's order; phrases that are not its words come last."""
    rows = []
    for unit, phrases in found.items():
        placed = [(locate(phrase.text, captions[unit]), phrase) for phrase in phrases]
        placed.sort(key=lambda pair: pair[0][0] if pair[0][0] >= 0 else len(captions[unit]))
        rows += [
            {
                "sample_id": unit,
                "phrase_index": index,
                "phrase": phrase.text,
                "head": phrase.head,
                "start": start,
                "end": end,
                **maker.columns(),
            }
            for index, ((start, end), phrase) in enumerate(placed)
        ]
    return pa.Table.from_pylist(rows, schema=PHRASES)
