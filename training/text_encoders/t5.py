"""Encoders of the T5 family: states of the last layer; pooled is the mean of tokens."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from training.text_encoders.checkpoint import CheckpointEncoder
from training.text_encoders.encoding import masked_mean


class T5Encoder(CheckpointEncoder):
    """T5 and its multilingual relatives; positions are relative, so texts may have any length."""

    def load(self) -> Any:
        """See :meth:`CheckpointEncoder.load`."""
        import transformers

        kinds = {"t5": "T5EncoderModel", "umt5": "UMT5EncoderModel", "mt5": "MT5EncoderModel"}
        kind = getattr(transformers, kinds[self.config["model_type"]])
        return kind.from_pretrained(self.folder, dtype=self.dtype)

    def forward(self, ids: Tensor, mask: Tensor | None, ends: Tensor) -> tuple[Tensor, Tensor]:
        """See :meth:`TokenEncoder.forward`."""
        states = self.model(input_ids=ids, attention_mask=mask).last_hidden_state
        return states, masked_mean(states.float(), mask)
