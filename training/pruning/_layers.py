"""Where the prunable units of each backbone lie: which rows and columns of which linear layers belong to a unit.

Counting, masking and removal read the same description, so that they cannot disagree. Units are those of EcoDiff
(arXiv 2412.02852, official code): heads of every attention, hidden neurons of every feed-forward, and the channels
that FLUX's adaptive norms (adaLN) draw from the time embedding.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from diffusers.models.activations import GEGLU, GELU
from diffusers.models.attention import BasicTransformerBlock, JointTransformerBlock
from diffusers.models.attention_processor import (
    Attention,
    AttnProcessor,
    AttnProcessor2_0,
    JointAttnProcessor2_0,
)
from diffusers.models.transformers.transformer_flux import (
    FluxAttention,
    FluxAttnProcessor,
    FluxSingleTransformerBlock,
    FluxTransformerBlock,
)
from torch import nn

from training.backbones import bare, family_of
from training.errors import FoundryError
from training.recipes.pruning import KINDS as KINDS
from training.recipes.pruning import Kind as Kind

UnitKey = tuple[Kind, str]
_BLOCKS = (BasicTransformerBlock, JointTransformerBlock, FluxTransformerBlock, FluxSingleTransformerBlock)
_ATTENTIONS: tuple[Any, ...] = (Attention, FluxAttention)
_PROCESSORS = (AttnProcessor, AttnProcessor2_0, JointAttnProcessor2_0, FluxAttnProcessor)
_ROW_BLOCKS = {GEGLU: 2, GELU: 1}  # GEGLU's projection holds values above gates


@dataclass(frozen=True)
class Layer:
    """One module with prunable units, and the linear layers whose rows and columns belong to them.

    Unit u owns rows ``u * width`` to ``(u + 1) * width`` of each of ``row_blocks`` equal parts of every linear in
    ``inputs``, and as many columns, counted from ``first_column``, of every linear in ``outputs``. ``masked_output``:
    module whose output has one channel (or ``width`` of them) a unit; None where the inputs of ``outputs`` are masked.
    """

    kind: Kind
    name: str
    num_units: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    width: int = 1
    row_blocks: int = 1
    first_column: int = 0
    masked_output: str | None = None

    @property
    def key(self) -> UnitKey:
        """What masks are bound to: kind and the module's dotted name."""
        return self.kind, self.name


def layers_of(backbone: nn.Module) -> list[Layer]:
    """Every module that has units left, in the model's order.

    Raises FoundryError for another class, an attention that is computed otherwise than stock pipelines do, and for
    adapters that were not fused.
    """
    inner = bare(backbone)
    family_of(inner)
    found = [
        layer
        for name, block in inner.named_modules()
        if isinstance(block, _BLOCKS)
        for layer in _layers_of_block(name, block)
    ]
    _check_nothing_missed(inner, {layer.name for layer in found if layer.kind == "heads"})
    for layer in found:
        for name in (*layer.inputs, *layer.outputs):
            linear_of(inner, name)
    return found


def linear_of(backbone: nn.Module, name: str) -> nn.Linear:
    """A linear layer by its name. Raises FoundryError when an adapter or a quantised layer stands in its place."""
    return _plain(backbone.get_submodule(name), name)


def _plain(module: Any, name: str) -> nn.Linear:
    if type(module) is not nn.Linear:
        raise FoundryError(
            f"pruning: '{name}' is a {type(module).__name__}, a plain torch.nn.Linear is needed; fuse adapters into the weights "
            "and load the backbone unquantised"
        )
    return module


def parameters_per_unit(backbone: nn.Module, layer: Layer) -> int:
    """Parameters that go with one unit: its rows with their biases, and its columns."""
    rows = [linear_of(backbone, name) for name in layer.inputs]
    columns = [linear_of(backbone, name) for name in layer.outputs]
    row_size = sum(linear.in_features + (linear.bias is not None) for linear in rows)
    return layer.width * (layer.row_blocks * row_size + sum(linear.out_features for linear in columns))


def shared_parameters(backbone: nn.Module, layer: Layer) -> int:
    """Parameters that no unit owns and that are idle without any: normalisations of an attention's queries and keys."""
    if layer.kind != "heads":
        return 0
    named = backbone.get_submodule(layer.name).named_parameters(prefix=layer.name)
    owners = (*layer.inputs, *layer.outputs)
    return sum(parameter.numel() for name, parameter in named if name.rpartition(".")[0] not in owners)


