"""What a class of ours adds to its stock class, told apart from the base that stays as it is."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

BaseFormat = Literal["fp32", "bf16"]


def is_of_branch(name: str) -> bool:
    """Whether a parameter belongs to a layout branch, by its name in the model."""
    return "layout" in name


def freeze_base(model: nn.Module, base_format: BaseFormat = "fp32") -> None:
    """Train the branch alone. With ``bf16`` the base's linear layers and convolutions are stored in it, for a training whose
    forward pass computes in it anyway; norms stay as they are."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(is_of_branch(name))
    if base_format == "bf16":
        for module in model.modules():
            if isinstance(module, (nn.Linear, nn.Conv2d)):
                for parameter in module.parameters(recurse=False):
                    if not parameter.requires_grad:
                        parameter.data = parameter.data.to(torch.bfloat16)
