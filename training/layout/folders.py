"""Layout branches on disk: apart from their base, in megabytes, with the digest of the base they were trained on."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from training.backbones import bare, family_of
from training.backbones import freeze_base as freeze_base
from training.backbones import is_of_branch as is_of_branch
from training.errors import FoundryError
from training.recipes.layout import BRANCH, CONFIG, LayoutOptions


def branch_parameters(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """Names and parameters of the branch."""
    return ((name, parameter) for name, parameter in model.named_parameters() if is_of_branch(name))


def grow_branch(base: Any, options: LayoutOptions, seed: int = 0) -> Any:
    """A model with an untrained branch around a stock base, whose weights it takes over without a copy.

    ``seed`` fixes the branch's initial weights; torch's own state is kept. Raises FoundryError for a family without one.
    """
    inner: Any = bare(base)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = class_for(inner)(**_stock_config(inner), layout=options.model_dump())
    made.load_state_dict(inner.state_dict(), strict=False, assign=True)
    return made.to(next(inner.parameters()).device)


def class_for(base: nn.Module) -> Any:
    """The class with branches of a stock base. Raises FoundryError for a family that has none, and for a changed base."""
    from training.layout.flux import LayoutFluxTransformer2DModel
    from training.layout.sd3 import LayoutSD3Transformer2DModel
    from training.layout.unet import LayoutUNet2DConditionModel

    known = {
        "SD": LayoutUNet2DConditionModel,
        "SDXL": LayoutUNet2DConditionModel,
        "SD3": LayoutSD3Transformer2DModel,
        "FLUX": LayoutFluxTransformer2DModel,
    }
    row = family_of(base)
    if row.name not in known:
        raise FoundryError(
            f"the base is of family {row.name}; layout branches are there for {', '.join(known)}"
        )
    if type(base).__name__ != row.class_name:
        raise FoundryError(
            f"the base is a {type(base).__name__}; a branch is grown on a stock {row.class_name}, so take the model that it "
            "was made from"
        )
    return known[row.name]


def save_branch(model: Any, folder: Path, base_digest: str) -> None:
    """Write the branch alone, and beside it what it is and the digest of its base."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    inner: Any = bare(model)
    tensors = {name: value.contiguous() for name, value in inner.state_dict().items() if is_of_branch(name)}
    save_file(tensors, folder / BRANCH, metadata={"format": "pt"})
    told = {
        "class_name": type(inner).__name__,
        "layout": inner.layout_options.model_dump(),
        "base_digest": base_digest,
        "base": {name: inner.config[name] for name in _BASE_FIELDS if name in inner.config},
    }
    (folder / CONFIG).write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


def count_parameters(folder: Path) -> int:
    """Parameters of a branch folder, told by its header alone."""
    with safe_open(folder / BRANCH, framework="pt") as tensors:
        return sum(math.prod(tensors.get_slice(name).get_shape()) for name in tensors.keys())  # noqa: SIM118


_BASE_FIELDS = (
    "in_channels", "patch_size", "num_layers", "num_single_layers", "num_attention_heads", "attention_head_dim",
    "block_out_channels", "layers_per_block", "transformer_layers_per_block", "cross_attention_dim",
)  # fmt: skip
"""What a base must share with the one that a branch was trained on."""


def load_branch(base: Any, folder: Path, base_digest: str | None = None) -> Any:
    """A stock base with the branch of a folder. ``base_digest``: the base's, where it is known.

    Raises FoundryError, naming the field, for a base of another digest, width, depth or latent space, and for a folder that is
    not one of :func:`save_branch`.
    """
    folder = Path(folder)
    if not (folder / CONFIG).is_file() or not (folder / BRANCH).is_file():
        raise FoundryError(f"{folder}: holds no {CONFIG} and {BRANCH}; name the folder of a layout branch")
    told = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    if base_digest is not None and told["base_digest"] != base_digest:
        raise FoundryError(
            f"{folder}: was trained on the base {told['base_digest'][:12]}…, this one is {base_digest[:12]}…; take the base "
            "that it names, or train a branch on this one"
        )
    inner: Any = bare(base)
    for name, wanted in told["base"].items():
        found = inner.config.get(name)
        found = json.loads(json.dumps(found))  # which knows no tuples
        if found != wanted:
            raise FoundryError(
                f"{folder}: its base has {name} {wanted}, this one {found}; a branch fits the base that it was trained on"
            )
    model = grow_branch(inner, LayoutOptions.model_validate(told["layout"]))
    if type(model).__name__ != told["class_name"]:
        raise FoundryError(
            f"{folder}: is for a {told['class_name']}, this base makes a {type(model).__name__}"
        )
    state = load_file(folder / BRANCH)
    wanted_names = {name for name in model.state_dict() if is_of_branch(name)}
    for name in sorted(wanted_names ^ state.keys()):
        raise FoundryError(
            f"{folder}: tensor '{name}' is {'missing' if name in wanted_names else 'not of this branch'}; fetch it again"
        )
    model.load_state_dict(state, strict=False)
    return model


def _stock_config(base: Any) -> dict[str, Any]:
    return {name: value for name, value in base.config.items() if not name.startswith("_")}
