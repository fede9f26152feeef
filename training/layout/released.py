"""State dicts of the released CreatiLayout models, and of GLIGEN as diffusers has it, under our names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from training.errors import FoundryError

_SHARED = [
    (r"^position_net\.", "layout_tokens."),
    (r"\.norm1_bbox\.", ".layout.norm1."),
    (r"\.ff_bbox\.", ".layout.ff."),
    (r"\.bbox_forward\.", ".layout.output."),
]
_SD3 = [
    (r"\.bbox_fuser_block\.to_out\.0\.", ".layout.attention.to_out."),
    (r"\.bbox_fuser_block\.", ".layout.attention."),
]
_SD3_LOW_RANK = [
    (r"\.attn\.img_([qkv])_lora\.", r".layout.image_\1."),
    (r"\.attn\.bbox_([qkv])_lora\.", r".layout.layout_\1."),
    (r"\.attn\.proj_lora_img\.", ".layout.image_out."),
    (r"\.attn\.proj_lora_bbox\.", ".layout.layout_out."),
    (r"\.norm1_context_lora_bbox\.1\.", ".layout.modulation."),
    (r"\.ff_context_lora\.0\.", ".layout.ff_in."),
    (r"\.ff_context_lora\.1\.", ".layout.ff_out."),
]
_FLUX = [
    (
        r"(?<!single_)transformer_blocks\.(\d+)\.bbox_attn\.to_out\.0\.",
        r"transformer_blocks.\1.layout.attention.to_out.",
    ),
    (r"(single_transformer_blocks\.\d+)\.bbox_attn\.", r"\1.layout."),
    (r"(?<!single_)transformer_blocks\.(\d+)\.bbox_attn\.", r"transformer_blocks.\1.layout.attention."),
    (r"\.bbox_norm\.", ".layout.norm."),
    (r"\.bbox_proj_mlp\.", ".layout.proj_mlp."),
    (r"\.bbox_proj_out\.", ".layout.proj_out."),
]
_GLIGEN = [
    (r"\.fuser\.attn\.to_out\.0\.", ".layout.to_out."),
    (r"\.fuser\.attn\.", ".layout."),
    (r"\.fuser\.", ".layout."),
]
_RULES = [
    (re.compile(pattern), ours) for pattern, ours in (*_SD3, *_SD3_LOW_RANK, *_FLUX, *_GLIGEN, *_SHARED)
]


def our_name(released: str) -> str:
    """Our name of a released tensor; those of the base keep theirs."""
    for pattern, ours in _RULES:
        released = pattern.sub(ours, released)
    return released


def load_released(model: Any, state: Mapping[str, Tensor]) -> None:
    """Load a released state dict, of base and branch or of the branch alone (the LoRA form), into a model of ours.

    Every tensor must find its place and every tensor of the branch must be there. Raises FoundryError naming the first that
    does not, and tensors of another shape.
    """
    ours = {our_name(name): tensor for name, tensor in state.items()}
    own = model.state_dict()
    for released, name in zip(state, ours, strict=True):
        if name not in own:
            raise FoundryError(
                f"'{released}' has no place in a {type(model).__name__} of layout kind '{model.layout_options.kind}'; "
                "name the kind and the base that the file was trained with"
            )
        if own[name].shape != ours[name].shape:
            raise FoundryError(
                f"'{released}' is {tuple(ours[name].shape)}, the model takes {tuple(own[name].shape)}; it was trained on a "
                "base of another width"
            )
    has_base = any("layout" not in name for name in ours)
    for name in own:
        if name not in ours and (has_base or "layout" in name):
            raise FoundryError(f"'{name}' is missing in the state dict; fetch all of its files")
    model.load_state_dict(ours, strict=False)
