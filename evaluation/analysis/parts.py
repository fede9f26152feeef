"""Which stage and which kind of layer every module of a backbone belongs to.

Stages follow the forward pass: ``input`` (embeddings and projections), ``down.0`` ... ``mid`` ... ``up.0`` ... for
U-Nets or groups of blocks for transformers, ``output``; ``between`` is what the model does itself around them.
Kinds: ``self_attention`` (of image tokens; in joint attention everything but the text's own projections),
``cross_attention`` (with those projections), ``feed_forward``, ``residual`` (convolutional residual blocks) and
``rest`` (norms, modulation, samplers, embeddings). FLUX's single blocks fuse attention's output with the
feed-forward, so their output projection counts as feed-forward.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

STAGES_OF_BLOCKS = 6  # a transformer's blocks are shown in at most so many groups
KINDS = ("self_attention", "cross_attention", "feed_forward", "residual", "rest")

_ATTENTION = ("Attention", "FluxAttention")
_TEXT_PARTS = (
    "add_q_proj",
    "add_k_proj",
    "add_v_proj",
    "to_add_out",
    "norm_cross",
    "norm_added_q",
    "norm_added_k",
)
_FUSED_FEED_FORWARD = ("proj_mlp", "act_mlp", "proj_out")
_OUTPUTS = ("conv_norm_out", "conv_act", "conv_out", "norm_out", "proj_out")


@dataclass(frozen=True)
class Part:
    """One cell of the analysis: a stage and a kind of layer in it."""

    stage: str
    kind: str


def parts_of(model: nn.Module) -> dict[str, Part]:
    """Part of every module by its name, the model itself (named '') included."""
    found = {"": Part("between", "rest")}
    for name, child in model.named_children():
        for below, module, stage in _top(name, child):
            _assign(found, below, module, Part(stage, "rest"), parent=model)
    return found


def stage_order(model: nn.Module) -> list[str]:
    """Stages in the order of the forward pass."""
    seen = dict.fromkeys(part.stage for part in parts_of(model).values())
    blocks = [stage for stage in seen if stage not in ("input", "output", "between")]
    order = {"down": 0, "mid": 1, "up": 2}
    if any(stage.startswith("down.") for stage in blocks):
        blocks.sort(key=lambda stage: order[stage.split(".")[0]])  # stable: numbers keep their order
    return [stage for stage in ("input", *blocks, "output", "between") if stage in seen]


def _top(name: str, child: nn.Module) -> Iterator[tuple[str, nn.Module, str]]:
    """(name, module, stage) of a direct child, a list of blocks taken apart."""
    if not isinstance(child, nn.ModuleList):
        yield name, child, _stage(name)
        return
    yield name, nn.Identity(), "between"  # the list itself does nothing
    width = max(1, -(-len(child) // STAGES_OF_BLOCKS))
    for index, block in enumerate(child):
        yield f"{name}.{index}", block, _list_stage(name, index, len(child), width)


def _stage(name: str) -> str:
    if name == "mid_block":
        return "mid"
    return "output" if name in _OUTPUTS else "input"


def _list_stage(name: str, index: int, length: int, width: int) -> str:
    """``down.1`` for a U-Net's level, ``blocks.4-7`` or ``single.0-6`` for a transformer's group."""
    if name in ("down_blocks", "up_blocks"):
        return f"{name.removesuffix('_blocks')}.{index}"
    start = index // width * width
    end = min(start + width, length) - 1
    label = "single" if name.startswith("single") else "blocks"
    return f"{label}.{start}" if start == end else f"{label}.{start}-{end}"


def _assign(found: dict[str, Part], name: str, module: nn.Module, above: Part, parent: nn.Module) -> None:
    part = Part(above.stage, _kind(name.rpartition(".")[2], module, parent) or above.kind)
    found[name] = part
    for child_name, child in module.named_children():
        _assign(found, f"{name}.{child_name}", child, part, module)


def _kind(segment: str, module: nn.Module, parent: nn.Module) -> str | None:
    """The kind that begins at a module, None where it goes on with its parent's."""
    name, owner = type(module).__name__, type(parent).__name__
    if name == "ResnetBlock2D":
        return "residual"
    if name in _ATTENTION:
        crosses = segment == "attn2" and owner.endswith("BasicTransformerBlock")
        return "cross_attention" if crosses else "self_attention"
    if owner in _ATTENTION and segment in _TEXT_PARTS:
        return "cross_attention"
    if name == "FeedForward" or (owner == "FluxSingleTransformerBlock" and segment in _FUSED_FEED_FORWARD):
        return "feed_forward"
    return None
