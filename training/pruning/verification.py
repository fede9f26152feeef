"""Has pruning changed any weight that it left? Answered by digest, without a line of what removed the others.

EcoDiff prunes without retraining: every number of the pruned backbone stands in the dense one. Removal proves nothing
about itself, so the rows and columns that should have survived are found here a second time, from the names and shapes
of the dense backbone's tensors alone, and compared by the SHA-256 of their bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Shaped
from torch import Tensor, nn

from training.backbones import bare
from training.digests import canonical_json, sha256_bytes
from training.errors import FoundryError
from training.pruning._layers import UnitKey
from training.pruning.units import unit_groups

Rows = list[int]
State = dict[str, Tensor]
QUERY_SIDE = ("to_q", "to_k", "to_v", "add_q_proj", "add_k_proj", "add_v_proj")
OUTPUT_SIDE = ("to_out.0", "to_add_out")


def changed_weights(dense: nn.Module, pruned: nn.Module, keep: Mapping[UnitKey, Tensor]) -> list[str]:
    """Names of the pruned backbone's tensors that are not, bit by bit, what ``keep`` leaves of the dense one's.

    An empty list: no surviving weight has changed. Parameters and buffers are compared with their type and shape; a
    tensor that should have survived and is missing, and one that the dense backbone does not account for, are named
    too. ``keep`` is what :func:`training.pruning.prune` was given: True for each unit that stays, modules that it
    leaves out stayed whole, and ``dense`` may itself have been pruned before.

    Raises FoundryError for a module that the dense backbone lacks, a mask of another length or type, and weights
    without values.
    """
    source, found = bare(dense), _tensors(bare(pruned))
    _check(source, keep)
    wanted = dict(_survivors(_tensors(source), keep))
    for name, tensor in [*found.items(), *((name, piece.tensor) for name, piece in wanted.items())]:
        if tensor.is_meta:
            raise FoundryError(
                f"verification: '{name}' is on the meta device, without values; load the backbone's weights"
            )
    names = [*found, *(name for name in wanted if name not in found)]
    return [
        name
        for name in names
        if name not in found or name not in wanted or digest(found[name]) != wanted[name].digest()
    ]


@dataclass(frozen=True)
class Piece:
    """Some rows and columns of a dense tensor, by index; None: all of them."""

    tensor: Tensor
    rows: Rows | None = None
    columns: Rows | None = None

    def cut(self) -> Tensor:
        """A copy of what they hold."""
        value = self.tensor.detach()
        value = value if self.rows is None else value[self.rows]
        return value if self.columns is None else value[:, self.columns]

    @property
    def is_empty(self) -> bool:
        """Whether nothing is left."""
        return self.rows == [] or self.columns == [] or self.tensor.numel() == 0

    def digest(self) -> str:
        """See :func:`digest`."""
        return digest(self.cut())


def digest(tensor: Shaped[Tensor, ...]) -> str:
    """SHA-256 of a tensor's type, shape and bytes, wherever it lies."""
    values = tensor.detach().cpu().contiguous()
    about = canonical_json([str(values.dtype), list(values.shape)])
    return sha256_bytes(about.encode() + values.reshape(-1).view(torch.uint8).numpy().tobytes())


def _tensors(backbone: nn.Module) -> State:
    """Parameters and buffers by name, those too that are computed rather than saved."""
    parameters = dict(backbone.named_parameters(remove_duplicate=False))
    return parameters | dict(backbone.named_buffers(remove_duplicate=False))


def _check(dense: nn.Module, keep: Mapping[UnitKey, Tensor]) -> None:
    kinds = list(dict.fromkeys(kind for kind, _ in keep))
    units = {group.key: group.num_units for group in unit_groups(dense, kinds)} if kinds else {}
    for key, mask in keep.items():
        if mask.dtype != torch.bool or mask.shape != (units.get(key),):
            allowed = f"torch.bool of shape [{units[key]}] is needed" if key in units else "no such module"
            raise FoundryError(
                f"keep of '{'/'.join(key)}': {mask.dtype} of shape {list(mask.shape)} found, {allowed}; "
                "give the masks that this dense backbone was pruned by"
            )


