"""Low-rank adapters by peft: which layers they sit on, and how they leave as fused weights and as a file of their own.

Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models", eq. 3: h = W x + alpha / rank * B A x. peft puts
the adapters in; everything else here is plain torch over the names that it gives.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers.models.attention import AttentionModuleMixin, FeedForward
from diffusers.models.attention_processor import Attention
from safetensors.torch import save_file
from torch import Tensor, nn

from training.backbones import bare
from training.errors import FoundryError
from training.recipes.adapters import LoraOptions

LORA_FILE = "pytorch_lora_weights.safetensors"
ADAPTER = "default"
METADATA_KEY = "lora_adapter_metadata"  # where diffusers looks for rank and alpha in the file
_KINDS: Mapping[str, tuple[type, ...]] = {
    "attention": (Attention, AttentionModuleMixin),
    "feed_forward": (FeedForward,),
    "linear": (nn.Module,),
}
_SINGLE_BLOCK_FEED_FORWARD = ("proj_mlp", "proj_out")  # FLUX's single blocks keep theirs beside the attention


def target_layers(backbone: nn.Module, targets: Sequence[str]) -> list[str]:
    """Names of the linear layers that targets mean: a kind, the end of a layer's name, or a module that holds layers.

    Raises FoundryError for a target that matches nothing, with the candidates.
    """
    linears = {name: layer for name, layer in backbone.named_modules() if isinstance(layer, nn.Linear)}
    chosen: set[str] = set()
    for target in targets:
        found = _layers_of_kind(backbone, target, linears) if target in _KINDS else _named(linears, target)
        if not found:
            raise FoundryError(
                f"'lora.targets' has '{target}', which matches no linear layer of {type(backbone).__name__}; "
                f"kinds are {', '.join(_KINDS)}, ends of names are {', '.join(_candidates(linears))}"
            )
        chosen |= found
    return [name for name in linears if name in chosen]


def add_adapters(backbone: nn.Module, options: LoraOptions, seed: int) -> None:
    """Put adapters beside the target layers, in place; they alone train from here on, in float32.

    A is drawn from the seed and torch's own state is kept. Raises FoundryError when peft is missing, a target matches
    nothing, or the rank is above a layer's width.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise FoundryError(
            "section 'lora' needs peft, which is not installed; run: pip install 't2i-foundry[lora]'"
        ) from error
    names = target_layers(backbone, options.targets)
    _check_rank(backbone, names, options.rank)
    config = LoraConfig(
        r=options.rank,
        lora_alpha=options.alpha or options.rank,  # type: ignore[arg-type]
        lora_dropout=options.dropout,
        init_lora_weights="gaussian" if options.init == "gaussian" else True,
        target_modules=names,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        inject_adapter_in_model(config, backbone, ADAPTER)
    for name, parameter in backbone.named_parameters():
        parameter.requires_grad_(f".{ADAPTER}." in name and ".lora_" in name)


def num_adapter_parameters(backbone: nn.Module, options: LoraOptions) -> int:
    """Parameters of the adapters that :func:`add_adapters` puts in: rank times in and out of every target."""
    widths: list[Any] = [backbone.get_submodule(name) for name in target_layers(backbone, options.targets)]
    return sum(options.rank * (layer.in_features + layer.out_features) for layer in widths)


def has_adapters(backbone: nn.Module) -> bool:
    """Whether :func:`add_adapters` was called on it."""
    return any(".lora_A." in name for name, _ in bare(backbone).named_parameters())


def adapter_weights(backbone: nn.Module) -> dict[str, Tensor]:
    """A and B of every target under diffusers' names, ``<layer>.lora_A.weight`` (rank x in) and ``.lora_B`` (out x rank)."""
    return {
        name.replace(f".{ADAPTER}.", "."): parameter.detach()
        for name, parameter in bare(backbone).named_parameters()
        if ".lora_A." in name or ".lora_B." in name
    }


@torch.no_grad()
def fuse(base: nn.Module, weights: Mapping[str, Tensor], options: LoraOptions) -> None:
    """Add alpha / rank * B A to the weights of a backbone without adapters, in place."""
    scale = (options.alpha or options.rank) / options.rank
    for name, down in weights.items():
        layer, part, _ = name.partition(".lora_A.")
        if not part:
            continue
        up = weights[f"{layer}.lora_B.weight"]
        weight = base.get_parameter(f"{layer}.weight")
        delta = scale * (up.float() @ down.float())
        weight.add_(delta.to(weight.device, weight.dtype))


def save_adapters(backbone: nn.Module, folder: Path, part: str, options: LoraOptions) -> None:
    """Write the adapters as diffusers' ``load_lora_weights`` takes them; ``part`` is unet or transformer."""
    weights = {
        f"{part}.{name}": tensor.cpu().contiguous() for name, tensor in adapter_weights(backbone).items()
    }
    about: dict[str, Any] = {
        "peft_type": "LORA",
        "r": options.rank,
        "lora_alpha": options.alpha or options.rank,
        "target_modules": sorted({name.rpartition(".lora_")[0] for name in adapter_weights(backbone)}),
    }
    metadata = {f"{part}.{key}": value for key, value in about.items()}
    folder.mkdir(parents=True, exist_ok=True)
    # One entry alone: safetensors writes several in an order that changes from call to call.
    save_file(weights, folder / LORA_FILE, {METADATA_KEY: json.dumps(metadata, sort_keys=True)})


def _layers_of_kind(backbone: nn.Module, kind: str, linears: Mapping[str, nn.Module]) -> set[str]:
    inside = _KINDS[kind]
    owners = [name for name, module in backbone.named_modules() if name and isinstance(module, inside)]
    found = {name for name in linears if any(name.startswith(f"{owner}.") for owner in owners)}
    if kind == "linear":
        return set(linears)
    if kind == "feed_forward":
        found |= {name for name in linears if _is_single_block_feed_forward(name)}
    return found


def _is_single_block_feed_forward(name: str) -> bool:
    return (
        name.startswith("single_transformer_blocks.")
        and name.rpartition(".")[2] in _SINGLE_BLOCK_FEED_FORWARD
    )


def _named(linears: Mapping[str, nn.Module], target: str) -> set[str]:
    """Layers whose names end so, or else those inside the module of that name."""
    ending = {name for name in linears if name == target or name.endswith(f".{target}")}
    return ending or {name for name in linears if name.startswith(f"{target}.")}


def _candidates(linears: Mapping[str, nn.Module]) -> list[str]:
    """Last parts of the names, with the part before where the last is a number."""
    ends = set()
    for name in linears:
        parts = name.split(".")
        ends.add(".".join(parts[-2:]) if parts[-1].isdigit() else parts[-1])
    return sorted(ends)


def _check_rank(backbone: nn.Module, names: Sequence[str], rank: int) -> None:
    for name in names:
        layer = backbone.get_submodule(name)
        width = min(int(str(getattr(layer, side))) for side in ("in_features", "out_features"))
        if rank > width:
            raise FoundryError(
                f"'lora.rank' is {rank}, above the width {width} of layer {name}; lower it to {width} or less, or "
                "leave that layer out of lora.targets"
            )
