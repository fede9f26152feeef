"""Text towers of open_clip checkpoints (``open_clip_config.json`` with safetensors), without their picture tower."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.nn.functional import pad

from training.errors import FoundryError
from training.recipes.text_encoder import EncoderSettings
from training.text_encoders.checkpoint import CheckpointEncoder
from training.text_encoders.encoding import at_ends

TEXT_KEYS = ("token_embedding.", "positional_embedding", "transformer.", "ln_final.", "text_projection")


class OpenClipEncoder(CheckpointEncoder):
    """OpenCLIP-H, -bigG and others with open_clip's own words-to-tokens table; padding comes after the end."""

    pad_id = 0

    def __init__(self, settings: EncoderSettings) -> None:
        super().__init__(settings)
        self._text = self.config["model_cfg"]["text_cfg"]
        if self._text.get("hf_model_name") or self._text.get("hf_tokenizer_name"):
            raise FoundryError(
                f"{self.folder}: its text tower or tokenizer comes from another checkpoint; only open_clip's own are "
                "loaded. Give the converted transformers folder as family 'clip' or 't5'."
            )
        self._check_positions(int(self._text.get("context_length", 77)))

    def load(self) -> Any:
        """See :meth:`CheckpointEncoder.load`. Raises FoundryError when text weights are missing."""
        from open_clip.model import _build_text_tower

        config = self.config["model_cfg"]
        tower = _build_text_tower(config["embed_dim"], dict(self._text), config.get("quick_gelu", False))
        weights = _text_weights(self.folder)
        wanted = tower.state_dict().keys()
        missing = sorted(name for name in wanted - weights.keys() if name != "attn_mask")
        if missing:
            raise FoundryError(f"{self.folder}: weights lack {missing[0]}; give a whole open_clip checkpoint")
        tower.load_state_dict({name: weights[name] for name in wanted & weights.keys()}, strict=False)
        return tower.to(self.dtype)

    def tokens(self, texts: Sequence[str]) -> list[list[int]]:
        """See :meth:`TokenEncoder.tokens`; the end token is the largest number."""
        rows = self.tokenizer(list(texts), context_length=self.max_tokens)
        ends = rows.argmax(dim=1).tolist()
        return [row[: end + 1] for row, end in zip(rows.tolist(), ends, strict=True)]

    @cached_property
    def tokenizer(self) -> Any:
        """open_clip's own."""
        from open_clip.tokenizer import SimpleTokenizer

        return SimpleTokenizer(context_length=self.max_tokens, **self._text.get("tokenizer_kwargs", {}))

    def forward(self, ids: Tensor, mask: Tensor | None, ends: Tensor) -> tuple[Tensor, Tensor]:
        """See :meth:`TokenEncoder.forward`; attention is causal, so that padding after the end changes nothing."""
        tower, width = self.model, ids.shape[1]
        whole = pad(
            ids, (0, tower.context_length - width), value=self.pad_id
        )  # the tower takes one length only
        found = tower.forward_intermediates(whole, indices=2, intermediates_only=True, output_fmt="NLC")
        before, last = (states[:, :width] for states in found["text_intermediates"])
        normed = tower.ln_final(last)
        pooled = at_ends(normed, ends)
        if self.settings.pooled == "projected":
            projection = tower.text_projection
            pooled = projection(pooled) if callable(projection) else pooled @ projection
        if self.settings.layer == "last":
            return normed, pooled
        return (tower.ln_final(before) if self.settings.layer == "penultimate_normalized" else before), pooled


def _text_weights(folder: Path) -> dict[str, Tensor]:
    """Tensors of the text tower by their names in the tower, read from every safetensors file of the folder."""
    from safetensors import safe_open

    weights = {}
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 (it is no mapping)
                own = name.removeprefix("text.")
                if own.startswith(TEXT_KEYS):
                    weights[own] = file.get_tensor(name)
    return weights