def _survivors(dense: State, keep: Mapping[UnitKey, Tensor]) -> Iterator[tuple[str, Piece]]:
    """Every tensor that the pruned backbone has to hold, by its name there."""
    rows: dict[str, Rows] = {}
    columns: dict[str, Rows] = {}
    gone: list[str] = []
    renamed: dict[str, str] = {}
    for (kind, name), mask in keep.items():
        units = [unit for unit, stays in enumerate(mask.tolist()) if stays]
        if len(units) == len(mask):
            continue
        if kind == "heads":
            _heads(dense, name, units, len(mask), rows, columns)
            gone += [] if units else _without_outputs(dense, name)
        elif kind == "ffn":
            _neurons(dense, name, units, len(mask), rows, columns)
        else:
            yield from _channels(dense, name, units, rows, renamed)
            gone.append(f"{name}.linear.1.places")  # what took their place was just told
    for name, tensor in dense.items():
        module, _, last = name.rpartition(".")
        piece = Piece(tensor, rows.get(module), columns.get(module) if last == "weight" else None)
        if name not in gone and not piece.is_empty:
            yield f"{renamed.get(module, module)}.{last}" if module else name, piece


def _heads(
    dense: State, name: str, heads: Rows, num_heads: int, rows: dict[str, Rows], columns: dict[str, Rows]
) -> None:
    """A head's channels lie side by side: rows of what makes queries, keys and values, columns of what reads them."""
    width = dense[f"{name}.to_q.weight"].shape[0] // num_heads
    channels = [head * width + channel for head in heads for channel in range(width)]
    for part in QUERY_SIDE:
        rows[f"{name}.{part}"] = channels
    for part in OUTPUT_SIDE:
        columns[f"{name}.{part}"] = channels
    shared = f"{name.rpartition('.')[0]}.proj_out"
    if f"{name}.to_out.0.weight" not in dense:  # FLUX's single blocks: neurons' columns come after the heads'
        all_columns = range(dense[f"{shared}.weight"].shape[1])
        _keep_columns(columns, shared, all_columns, all_columns[: num_heads * width], channels)


def _neurons(
    dense: State, name: str, neurons: Rows, num_neurons: int, rows: dict[str, Rows], columns: dict[str, Rows]
) -> None:
    if name.endswith(".act_mlp"):
        block = name.removesuffix(".act_mlp")
        rows[f"{block}.proj_mlp"] = neurons
        all_columns = range(dense[f"{block}.proj_out.weight"].shape[1])
        own = all_columns[len(all_columns) - num_neurons :]
        _keep_columns(columns, f"{block}.proj_out", all_columns, own, [own[neuron] for neuron in neurons])
        return
    first = f"{name}.net.0.proj"
    halves = dense[f"{first}.weight"].shape[0] // num_neurons  # two: GEGLU's values above its gates
    rows[first] = [half * num_neurons + neuron for half in range(halves) for neuron in neurons]
    columns[f"{name}.net.2"] = neurons


def _keep_columns(columns: dict[str, Rows], layer: str, whole: range, own: range, kept: Rows) -> None:
    """Of the columns in ``own`` those in ``kept`` stay; of the others those that stayed before."""
    others = [column for column in columns.get(layer, whole) if column not in own]
    columns[layer] = sorted([*others, *kept])


def _channels(
    dense: State, name: str, channels: Rows, rows: dict[str, Rows], renamed: dict[str, str]
) -> Iterator[tuple[str, Piece]]:
    """adaLN: the rows move to ``linear.0``, and ``linear.1.places`` tells where among the zeros they stand."""
    places = dense.get(f"{name}.linear.1.places")
    layer = f"{name}.linear" if places is None else f"{name}.linear.0"
    rows[layer], renamed[layer] = channels, f"{name}.linear.0"
    if channels:
        earlier = list(range(dense[f"{layer}.weight"].shape[0])) if places is None else places.tolist()
        yield f"{name}.linear.1.places", Piece(torch.tensor([earlier[channel] for channel in channels]))


def _without_outputs(dense: State, name: str) -> list[str]:
    """What an attention without heads has no use for: all but the biases of its output projections."""
    outputs = tuple(f"{name}.{part}." for part in OUTPUT_SIDE)
    return [key for key in dense if key.startswith(f"{name}.") and not key.startswith(outputs)]
