"""Many patched samplings at once: source, target and every variant side by side in the same forward passes.

At every step the other prompt's activations are at hand where they are needed, in rows of the same pass, so that nothing is
cached: memory is that of the batch alone. Steps before the first window are taken once for source and target and given to all
variants, and both serve all variants of a batch. Equal to recording and patching one variant after the other but for rounding.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from training.backbones import bare, family_of
from training.conditioning import Condition
from training.errors import FoundryError
from training.localization.layers import TextLayer
from training.localization.sites import KEYS_VALUES, Site, hooked
from training.sampling.control import ALL_STEPS, Window
from training.sampling.denoising_loop import Guided, Sampled, denoising_steps, start_sampling

ROWS_AT_ONCE = 256
"""Pictures of a forward pass, before guidance doubles them, unless a caller says otherwise."""

_TARGET, _SOURCE, _FIRST_VARIANT = 0, 1, 2  # groups of rows, as they lie in a batch


@dataclass(frozen=True)
class Variant:
    """A sampling of one prompt with the other's activations at some layers, sites and steps.

    ``prompt``: whose it is; the paper draws the ``source`` with keys and values of the target.
    """

    name: str
    layers: tuple[TextLayer, ...]
    sites: tuple[Site, ...] = KEYS_VALUES
    window: Window = ALL_STEPS
    prompt: Literal["source", "target"] = "source"


@dataclass(frozen=True)
class Prompts:
    """Pairs of prompts as a sampler takes them, a row a pair, with the seed of the noise that both share.

    ``texts``: the pairs in words, for messages. Raises FoundryError for different numbers of rows or of text tokens.
    """

    source: Condition
    target: Condition
    seeds: Sequence[int]
    texts: Sequence[tuple[str, str]] = field(default=())

    def __post_init__(self) -> None:
        if len({len(self.source), len(self.target), len(self.seeds)}) > 1:
            raise FoundryError(
                f"patching: {len(self.source)} sources, {len(self.target)} targets, {len(self.seeds)} seeds; give one a pair"
            )
        mine, other = self.source.states.shape[1], self.target.states.shape[1]
        if mine != other:
            raise FoundryError(
                f"patching: sources have {mine} text tokens, targets {other}; pad both alike, as an encoder's prompts() does"
            )

    def __len__(self) -> int:
        return len(self.seeds)

    def part(self, start: int, stop: int) -> Prompts:
        """Some of the pairs."""
        chosen = slice(start, stop)
        return Prompts(
            self.source.part(start, stop),
            self.target.part(start, stop),
            self.seeds[chosen],
            self.texts[chosen],
        )

    def require_aligned(self) -> None:
        """For models with a mask of tokens: keys of one prompt would stand under the other's mask.

        Raises FoundryError naming the first pair of different length.
        """
        lengths = zip(self.source.mask.sum(1).tolist(), self.target.mask.sum(1).tolist(), strict=True)
        for pair, (mine, other) in enumerate(lengths):
            if mine != other:
                told = (
                    " and ".join(f"'{text}'" for text in self.texts[pair]) if self.texts else f"pair {pair}"
                )
                raise FoundryError(
                    f"patching: {told} have {int(mine)} and {int(other)} text tokens, which this model tells apart by a mask; "
                    "choose words of as many tokens"
                )


@dataclass(frozen=True)
class Drawn:
    """Latents of the source alone, of the target alone, and of every variant by name, a row a pair."""

    source: Float[Tensor, "pairs c h w"]
    target: Float[Tensor, "pairs c h w"]
    variants: Mapping[str, Float[Tensor, "pairs c h w"]]


@torch.inference_mode()
def draw_variants(
    denoiser: Sampled,
    prompts: Prompts,
    variants: Sequence[Variant],
    *,
    steps: int,
    guidance: float,
    latent_size: tuple[int, int] | None = None,
    true_guidance: float = 1.0,
    rows_at_once: int = ROWS_AT_ONCE,
) -> Drawn:
    """Draw every pair by every variant, as many variants at once as fit beside source and target.

    Raises FoundryError for two variants of one name, for prompts that a mask tells apart, and as
    :func:`training.sampling.denoising_loop.start_sampling` does.
    """
    if family_of(denoiser.backbone).takes_mask:
        prompts.require_aligned()
    names = [variant.name for variant in variants]
    if len(set(names)) < len(names):
        raise FoundryError(f"patching: variants are named {', '.join(names)}; give each a name of its own")
    found: dict[str, Tensor] = {}
    for chosen in _batches(variants, rows_at_once // len(prompts) - _FIRST_VARIANT):
        condition = _rows_of(prompts, chosen)
        seeds = [*prompts.seeds] * (_FIRST_VARIANT + len(chosen))
        start = start_sampling(
            denoiser, condition, seeds, steps, guidance, latent_size, true_guidance=true_guidance
        )
        own = start.predict
        together = _Lockstep(
            own.backbone, own.condition, own.scale, own.dtype, own.control, len(prompts), chosen
        )
        *_, last = denoising_steps(replace(start, predict=together))
        target, source, *drawn = last.latents.split(len(prompts))
        found |= {variant.name: rows for variant, rows in zip(chosen, drawn, strict=True)}
    return Drawn(source, target, found)


def _batches(variants: Sequence[Variant], size: int) -> Iterator[tuple[Variant, ...]]:
    """At least one batch, for source and target are drawn even where nothing is patched."""
    step = max(1, size)
    for first in range(0, max(1, len(variants)), step):
        yield tuple(variants[first : first + step])


def _rows_of(prompts: Prompts, variants: Sequence[Variant]) -> Condition:
    """Conditions of target, source and variants, group by group."""
    rows = prompts.target.followed_by(prompts.source)
    for variant in variants:
        rows = rows.followed_by(prompts.source if variant.prompt == "source" else prompts.target)
    return rows


@dataclass(frozen=True)
class _Lockstep(Guided):
    """A backbone's answer to all groups of rows at once, with activations handed from group to group."""

    pairs: int = 1
    variants: tuple[Variant, ...] = ()

    def __call__(
        self, latents: Float[Tensor, "b c h w"], timestep: Tensor, step: int, num_steps: int
    ) -> Float[Tensor, "b c h w"]:
        """See :meth:`Guided.__call__`."""
        if not any(
            variant.window.holds(earlier, num_steps)
            for earlier in range(step + 1)
            for variant in self.variants
        ):
            return self._before(latents, timestep)
        groups = self._groups(step, num_steps)
        layers = {layer.name: layer for variant in self.variants for layer in variant.layers}
        hooked_layers = [layer for name, layer in layers.items() if any(name == told for told, _ in groups)]
        sites = tuple(dict.fromkeys(site for _, site in groups))

        def hand_over(layer: TextLayer, site: Site, rows: Tensor) -> Tensor | None:
            return self._handed_over(rows, groups.get((layer.name, site), ()))

        with hooked(bare(self.backbone), hooked_layers, sites, hand_over):
            return self._predict(latents, timestep, self._told)

    def _before(self, latents: Tensor, timestep: Tensor) -> Tensor:
        """Nothing was patched yet: a variant is its prompt's own run."""
        alone = self._predict(latents[: _FIRST_VARIANT * self.pairs], timestep, self._of_prompts)
        by_prompt = dict(zip(("target", "source"), alone.split(self.pairs), strict=True))
        return torch.cat([alone, *(by_prompt[variant.prompt] for variant in self.variants)])

    @cached_property
    def _of_prompts(self) -> Condition:
        return self._prepared(self.condition.part(0, _FIRST_VARIANT * self.pairs))

    def _groups(self, step: int, num_steps: int) -> dict[tuple[str, Site], list[tuple[int, int]]]:
        """By layer and site, from which group of rows to which at this step."""
        found: dict[tuple[str, Site], list[tuple[int, int]]] = {}
        for group, variant in enumerate(self.variants, _FIRST_VARIANT):
            other = _TARGET if variant.prompt == "source" else _SOURCE
            if variant.window.holds(step, num_steps):
                for layer in variant.layers:
                    for site in variant.sites:
                        found.setdefault((layer.name, site), []).append((other, group))
        return found

    def _handed_over(self, rows: Tensor, groups: Sequence[tuple[int, int]]) -> Tensor | None:
        if not groups:
            return None
        halves = 2 if self.doubled else 1
        changed = rows.clone().unflatten(0, (halves, -1, self.pairs))
        origins, places = zip(*groups, strict=True)
        changed[:, list(places)] = changed[:, list(origins)]
        return changed.flatten(0, 2)
