"""Where the states of a batch's texts come from: stored, encoded in the step, or encoded ahead in a thread.

All three give the same numbers to rounding: states are float16 as they are stored. The two that encode give the same
bits as each other, since both encode the texts of one batch together whatever the timing.
"""

from __future__ import annotations

import queue
import threading
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Int64

from training.conditioning import Condition
from training.errors import FoundryError
from training.randomness import Draw
from training.shards import TrainingShards
from training.text_encoders import TextEncoder, TokenStates

SECONDS_BETWEEN_LOOKS = 0.2


@runtime_checkable
class TextSource(Protocol):
    """Gives texts by their numbers in the dataset, float16 on the training's device."""

    def get(self, texts: Int64[np.ndarray, " b"], pad_to: int | None) -> Condition:
        """States padded with zeros to the longest text, or to ``pad_to`` tokens."""
        ...


class StoredTexts:
    """States that were stored with the dataset. Raises FoundryError when there are none."""

    def __init__(self, shards: TrainingShards, device: str, *, pooled: bool = False) -> None:
        if not shards.description.has_states:
            raise FoundryError(
                f"{shards.folder}: holds no text states; set text_mode to 'stage' or 'step' in execution.json, or "
                "write the dataset with states"
            )
        self._shards, self._device, self._with_pooled = shards, device, pooled
        self._buffer = np.empty(0, np.float16)

    def get(self, texts: Int64[np.ndarray, " b"], pad_to: int | None) -> Condition:
        """See :class:`TextSource`."""
        most = (
            len(texts) * (pad_to or self._shards.description.max_tokens) * self._shards.description.text_dim
        )
        if len(self._buffer) < most:
            self._buffer = np.empty(most, np.float16)
        batch = self._shards.text_states(texts, pad_to, pooled=self._with_pooled, out=self._buffer)
        shared = Condition.of_arrays(batch.states, batch.mask, batch.pooled)
        return replace(shared, states=shared.states.clone()).to(self._device)  # the buffer is used again


def stored_texts(shards: TrainingShards, texts: Int64[np.ndarray, " b"]) -> Condition:
    """Texts by their numbers as a sampler takes them, on the CPU: float32, padded to the dataset's longest, with pooled
    text, and the empty text as their null. Raises FoundryError for a dataset without states."""
    every = np.append(texts, shards.null_text(1))
    found = StoredTexts(shards, "cpu", pooled=True).get(every, shards.description.max_tokens)
    return found.to(dtype=torch.float32).last_as_null()


def alt_texts(shards: TrainingShards, rows: Int64[np.ndarray, " b"]) -> Condition:
    """:func:`stored_texts` of the original alt-texts of some samples."""
    return stored_texts(shards, shards.text_of(rows, np.zeros(len(rows), np.int64)))


class EncodedInStep:
    """Words are read and encoded when they are needed, each text of a batch once.

    Raises FoundryError when the dataset has no words, or its states are another encoder's.
    """

    def __init__(
        self, shards: TrainingShards, encoder: TextEncoder, device: str, *, pooled: bool = False
    ) -> None:
        about = shards.description
        if not about.has_words:
            raise FoundryError(
                f"{shards.folder}: holds no words, so that texts cannot be encoded while training; write the dataset "
                "with its captions, or set text_mode to 'stored' in execution.json"
            )
        if about.text_encoder_digest != encoder.digest:
            raise FoundryError(
                f"{shards.folder}: made for text_encoder {str(about.text_encoder_digest)[:12]}…, the encoder of "
                f"execution.json is {encoder.digest[:12]}…; name that encoder, with the same settings"
            )
        self.shards, self.encoder = shards, encoder
        self._device, self._with_pooled = device, pooled
        self._one_at_a_time = threading.Lock()  # tokenizers and models are not made for two threads

    def get(self, texts: Int64[np.ndarray, " b"], pad_to: int | None) -> Condition:
        """See :class:`TextSource`."""
        distinct, places = np.unique(texts, return_inverse=True)
        with self._one_at_a_time:
            encoded = self.encoder.encode_batch(self.shards.words(distinct))
        return self._spread(encoded, places.astype(np.int64), pad_to)

    @torch.inference_mode()
    def _spread(self, encoded: TokenStates, places: np.ndarray, pad_to: int | None) -> Condition:
        width = pad_to or encoded.states.shape[1]
        chosen = torch.from_numpy(places).to(encoded.states.device)
        states = encoded.states.index_select(0, chosen)
        states = torch.nn.functional.pad(states, (0, 0, 0, width - states.shape[1])).to(self._device)
        mask = torch.from_numpy(encoded.mask(width)[places]).to(self._device)
        pooled = encoded.pooled.index_select(0, chosen).to(self._device) if self._with_pooled else None
        return Condition(states, mask, pooled)


