"""Memory of a forward pass: the weights, and the most that the pass itself has alive at one time."""

from __future__ import annotations

from typing import Any, Protocol, no_type_check, runtime_checkable

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from training.backbones import collector_paused
from training.planning.live_bytes import LiveBytes


@runtime_checkable
class Example(Protocol):
    """Inputs that know how a model is called with them, such as :class:`training.backbones.Inputs`."""

    def call(self, model: Any) -> Any: ...


def peak_memory_bytes(backbone: nn.Module, example: Example) -> int:
    """Bytes of a backbone's parameters and buffers, and the most that one forward pass without gradients adds to them.

    The inputs are not counted, nor what else lies on the device. What the pass adds:

    - on a CPU, the bytes of all tensors that torch operations return and that are alive at once, each storage once and
      whole, views and in-place results not again. It is a count: the same on every machine with the same kernels. What
      a kernel allocates within itself and frees before it returns is not seen, nor is what the allocator wastes.
    - on a GPU, torch's own peak of allocated bytes, which does see kernels' work space, and rounds every block up to
      512 bytes.
    """
    device = next(backbone.parameters()).device
    added = _cuda_peak if device.type == "cuda" else _counted_peak
    with torch.no_grad(), collector_paused():
        return weight_bytes(backbone) + added(backbone, example)


def weight_bytes(backbone: nn.Module) -> int:
    """Bytes of parameters and buffers, each storage once."""
    storages = [tensor.untyped_storage() for tensor in _weights(backbone)]
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


def _weights(backbone: nn.Module) -> list[Tensor]:
    return [*backbone.parameters(), *backbone.buffers()]


def _counted_peak(backbone: nn.Module, example: Example) -> int:
    live = _OwnBytes()
    with live:
        example.call(backbone)
    return max((sum(row) for row in live.rows), default=0)


def _cuda_peak(backbone: nn.Module, example: Example) -> int:
    device = next(backbone.parameters()).device
    example.call(backbone)  # libraries' work space stays from the first call on
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    example.call(backbone)
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) - before


class _OwnBytes(LiveBytes):
    """Live bytes of what the pass makes: a storage that an operation is given and none has made was there before."""

    @no_type_check
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for leaf in tree_leaves((args, kwargs or {})):
            if isinstance(leaf, Tensor):
                self.ignore(leaf)
        return super().__torch_dispatch__(func, types, args, kwargs)