def _layers_of_block(name: str, block: nn.Module) -> Iterator[Layer]:
    if isinstance(block, FluxSingleTransformerBlock):
        yield from _single_block(name, block)
        return
    for part in ("attn", "attn1", "attn2"):
        attention = getattr(block, part, None)
        if isinstance(attention, _ATTENTIONS):
            yield _heads(f"{name}.{part}", attention)
    for part in ("ff", "ff_context"):
        feed_forward = getattr(block, part, None)
        if feed_forward is not None and not _is_emptied(feed_forward.net[2]):
            yield _neurons(f"{name}.{part}", feed_forward)
    if isinstance(block, FluxTransformerBlock):
        for part in ("norm1", "norm1_context"):
            yield from _channels(f"{name}.{part}", getattr(block, part))


def _heads(name: str, attention: Any) -> Layer:
    if type(attention.processor) not in _PROCESSORS or attention.fused_projections:
        raise FoundryError(
            f"pruning: '{name}' is computed by {type(attention.processor).__name__}; known are "
            f"{', '.join(each.__name__ for each in _PROCESSORS)}; unfuse projections and take adapters out first"
        )
    parts = ("to_q", "to_k", "to_v", "add_q_proj", "add_k_proj", "add_v_proj")
    inputs = tuple(f"{name}.{part}" for part in parts if getattr(attention, part, None) is not None)
    outputs = [f"{name}.to_out.0"]
    if getattr(attention, "to_add_out", None) is not None:
        outputs.append(f"{name}.to_add_out")
    width = _plain(attention.to_q, inputs[0]).out_features // attention.heads
    return Layer("heads", name, attention.heads, inputs, tuple(outputs), width)


def _neurons(name: str, feed_forward: Any) -> Layer:
    activation = feed_forward.net[0]
    if type(activation) not in _ROW_BLOCKS:
        raise FoundryError(
            f"pruning: the activation of '{name}' is {type(activation).__name__}; known are "
            f"{', '.join(each.__name__ for each in _ROW_BLOCKS)}"
        )
    return Layer(
        "ffn",
        name,
        _plain(feed_forward.net[2], f"{name}.net.2").in_features,
        (f"{name}.net.0.proj",),
        (f"{name}.net.2",),
        row_blocks=_ROW_BLOCKS[type(activation)],
        masked_output=f"{name}.net.0",
    )


def _channels(name: str, norm: Any) -> Iterator[Layer]:
    """adaLN channels; a pruned norm holds its rows and their places as two modules."""
    if _is_emptied(norm.linear):
        return
    is_cut = isinstance(norm.linear, nn.Sequential)
    linear = f"{name}.linear.0" if is_cut else f"{name}.linear"
    rows = _plain(norm.linear[0] if is_cut else norm.linear, linear)
    yield Layer("norm", name, rows.out_features, (linear,), (), masked_output=linear)


def _single_block(name: str, block: Any) -> Iterator[Layer]:
    """FLUX's single block: attention and neurons lie side by side in the columns of one output projection."""
    output = (f"{name}.proj_out",)
    first_neuron = 0
    if isinstance(block.attn, FluxAttention):
        inputs = tuple(f"{name}.attn.{part}" for part in ("to_q", "to_k", "to_v"))
        heads, width = block.attn.heads, block.attn.head_dim
        yield Layer("heads", f"{name}.attn", heads, inputs, output, width, masked_output=f"{name}.attn")
        first_neuron = heads * width
    if not _is_emptied(block.proj_mlp):
        yield Layer(
            "ffn",
            f"{name}.act_mlp",
            _plain(block.proj_mlp, f"{name}.proj_mlp").out_features,
            (f"{name}.proj_mlp",),
            output,
            first_column=first_neuron,
            masked_output=f"{name}.act_mlp",
        )
    yield from _channels(f"{name}.norm", block.norm)


def _is_emptied(module: nn.Module) -> bool:
    return getattr(module, "emptied", False) is True


def _check_nothing_missed(backbone: nn.Module, found: set[str]) -> None:
    for name, module in backbone.named_modules():
        if isinstance(module, _ATTENTIONS) and name not in found:
            raise FoundryError(
                f"pruning: attention '{name}' lies outside of the transformer blocks that are known; layouts of Stable "
                "Diffusion 2, SDXL, PixArt, SD3 and FLUX can be pruned"
            )