class _Ready(NamedTuple):
    first_image: int
    texts: np.ndarray
    tensors: Condition


class EncodedAhead:
    """Encodes the texts of coming batches in a thread, at most ``depth`` batches ahead.

    A batch that was not foreseen is encoded in the step: the same numbers, later.
    """

    def __init__(self, source: EncodedInStep, depth: int) -> None:
        self._source = source
        self._queue: queue.Queue[_Ready | BaseException | None] = queue.Queue(depth)
        self._waiting: _Ready | None = None
        self._running = False
        self._stop = threading.Event()
        weakref.finalize(self, self._stop.set)

    def start(
        self,
        draws: Iterator[Draw],
        texts_of: Callable[[Draw], Int64[np.ndarray, " b"]],
        pad_to: int | None,
    ) -> None:
        """Begin to encode the texts of ``draws``; ``draws`` and ``texts_of`` are the thread's alone from now on."""
        if self._running:
            raise FoundryError("texts are encoded ahead already; start once")
        self._running = True
        arguments = (self._source, draws, texts_of, pad_to, self._queue, self._stop)
        threading.Thread(target=_encode_all, args=arguments, daemon=True).start()

    def close(self) -> None:
        """End the thread."""
        self._stop.set()

    def get(self, texts: Int64[np.ndarray, " b"], pad_to: int | None) -> Condition:
        """States of texts that belong to no batch: encoded now."""
        return self._source.get(texts, pad_to)

    def get_for(self, draw: Draw, texts: Int64[np.ndarray, " b"], pad_to: int | None) -> Condition:
        """States of a batch's texts, from the thread where it foresaw them. Raises what the thread raised."""
        while (ready := self._next()) is not None and ready.first_image <= draw.first_image:
            self._waiting = None
            if ready.first_image == draw.first_image and np.array_equal(ready.texts, texts):
                return ready.tensors
        return self._source.get(texts, pad_to)

    def _next(self) -> _Ready | None:
        """The next batch that is or will be ready, without taking it; None when none is to come."""
        if self._waiting is None and self._running:
            item = self._queue.get()
            if isinstance(item, BaseException):
                self._running = False
                raise item
            self._running = item is not None
            self._waiting = item
        return self._waiting


def _encode_all(
    source: EncodedInStep,
    draws: Iterator[Draw],
    texts_of: Callable[[Draw], Int64[np.ndarray, " b"]],
    pad_to: int | None,
    out: queue.Queue[_Ready | BaseException | None],
    stop: threading.Event,
) -> None:
    """The thread. Whatever ends it is handed to the loop, which raises it."""
    try:
        for draw in draws:
            texts = texts_of(draw)
            if not _put(out, _Ready(draw.first_image, texts, source.get(texts, pad_to)), stop):
                return
        _put(out, None, stop)
    except BaseException as error:  # noqa: BLE001 (a thread has nobody else to tell)
        _put(out, error, stop)


def _put(
    out: queue.Queue[_Ready | BaseException | None],
    item: _Ready | BaseException | None,
    stop: threading.Event,
) -> bool:
    while not stop.is_set():
        try:
            out.put(item, timeout=SECONDS_BETWEEN_LOOKS)
        except queue.Full:
            continue
        return True
    return False
