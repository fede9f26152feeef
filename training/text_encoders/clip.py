"""Text towers of CLIP as transformers stores them: CLIP-L, and OpenCLIP's H and bigG where they were converted."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from training.errors import FoundryError
from training.recipes.text_encoder import EncoderSettings
from training.text_encoders.checkpoint import CheckpointEncoder
from training.text_encoders.encoding import at_ends


class ClipEncoder(CheckpointEncoder):
    """Hidden states of the last or the last but one layer; pooled is the end token, projected or not."""

    def __init__(self, settings: EncoderSettings) -> None:
        super().__init__(settings)
        text = self.config.get("text_config") or self.config
        self._check_positions(int(text.get("max_position_embeddings", 77)))

    def load(self) -> Any:
        """See :meth:`CheckpointEncoder.load`. Raises FoundryError for a projection that is not in the weights."""
        from transformers import CLIPTextModel, CLIPTextModelWithProjection

        projected = self.settings.pooled == "projected"
        kind = CLIPTextModelWithProjection if projected else CLIPTextModel
        model, report = kind.from_pretrained(self.folder, dtype=self.dtype, output_loading_info=True)
        if report["missing_keys"]:
            raise FoundryError(
                f"{self.folder}: weights lack {sorted(report['missing_keys'])[0]}; set 'pooled' to 'end' where the "
                "checkpoint has no projection, or give a whole checkpoint"
            )
        return model

    def forward(self, ids: Tensor, mask: Tensor | None, ends: Tensor) -> tuple[Tensor, Tensor]:
        """See :meth:`TokenEncoder.forward`."""
        projected = self.settings.pooled == "projected"
        tower = self.model.text_model if projected else self.model
        output = tower(input_ids=ids, attention_mask=mask, output_hidden_states=True)
        pooled = at_ends(output.last_hidden_state, ends)
        if projected:
            pooled = self.model.text_projection(pooled)
        if self.settings.layer == "last":
            return output.last_hidden_state, pooled
        states = output.hidden_states[-2]
        if self.settings.layer == "penultimate_normalized":
            states = tower.final_layer_norm(states)
        return states, pooled
