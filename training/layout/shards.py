"""Layouts of a dataset's samples, in a folder beside it: what layout branches train on.

The dataset of latents and captions knows nothing of boxes, so that a moved threshold of annotations makes no backbone stale.
Row by row as there, entities ragged; every distinct phrase is encoded once.

============== ============== ==================================================================
offsets        int64 [n + 1]  entities of sample i are offsets[i] to offsets[i + 1]
boxes          float32 [e, 4] normalised xyxy
phrase_index   int64 [e]      which phrase
phrase_states  float16        [phrases, tokens, dim]: pooled (one token), or the first token states, zero after their end
phrases.json                  the phrases' words
layouts.json                  digests of the dataset, the text encoder and every file
============== ============== ==================================================================
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float16, Int64
from pydantic import BaseModel, ConfigDict

from training.conditioning import Placed
from training.digests import sha256_file
from training.errors import FoundryError
from training.layout.entities import Entity, Layout
from training.recipes.validation import validate
from training.run_folder import replace_folder
from training.text_encoders import TextEncoder

FORMAT = "layouts-1"
DESCRIPTION, PHRASES = "layouts.json", "phrases.json"
ARRAYS = ("offsets", "boxes", "phrase_index", "phrase_states")


class LayoutDescription(BaseModel):
    """Contents of ``layouts.json``. ``num_cut_phrases``: phrases whose end may be lost."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: str
    dataset_digest: str
    text_encoder_digest: str
    num_samples: int
    num_entities: int
    num_phrases: int
    most_entities: int
    tokens_per_entity: int
    phrase_dim: int
    num_cut_phrases: int
    files: dict[str, str]  # name -> sha256


class LayoutShards:
    """Layouts of the samples of one dataset, memory-mapped."""

    def __init__(self, folder: Path, description: LayoutDescription) -> None:
        self.folder, self.description = Path(folder), description

    @classmethod
    def open(cls, folder: Path, dataset_digest: str | None = None) -> LayoutShards:
        """Open a folder of :func:`write_layout_shards`.

        Raises FoundryError when it is missing, damaged, of another format, or made for another dataset than ``dataset_digest``.
        """
        path = Path(folder) / DESCRIPTION
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise FoundryError(
                f"{path}: cannot be read ({error}); materialize layout_shards again"
            ) from error
        found = values.get("format") if isinstance(values, dict) else None
        if found != FORMAT:
            raise FoundryError(
                f"{path}: format is '{found}', expected '{FORMAT}'; materialize layout_shards again"
            )
        description = validate(LayoutDescription, values, str(path))
        if dataset_digest is not None and description.dataset_digest != dataset_digest:
            raise FoundryError(
                f"{path}: made for the dataset {description.dataset_digest[:12]}…, this one is {dataset_digest[:12]}…; "
                "materialize layout_shards again"
            )
        for name in description.files:
            if not (Path(folder) / name).is_file():
                raise FoundryError(f"{Path(folder) / name}: missing; materialize layout_shards again")
        return cls(folder, description)

    def placed(self, rows: Int64[np.ndarray, " b"], max_boxes: int) -> Placed:
        """Layouts of some samples, padded to ``max_boxes``; of more entities the first, which are annotated best."""
        about = self.description
        boxes = np.zeros((len(rows), max_boxes, 4), np.float32)
        phrases = np.zeros((len(rows), max_boxes, about.tokens_per_entity, about.phrase_dim), np.float16)
        there = np.zeros((len(rows), max_boxes), bool)
        for place, row in enumerate(rows):
            first = int(self._offsets[row])
            count = min(int(self._offsets[row + 1]) - first, max_boxes)
            boxes[place, :count] = self._boxes[first : first + count]
            phrases[place, :count] = self._states[self._index[first : first + count]]
            there[place, :count] = True
        return Placed(torch.from_numpy(boxes), torch.from_numpy(phrases).float(), torch.from_numpy(there))

    def entities(self, row: int) -> tuple[Entity, ...]:
        """Phrases and boxes of one sample."""
        span = range(int(self._offsets[row]), int(self._offsets[row + 1]))
        return tuple(
            Entity(self.phrases[int(self._index[i])], tuple(float(v) for v in self._boxes[i]))  # type: ignore[arg-type]
            for i in span
        )

    @cached_property
    def phrases(self) -> list[str]:
        """Words of every phrase."""
        words: list[str] = json.loads((self.folder / PHRASES).read_text(encoding="utf-8"))
        return words

    @cached_property
    def _offsets(self) -> np.ndarray:
        return self._array("offsets")

    @cached_property
    def _boxes(self) -> np.ndarray:
        return self._array("boxes")

    @cached_property
    def _index(self) -> np.ndarray:
        return self._array("phrase_index")

    @cached_property
    def _states(self) -> np.ndarray:
        return self._array("phrase_states")

    def _array(self, name: str) -> np.ndarray:
        return np.load(self.folder / f"{name}.npy", mmap_mode="r")


