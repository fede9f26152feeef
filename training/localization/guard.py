"""A guard: at the layers that write, pictures see a harmless text instead of the one they were asked for.

No weight is added. A run of the harmless prompt beside (:mod:`training.localization.lockstep`) would double what sampling costs;
here its keys and values are computed in one forward pass, which stops behind the last layer that writes, and held over the
steps. For cross-attention, where they are a function of the prompt alone, that is exact, and the pass is over the smallest
latents there are. Where text tokens attend to the picture (SD3, FLUX) it is an approximation that ``refreshes`` tighten.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor, nn

from training.backbones import bare, denoise, family_of, latent_channels
from training.conditioning import Condition
from training.errors import FoundryError
from training.localization.layers import TextLayer
from training.localization.lockstep import Prompts
from training.localization.patching import put_rows
from training.localization.sites import KEYS_VALUES, Site, hooked
from training.sampling.control import ALL_STEPS, Window

_OF_PLACES = ("img_ids", "txt_ids")  # keywords without a row a picture


def guard(
    backbone: nn.Module,
    prompts: Condition,
    harmless: Condition,
    layers: Sequence[TextLayer],
    *,
    window: Window = ALL_STEPS,
    refreshes: int = 1,
) -> Guarded:
    """The control for sampling ``prompts`` while ``layers`` see ``harmless``, a row a picture.

    ``refreshes``: how often keys and values are computed where they depend on the picture, evenly over the steps.
    Raises FoundryError for no layer, fewer than one refresh, texts of other numbers of rows or tokens, and texts of unequal
    length for a model that tells tokens apart by a mask.
    """
    if not layers or refreshes < 1:
        raise FoundryError(
            f"guard: {len(layers)} layers and {refreshes} refreshes; give the layers that write, and at least one refresh"
        )
    pairs = Prompts(prompts, harmless, range(len(prompts)))
    if family_of(backbone).takes_mask:
        pairs.require_aligned()
    return Guarded(layers, harmless, window, refreshes)


@dataclass(frozen=True)
class Guarded:
    """The control that :func:`guard` makes; it serves one sampling."""

    layers: Sequence[TextLayer]
    harmless: Condition
    window: Window
    refreshes: int
    _held: dict[tuple[str, Site], Tensor] = field(default_factory=dict, init=False, repr=False, compare=False)
    _looking: list[bool] = field(default_factory=list, init=False, repr=False, compare=False)

    def condition(self, given: Condition, step: int, num_steps: int) -> Condition:
        """See :class:`training.sampling.control.Control`."""
        return given

    @contextmanager
    def around(self, backbone: Any, step: int, num_steps: int) -> Iterator[None]:
        """See :class:`training.sampling.control.Control`."""
        if not self.window.holds(step, num_steps):
            yield
            return
        inner = bare(backbone)
        with hooked(inner, self.layers, KEYS_VALUES, self._meet):
            if not any(layer.is_joint for layer in self.layers):
                if not self._held:
                    self._look_once(inner)
                yield
                return
            watched = inner.register_forward_pre_hook(self._look_first, with_kwargs=True)
            if not self._is_due(step, num_steps):
                watched.remove()
            try:
                yield
            finally:
                watched.remove()

    def part(self, start: int, stop: int) -> Guarded:
        """See :class:`training.sampling.control.Control`."""
        return replace(self, harmless=self.harmless.part(start, stop))

    def _is_due(self, step: int, num_steps: int) -> bool:
        """Whether keys and values are computed anew at a step of the window."""
        first, after = int(self.window.start * num_steps), int(self.window.stop * num_steps)
        count = min(self.refreshes, after - first)
        return not self._held or step in {first + (after - first) * n // count for n in range(count)}

    def _look_once(self, inner: nn.Module) -> None:
        """Keys and values of cross-attention, from a pass over the smallest latents: pictures and noise do not change them."""
        side, _ = family_of(inner).side(inner.config)
        parameter = next(inner.parameters())
        told = replace(self.harmless, null=None).to(parameter.device, parameter.dtype)
        latents = parameter.new_zeros(len(told), latent_channels(inner), side, side)
        with self._until_all_are_held():
            denoise(inner, latents, parameter.new_zeros(len(told)), told)

    def _look_first(self, module: nn.Module, args: Any, keywords: Mapping[str, Any]) -> None:
        """Before a step's own pass: the same latents, told the harmless text, as far as the last of the layers."""
        if self._looking:
            return
        (latents,), own = args, dict(keywords)
        count, rows = len(self.harmless), len(latents)
        for name, value in own.items():
            if isinstance(value, Tensor) and name not in _OF_PLACES and value.ndim and len(value) == rows:
                own[name] = value[-count:]
        given = own["encoder_hidden_states"]
        told = self.harmless.to(given.device, given.dtype)
        own["encoder_hidden_states"] = told.states
        if told.pooled is not None and own.get("pooled_projections") is not None:
            own["pooled_projections"] = told.pooled
        with self._until_all_are_held():
            module(latents[-count:], **own)

    @contextmanager
    def _until_all_are_held(self) -> Iterator[None]:
        self._held.clear()
        self._looking.append(True)
        try:
            with suppress(_AllHeldSignal):
                yield
        finally:
            self._looking.clear()

    def _meet(self, layer: TextLayer, site: Site, rows: Tensor) -> Tensor | None:
        if not self._looking:
            return put_rows(self._held[layer.name, site], rows, layer)
        self._held[layer.name, site] = rows.detach().clone()
        if len(self._held) == len(self.layers) * len(KEYS_VALUES):
            raise _AllHeldSignal
        return None


class _AllHeldSignal(Exception):  # noqa: N818 - nothing went wrong
    """Ends a forward pass behind the last layer that it was for."""
