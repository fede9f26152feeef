"""The feed of objectives that denoise latents: which samples, in which order, with which captions and text states."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from training.conditioning import Condition
from training.errors import FoundryError
from training.feed.conditions import EncodedAhead, EncodedInStep, StoredTexts
from training.feed.order import ShardOrder, build_order, selected
from training.feed.staging import RemoteDataset, Stager, claim_cache
from training.hardware import to_device
from training.randomness import Draw
from training.recipes.execution import Execution, input_place
from training.recipes.specification import TrainingSpecification
from training.recipes.text_encoder import EncoderSettings
from training.shards import TrainingShards
from training.shards.arrays import arrays_of
from training.shards.description import SAMPLES_FILE
from training.shards.reading import rows_of
from training.shards.sample_marks import CONCEPT_RANK, CURATED

NULL_CAPTION = -1


@dataclass(frozen=True)
class LatentBatch:
    """Latents with what is told of them; ``captions``: which of its captions each is told, -1 for the empty text."""

    latents: Float[Tensor, "b c h w"]
    condition: Condition
    captions: Int64[np.ndarray, " b"]
    more: Mapping[str, Tensor] = field(default_factory=dict)  # a row per sample of each array asked for


class LatentFeed:
    """Opens the dataset of a specification, here or by URL, and loads batches of it onto the device.

    ``arrays`` names what is read of every sample beside latents and text (:mod:`training.shards.arrays`).

    Raises FoundryError for data that is missing, damaged, or made by other models than the specification names.
    """

    def __init__(
        self,
        spec: TrainingSpecification,
        execution: Execution,
        device: str,
        *,
        pooled: bool = False,
        arrays: tuple[str, ...] = (),
    ) -> None:
        self.device = device
        self._more = arrays
        self._recipe = spec.recipe
        self._stager: Stager | None = None
        self._lock: IO[str] | None = None
        self.shards = self._open(spec, execution)
        check_input_digests(spec, self.shards)
        self.rows = rows_of(selected(spec.recipe.dataset, self.shards))
        self.pad_to: int | None = None
        self._order = self.build_order()
        self._texts = self._text_source(execution, pooled)
        self._prompts: tuple[int, Condition] | None = None

    def build_order(self) -> ShardOrder:
        """The order of samples that the recipe asks for; each caller has its own, since orders remember."""
        recipe = self._recipe
        return build_order(recipe.seed, recipe.batch_size, recipe.dataset, self.shards)

    def look_ahead(self, draws: Iterator[Draw], caption_dropout: float) -> None:
        """Begin to encode the texts of coming batches where execution asks for it; ``draws`` is handed over."""
        if isinstance(self._texts, EncodedAhead):
            self._texts.start(draws, lambda draw: self._texts_ahead(draw, caption_dropout), self.pad_to)

    def load(self, draw: Draw, caption_dropout: float) -> LatentBatch:
        """Latents and the states of one caption each, some replaced by the empty text."""
        rows = self.rows[draw.rows]
        self._require(draw, rows)
        latents = to_device(self.shards.latents(rows), self.device).float()
        captions = self.draw_captions(draw, caption_dropout)
        texts = self._texts_of(rows, captions)
        if isinstance(self._texts, EncodedAhead):
            found = self._texts.get_for(draw, texts, self.pad_to)
        else:
            found = self._texts.get(texts, self.pad_to)
        more = {name: to_device(self.shards.of_samples(name, rows), self.device) for name in self._more}
        return LatentBatch(latents, found.to(dtype=torch.float32), captions, more)

    def draw_captions(self, draw: Draw, caption_dropout: float) -> Int64[np.ndarray, " b"]:
        """Caption numbers of a batch, -1 where the caption is dropped."""
        mix, rows = self._recipe.dataset.captions, self.rows[draw.rows]
        captions = draw.captions(
            self.shards.sample_keys(rows),
            self.shards.num_captions(rows),
            mix.original_probability,
            mix.max_generated,
        )
        return np.where(draw.uniform("caption_dropout") < caption_dropout, NULL_CAPTION, captions)

    def prompts(self, count: int) -> Condition:
        """The first alt-texts of the data, with the empty text as their null."""
        if self._prompts is None or self._prompts[0] != count:
            rows = self.rows[:count]
            if self._stager is not None:
                self._stager.require(self.shards.shards_of(rows))
            texts = self.shards.text_of(rows, np.zeros_like(rows))
            found = self._texts.get(
                np.append(texts, self.shards.null_text(1)), self.shards.description.max_tokens
            )
            self._prompts = count, found.to(dtype=torch.float32).last_as_null()
        return self._prompts[1]

    def null(self) -> Condition:
        """The empty text, one row, padded to the dataset's longest."""
        found = self._texts.get(self.shards.null_text(1), self.shards.description.max_tokens)
        return found.to(dtype=torch.float32)

    def close(self) -> None:
        """End the threads, if any, and leave the cache to others."""
        if isinstance(self._texts, EncodedAhead):
            self._texts.close()
        if self._stager is not None:
            self._stager.close()
        if self._lock is not None:
            self._lock.close()

    def _texts_of(self, rows: np.ndarray, captions: np.ndarray) -> Int64[np.ndarray, " b"]:
        texts = self.shards.text_of(rows, np.maximum(captions, 0))
        return np.where(captions == NULL_CAPTION, self.shards.null_text(len(rows)), texts)

    def _texts_ahead(self, draw: Draw, caption_dropout: float) -> Int64[np.ndarray, " b"]:
        rows = self.rows[draw.rows]
        if self._stager is not None:
            self._stager.wait(self.shards.shards_of(rows))
        return self._texts_of(rows, self.draw_captions(draw, caption_dropout))

    def _require(self, draw: Draw, rows: np.ndarray) -> None:
        """Wait for the shards of a batch, and have those after it fetched."""
        if self._stager is None:
            return
        now, then = self._order.window(draw.first_image)
        self._stager.require(tuple(dict.fromkeys((*self.shards.shards_of(rows), *now))), then)

    def _open(self, spec: TrainingSpecification, execution: Execution) -> TrainingShards:
        place = input_place(execution, "dataset")
        if "://" not in place:
            return TrainingShards.open(Path(place))
        remote = RemoteDataset(place)
        wanted = spec.inputs.get("dataset")
        if wanted is not None and remote.digest != wanted:
            raise FoundryError(
                f"{place}: dataset has digest {remote.digest[:16]}…, the specification names {wanted[:16]}…; "
                "name the dataset that the run was made for, or launch a new run"
            )
        root = Path(execution.local_cache or Path(tempfile.gettempdir()) / "t2i-foundry-shards")
        folder, self._lock = claim_cache(root, remote.digest)
        shards = TrainingShards(folder, remote.description)
        if {CURATED, CONCEPT_RANK} & {*remote.description.columns}:  # which samples take part is told there
            remote.obtain(SAMPLES_FILE, folder)
        texts = "states" if execution.text_mode == "stored" else "words"
        arrays = (*arrays_of("samples", texts), *self._more)
        limit = int(execution.local_cache_gib * 2**30)
        self._stager = Stager(remote, folder, limit, arrays, shards.arrays)
        return shards

    def _text_source(self, execution: Execution, pooled: bool) -> StoredTexts | EncodedInStep | EncodedAhead:
        if execution.text_mode == "stored":
            return StoredTexts(self.shards, self.device, pooled=pooled)
        from training.text_encoders import build_encoder

        device = self.device if execution.text_device == "same" else execution.text_device
        encoder = build_encoder(execution.text_encoder or EncoderSettings(), device)
        in_step = EncodedInStep(self.shards, encoder, self.device, pooled=pooled)
        return (
            in_step if execution.text_mode == "step" else EncodedAhead(in_step, execution.text_batches_ahead)
        )


def check_input_digests(spec: TrainingSpecification, shards: TrainingShards) -> None:
    """Refuse data made by another autoencoder or text encoder than the specification names."""
    found = {
        "autoencoder": shards.description.autoencoder_digest,
        "text_encoder": shards.description.text_encoder_digest,
    }
    for name, digest in found.items():
        wanted = spec.inputs.get(name)
        if wanted is not None and digest != wanted:
            raise FoundryError(
                f"{shards.folder}: made with {name} {str(digest)[:12]}…, the specification names {wanted[:12]}…; "
                "write the training shards again or name that model"
            )
