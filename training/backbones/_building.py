"""From a name to a diffusers model, on this device or on the meta device."""

from __future__ import annotations

import gc
import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, no_type_check

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from training.backbones._branch import is_of_branch
from training.backbones._registry import BACKBONES
from training.backbones._variant import Conditioning, Variant
from training.backbones.families import BACKBONE_CLASSES
from training.errors import FoundryError
from training.recipes.validation import nearest

Backbone = Any  # UNet2DConditionModel or one of three transformers; diffusers is not typed


def variant(name: str, conditioning: Conditioning | None = None) -> Variant:
    """A registered variant, with the conditioning asked for where it has a choice.

    Raises FoundryError for an unknown name, with the nearest known one.
    """
    if name not in BACKBONES:
        raise FoundryError(
            f"'backbone' is '{name}', which is not registered; {nearest(name, list(BACKBONES))}"
        )
    return BACKBONES[name] if conditioning is None else BACKBONES[name].conditioned(conditioning)


def build_backbone(name: str, seed: int | None = None, conditioning: Conditioning | None = None) -> Backbone:
    """Build a backbone by its registry name; ``seed`` fixes the initial weights, torch's own state is kept.

    Raises FoundryError for an unknown name, with the nearest known one.
    """
    chosen = variant(name, conditioning)
    if seed is None:
        return build_variant(chosen)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build_variant(chosen)


def build_variant(chosen: Variant) -> Backbone:
    """The diffusers model that a variant describes, with weights as torch's random state draws them."""
    module = importlib.import_module(BACKBONE_CLASSES[chosen.class_name])
    return getattr(module, chosen.class_name)(**chosen.config)


def build_on_meta(chosen: Variant) -> Backbone:
    """The same model without memory: its parameters have shapes and no values."""
    with collector_paused(), torch.device("meta"), _Uninitialised():
        return build_variant(chosen).eval()


_INITIALISERS = (nn.init.kaiming_uniform_, nn.init.uniform_, nn.init.normal_, nn.init.zeros_, nn.init.ones_)


class _Uninitialised(TorchFunctionMode):
    """Leaves out initial values, which the meta device could not hold: a third of the time of building there."""

    @no_type_check  # thousands of calls a model, none with shapes to check
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _INITIALISERS:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **(kwargs or {}))


@contextmanager
def collector_paused() -> Iterator[None]:
    """No cyclic garbage collection over thousands of live modules: it would walk through them all, again and again."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


@lru_cache(maxsize=1)
def blueprint(name: str, conditioning: Conditioning | None = None) -> Backbone:
    """A registered backbone on the meta device, to be looked at and not changed: the last one is kept."""
    return build_on_meta(variant(name, conditioning))


@lru_cache(maxsize=512)
def count_added_parameters(name: str, conditioning: Conditioning | None = None) -> int:
    """Of these the parameters that a registered backbone has beyond its stock class: those of its layout branch."""
    named = blueprint(name, conditioning).named_parameters()
    return sum(parameter.numel() for path, parameter in named if is_of_branch(path))


def count_parameters(name: str, conditioning: Conditioning | None = None) -> int:
    """Parameters of a registered backbone, without allocating them."""
    return sum(parameter.numel() for parameter in blueprint(name, conditioning).parameters())
