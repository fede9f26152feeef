"""Roles captioner and describer: texts about images, or about the parts of them in a box."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from evaluation.perception.hub.families import FAMILIES
from evaluation.perception.hub.generation import Answer, generate
from evaluation.perception.hub.images import crop, open_image
from evaluation.perception.hub.loading import Loaded
from evaluation.perception.hub.rows import Maker, captions_table, descriptions_table
from evaluation.perception.hub.settings import HubModel
from evaluation.perception.hub.token_sampling import row_seed
from training.errors import FoundryError

if TYPE_CHECKING:
    from PIL import Image

NO_TEMPLATE = (
    "family '{family}' needs the checkpoint's chat template, and none came with it; add the model's "
    "chat_template.jinja (or chat_template.json) to its folder."
)


@dataclass(frozen=True)
class Ask:
    """One prompt about one image; ``unit`` is the sample's or entity's id, ``text`` the prompt in the model's form."""

    unit: str
    prompt: str
    image: Image.Image
    num_candidates: int
    text: str
    length: int


class HubCaptioner:
    """Batch function of role captioner: rows (sample_id, image) to captions, best first."""

    def __init__(self, loaded: Loaded, settings: HubModel, maker: Maker) -> None:
        self._loaded, self._settings, self._maker = loaded, settings, maker

    def __call__(self, rows: pa.Table) -> pa.Table:
        """Captions of the rows' images. Raises FoundryError naming the sample whose image is broken."""
        settings = self._settings
        asks = []
        for unit, data in zip(rows["sample_id"].to_pylist(), rows["image"].to_pylist(), strict=True):
            image = open_image(data, f"sample {unit}", settings.max_image_side)
            counts = settings.candidates_per_prompt("captioner")
            for prompt, count in zip(settings.prompts_for("captioner"), counts, strict=True):
                if count:
                    asks.append(make_ask(self._loaded, settings.family, unit, prompt, image, count))
        found: dict[str, list[tuple[str, Answer]]] = {unit: [] for unit in rows["sample_id"].to_pylist()}
        for ask, answers in answer_all(self._loaded, settings, asks):
            found[ask.unit] += [(ask.prompt, answer) for answer in answers]
        return captions_table(found, settings, self._maker)


class HubDescriber:
    """Batch function of role describer: rows (entity_id, phrase, box_xyxy_norm, image) to one description each."""

    def __init__(self, loaded: Loaded, settings: HubModel, maker: Maker) -> None:
        self._loaded, self._settings, self._maker = loaded, settings, maker

    def __call__(self, rows: pa.Table) -> pa.Table:
        """Descriptions of the rows' boxes. Raises FoundryError naming the entity whose image is broken."""
        settings = self._settings
        template = settings.prompts_for("describer")[0]
        asks, opened = [], {}
        for row in rows.to_pylist():
            if row["image"] not in opened:  # entities of one image come together
                unit = f"entity {row['entity_id']}"
                opened[row["image"]] = open_image(row["image"], unit, settings.max_image_side)
            part = crop(opened[row["image"]], row["box_xyxy_norm"], settings.crop_margin)
            prompt = template.replace("{phrase}", row["phrase"])
            asks.append(make_ask(self._loaded, settings.family, row["entity_id"], prompt, part, 1))
        found = {
            ask.unit: (ask.prompt, answers[0]) for ask, answers in answer_all(self._loaded, settings, asks)
        }
        return descriptions_table(found, self._maker)


def make_ask(
    loaded: Loaded, family: str, unit: str, prompt: str, image: Image.Image, num_candidates: int
) -> Ask:
    """An ask with the prompt in the family's own form, and how many tokens prompt and image will take."""
    text = prompt_text(loaded.processor, family, prompt)
    length = len(loaded.tokenizer(text)["input_ids"]) + image_tokens(loaded.processor, image)
    return Ask(unit, prompt, image, num_candidates, text, length)


def messages(prompt: str) -> list[dict[str, Any]]:
    """One user turn with an image before its prompt, in the form that chat templates take."""
    return [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": prompt}]}]


def prompt_text(processor: Any, family: str, prompt: str) -> str:
    """The prompt as the model reads it: within its chat template where the family has one.

    Raises FoundryError where the checkpoint came without its template.
    """
    if not FAMILIES[family].uses_chat:
        return prompt
    if not getattr(processor, "chat_template", None):
        raise FoundryError(NO_TEMPLATE.format(family=family))
    text: str = processor.apply_chat_template(messages(prompt), add_generation_prompt=True, tokenize=False)
    return text


def image_tokens(processor: Any, image: Image.Image) -> int:
    """Tokens that stand for the image in the prompt; 0 where the processor does not tell (then all have the same)."""
    count = getattr(
        processor, "_get_num_multimodal_tokens", None
    )  # the hook through which vLLM plans its batches
    if count is None:
        return 0
    return int(count(image_sizes=[(image.height, image.width)])["num_image_tokens"][0])


def batches(asks: Sequence[Ask], batch_size: int) -> Iterator[list[Ask]]:
    """Asks of like length together, so that little is padded; each batch has one number of candidates."""
    ordered = sorted(asks, key=lambda ask: (ask.num_candidates, ask.length))
    for _, alike in groupby(ordered, key=lambda ask: ask.num_candidates):
        group = list(alike)
        for first in range(0, len(group), batch_size):
            yield group[first : first + batch_size]


def answer_all(loaded: Loaded, settings: HubModel, asks: Sequence[Ask]) -> Iterator[tuple[Ask, list[Answer]]]:
    """All answers to all asks, in batches of like length."""
    for batch in batches(asks, settings.batch_size):
        seeds = [
            row_seed(settings.seed, ask.unit, ask.prompt, candidate)
            for ask in batch
            for candidate in range(ask.num_candidates)
        ]
        inputs = prepare(loaded, [ask.text for ask in batch], [ask.image for ask in batch])
        answers = generate(loaded, inputs, settings.decoding, batch[0].num_candidates, seeds)
        yield from zip(batch, answers, strict=True)


def prepare(loaded: Loaded, texts: Sequence[str], images: Sequence[Image.Image]) -> dict[str, Any]:
    """Model inputs for a batch, padded, on the model's device."""
    start = loaded.tokenizer.bos_token
    templated = start is not None and all(text.startswith(start) for text in texts)  # not a second time
    inputs = loaded.processor(
        text=list(texts),
        images=[[image] for image in images],
        padding=True,
        return_tensors="pt",
        **({"add_special_tokens": False} if templated else {}),
    )
    return loaded.to_device(inputs)