def write_layout_shards(
    folder: Path,
    layouts: Sequence[Sequence[Entity]],
    encoder: TextEncoder,
    dataset_digest: str,
    *,
    tokens_per_entity: int = 1,
    batch: int = 256,
) -> LayoutDescription:
    """Write the layouts of a dataset's samples, in its order; ``folder`` is replaced as a whole or left as it was.

    ``tokens_per_entity`` 1 keeps the encoder's pooled phrase, more keep so many token states. Phrases that fill the encoder, or
    have more states than are kept, are counted in the description. Raises FoundryError when the disk is full.
    """
    phrases = sorted({entity.phrase for layout in layouts for entity in layout})
    number = {phrase: index for index, phrase in enumerate(phrases)}
    cut = set(encoder.full(phrases))
    if tokens_per_entity > 1:
        lengths = encoder.lengths(phrases)
        cut |= {phrase for phrase, length in zip(phrases, lengths, strict=True) if length > tokens_per_entity}
    entities = [entity for layout in layouts for entity in layout]
    counts = [len(layout) for layout in layouts]
    arrays: dict[str, np.ndarray] = {
        "offsets": np.cumsum([0, *counts]).astype(np.int64),
        "boxes": np.array([entity.box_xyxy_norm for entity in entities], np.float32).reshape(-1, 4),
        "phrase_index": np.array([number[entity.phrase] for entity in entities], np.int64),
        "phrase_states": encoded(encoder, phrases, tokens_per_entity, batch),
    }

    def write(half: Path) -> None:
        half.mkdir()
        for name, array in arrays.items():
            np.save(half / f"{name}.npy", array)
        (half / PHRASES).write_text(json.dumps(phrases, ensure_ascii=False) + "\n", encoding="utf-8")
        files = {path.name: sha256_file(path) for path in sorted(half.iterdir())}
        about = LayoutDescription(
            format=FORMAT,
            dataset_digest=dataset_digest,
            text_encoder_digest=encoder.digest,
            num_samples=len(layouts),
            num_entities=len(entities),
            num_phrases=len(phrases),
            most_entities=max(counts, default=0),
            tokens_per_entity=tokens_per_entity,
            phrase_dim=arrays["phrase_states"].shape[-1],
            num_cut_phrases=len(cut),
            files=files,
        )
        (half / DESCRIPTION).write_text(about.model_dump_json(indent=1) + "\n", encoding="utf-8")

    replace_folder(Path(folder), write)
    return LayoutShards.open(folder).description


def encoded(
    encoder: TextEncoder, phrases: Sequence[str], tokens_per_entity: int, batch: int = 256
) -> Float16[np.ndarray, "phrases tokens dim"]:
    """Phrases as layout branches take them; what is longer than the encoder takes is cut (:meth:`TextEncoder.full`)."""
    pooled = tokens_per_entity == 1
    dim = encoder.pooled_dim if pooled else encoder.dim
    found = np.zeros((len(phrases), tokens_per_entity, dim), np.float16)
    for start, part in _batches(phrases, batch):
        states = encoder.encode_batch(part)
        if pooled:
            found[start : start + len(part), 0] = states.pooled.cpu().numpy()
            continue
        kept = min(tokens_per_entity, states.states.shape[1])
        found[start : start + len(part), :kept] = states.states[:, :kept].cpu().numpy()
    return found


def _batches(phrases: Sequence[str], size: int) -> Iterator[tuple[int, list[str]]]:
    return ((start, list(phrases[start : start + size])) for start in range(0, len(phrases), size))


def placed_of(
    layouts: Sequence[Sequence[Entity]], encoder: TextEncoder, max_boxes: int, tokens_per_entity: int
) -> Placed:
    """Layouts in hand as a model takes them. Raises FoundryError for too many entities."""
    for layout in layouts:
        Layout("", tuple(layout)).require_at_most(max_boxes)
    phrases = sorted({entity.phrase for layout in layouts for entity in layout})
    states = encoded(encoder, phrases, tokens_per_entity)
    boxes = np.zeros((len(layouts), max_boxes, 4), np.float32)
    told = np.zeros((len(layouts), max_boxes, *states.shape[1:]), np.float16)
    there = np.zeros((len(layouts), max_boxes), bool)
    for row, layout in enumerate(layouts):
        for place, entity in enumerate(layout):
            boxes[row, place] = entity.box_xyxy_norm
            told[row, place] = states[phrases.index(entity.phrase)]
            there[row, place] = True
    return Placed(torch.from_numpy(boxes), torch.from_numpy(told).float(), torch.from_numpy(there))
