"""What one unit of each module costs, for ranking units by score per cost."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import nn

from training.backbones import Inputs, bare, example_inputs
from training.errors import FoundryError
from training.pruning._layers import Kind, Layer, UnitKey, linear_of
from training.pruning.units import DEFAULT_KINDS, chosen_layers, unit_groups

CostMeasure = Literal["parameters", "milliseconds"]
COST_MEASURES: tuple[CostMeasure, ...] = ("parameters", "milliseconds")
SHORTEST = 1e-6
"""Milliseconds that a clock may miss; costs must not be 0."""


def unit_costs(
    backbone: nn.Module,
    by: str,
    kinds: Sequence[Kind] = DEFAULT_KINDS,
    *,
    inputs: Inputs | None = None,
    runs: int = 5,
) -> dict[UnitKey, float]:
    """Cost of one unit by kind and module, in one of :data:`COST_MEASURES`, to be given to :func:`keep_best` as ``costs``.

    ``parameters``: those that go with the unit; the backbone may lie on the meta device. ``milliseconds``: the median time
    of the module's forward over ``runs`` passes with ``inputs`` (``example_inputs`` of one latent if None), after one that
    is not counted, divided by the module's units. Time that does not shrink with the units, such as a kernel's launch, is
    thus shared out among them. A module is the attention or feed-forward whole, of an adaLN its projection; in FLUX's
    single blocks the attention or ``proj_mlp`` with the activation, and the share of ``proj_out`` that its columns are.

    Raises FoundryError for an unknown measure, ``runs`` below 1, a backbone without values where time is asked for, and
    as :func:`unit_groups` does.
    """
    if by not in COST_MEASURES:
        raise FoundryError(f"by: '{by}' found, allowed are {', '.join(COST_MEASURES)}")
    if by == "parameters":
        return {group.key: float(group.parameters_per_unit) for group in unit_groups(backbone, kinds)}
    inner: Any = bare(backbone)
    if next(inner.parameters()).is_meta:
        raise FoundryError(
            "by: 'milliseconds' needs a backbone with values, this one lies on the meta device"
        )
    if runs < 1:
        raise FoundryError(f"runs: {runs} found, 1 or more are needed")
    return _milliseconds(inner, chosen_layers(inner, kinds), inputs or example_inputs(inner), runs)


def _milliseconds(
    backbone: nn.Module, layers: Sequence[Layer], inputs: Inputs, runs: int
) -> dict[UnitKey, float]:
    shares = {layer.key: _timed_modules(backbone, layer) for layer in layers}
    names = sorted({name for modules in shares.values() for name in modules})
    times: dict[str, list[float]] = {name: [] for name in names}
    with torch.no_grad(), _stopwatches(backbone, times):
        for _ in range(runs + 1):
            inputs.call(backbone)
    # A module that is called more than once in a pass counts as often.
    passes = {name: _sums(found, runs + 1)[1:] for name, found in times.items()}
    medians = {name: statistics.median(found) for name, found in passes.items()}
    return {
        layer.key: max(
            sum(share * medians[name] for name, share in shares[layer.key].items()) / layer.num_units,
            SHORTEST,
        )
        for layer in layers
    }


def _timed_modules(backbone: nn.Module, layer: Layer) -> dict[str, float]:
    """The modules whose time is a layer's, and how much of it."""
    if layer.kind == "norm":
        return dict.fromkeys(layer.inputs, 1.0)
    found = {layer.name: 1.0}
    for name in layer.inputs:
        if not name.startswith(f"{layer.name}."):
            found[name] = 1.0
    for name in layer.outputs:
        if not name.startswith(f"{layer.name}."):
            columns = linear_of(backbone, name).in_features
            found[name] = layer.num_units * layer.width / columns
    return found


def _sums(values: Sequence[float], parts: int) -> list[float]:
    """Sums of as many equal parts of a list; a module that is never called costs nothing."""
    size = len(values) // parts
    return [sum(values[part * size : (part + 1) * size]) for part in range(parts)]


@contextmanager
def _stopwatches(backbone: nn.Module, times: dict[str, list[float]]) -> Iterator[None]:
    """Append the milliseconds of every call of the named modules while the context lasts."""
    on_gpu = next(backbone.parameters()).is_cuda
    handles = []
    try:
        for name, found in times.items():
            watch = _Stopwatch(found.append, on_gpu)
            module = backbone.get_submodule(name)
            handles += [
                module.register_forward_pre_hook(watch.start),
                module.register_forward_hook(watch.stop),
            ]
        yield
    finally:
        for handle in handles:
            handle.remove()


class _Stopwatch:
    """Times one module; on a GPU the host waits for it first and last, so that only this module's work is timed."""

    def __init__(self, note: Callable[[float], None], on_gpu: bool) -> None:
        self.note, self.on_gpu = note, on_gpu
        self.begun = 0.0

    def start(self, _module: nn.Module, _inputs: Any) -> None:
        self.begun = self._now()

    def stop(self, _module: nn.Module, _inputs: Any, _output: Any) -> None:
        self.note(1000 * (self._now() - self.begun))

    def _now(self) -> float:
        if self.on_gpu:
            torch.cuda.synchronize()
        return time.perf_counter()
