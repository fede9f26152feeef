"""What encoders of local or hub checkpoints share: settings, folder, digest, tokenizer, device and precision."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch

from training.errors import FoundryError
from training.recipes.text_encoder import (
    EncoderSettings,
    checked_config,
    encoder_digest,
    encoder_folder,
    encoder_widths,
    tokenizer_folder,
)
from training.text_encoders.encoding import TokenEncoder

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class CheckpointEncoder(TokenEncoder):
    """An encoder whose checkpoint lies in a folder; the model is loaded at first use."""

    def __init__(self, settings: EncoderSettings) -> None:
        self.settings = settings
        self.folder = encoder_folder(settings)
        self.config = checked_config(settings, self.folder)
        self.digest = encoder_digest(settings)
        self.dim, self.pooled_dim = encoder_widths(settings)
        self.max_tokens = settings.max_tokens
        self.keep_padding = settings.keep_padding
        self.device = torch.device("cpu")

    @abstractmethod
    def load(self) -> Any:
        """The model in evaluation mode on the CPU, in the settings' precision."""

    @cached_property
    def model(self) -> Any:
        """The model where it runs."""
        return self.load().eval().requires_grad_(False).to(self.device)

    def to(self, device: str) -> CheckpointEncoder:
        """Move the weights."""
        self.device = torch.device(device)
        if "model" in self.__dict__:
            self.model.to(self.device)
        return self

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the weights."""
        return DTYPES[self.settings.precision]

    def tokens(self, texts: Sequence[str]) -> list[list[int]]:
        """See :meth:`TokenEncoder.tokens`."""
        found = self.tokenizer(list(texts), truncation=True, max_length=self.max_tokens, padding=False)
        return [list(ids) for ids in found["input_ids"]]

    @cached_property
    def tokenizer(self) -> Any:
        """The checkpoint's own tokenizer. Raises FoundryError when it is missing."""
        from transformers import AutoTokenizer

        folder = tokenizer_folder(self.folder)
        try:
            return AutoTokenizer.from_pretrained(folder)
        except (OSError, ValueError, KeyError) as error:
            raise FoundryError(
                f"{folder}: no tokenizer that transformers loads ({error}); put its files there, or into a folder "
                "'tokenizer' beside a folder 'text_encoder'"
            ) from error

    @property
    def pad_id(self) -> int:  # type: ignore[override]
        """The token that pads."""
        pad = self.tokenizer.pad_token_id
        return int(self.tokenizer.eos_token_id if pad is None else pad)

    def _check_positions(self, most: int) -> None:
        if self.max_tokens > most:
            raise FoundryError(
                f"{self.folder}: 'max_tokens' is {self.max_tokens}, the model has positions for {most}; lower it"
            )
