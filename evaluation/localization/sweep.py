"""Every text layer patched in turn: what of the target's word arrives, and what of the source stays (arXiv 2502.09935).

Layers that write are those whose keys and values alone bring the target's word into the source's picture. Where one layer is
not enough, pairs and then triples of the best are tried. Each number is OCR's, named with its engine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from jaxtyping import Float, UInt8
from numpy import ndarray

from evaluation.box_conventions import Box
from evaluation.intervals import Interval, mean_interval
from evaluation.localization.prompts import WordPair
from evaluation.metrics.kept_background import outside, psnr_outside, ssim_outside
from evaluation.metrics.written_words import WordScores, chance_level, score_words
from training.backbones import model_parameters
from training.errors import FoundryError
from training.localization import KEYS_VALUES, Site, TextLayer, text_layers
from training.localization.lockstep import ROWS_AT_ONCE, Prompts, Variant, draw_variants
from training.model_folders.denoiser import Denoiser, decode
from training.sampling.control import ALL_STEPS, Window
from training.text_encoders import TextEncoder

Images = UInt8[ndarray, "pairs height width 3"]


@dataclass(frozen=True)
class Reading:
    """What OCR read in a picture, and where."""

    text: str
    boxes: tuple[Box, ...] = ()


Read = Callable[[UInt8[ndarray, "n height width 3"]], Sequence[Reading]]
"""Readings of pictures, in their order."""


@dataclass(frozen=True)
class SweepSettings:
    """How pictures are drawn and layers chosen.

    ``window``: steps that are patched. ``enough``: a group of layers is enough when it brings that share of what all layers
    bring. ``candidates``: best single layers that groups are made of. ``largest_group``: most layers of a group.
    """

    steps: int = 16
    guidance: float = 1.0
    true_guidance: float = 1.0
    window: Window = ALL_STEPS
    enough: float = 0.9
    candidates: int = 4
    largest_group: int = 3
    latent_size: tuple[int, int] | None = None
    rows_at_once: int = ROWS_AT_ONCE


@dataclass(frozen=True)
class Row:
    """What patching a group of layers does: scores over pairs.

    ``to_target``, ``to_source``: F1 of what is read with the target's and the source's word. ``ssim``, ``psnr_db``: likeness to
    the source's picture outside of text. ``parameters``: of the keys' and values' projections patched.
    """

    name: str
    layers: tuple[str, ...]
    sites: tuple[Site, ...]
    parameters: int
    to_target: Interval
    to_source: Interval
    ssim: Interval
    psnr_db: Interval
    scores: WordScores


@dataclass(frozen=True)
class Localization:
    """A sweep: one row a layer in order of execution, groups that were tried, and what was chosen.

    ``references``: rows of the source's and the target's own runs and of all layers patched. ``carriers``: the chosen layers
    with keys alone and values alone. ``chance``: F1 of unrelated words. ``images``: pictures by row, source and target included.
    """

    layers: tuple[Row, ...]
    groups: tuple[Row, ...]
    references: Mapping[str, Row]
    carriers: Mapping[str, Row]
    chosen: Row
    why: str
    chance: Interval
    num_parameters: int
    images: Mapping[str, Images]

    @property
    def share(self) -> float:
        """Of the model's parameters, those of the chosen layers' keys and values."""
        return self.chosen.parameters / self.num_parameters


SOURCE, TARGET, ALL = "source", "target", "all layers"


def localize(
    denoiser: Denoiser, encoder: TextEncoder, pairs: Sequence[WordPair], read: Read, settings: SweepSettings
) -> Localization:
    """Sweep over all text layers of a model, one sampling for all of them, and choose those that write.

    Raises FoundryError for models without text layers and prompts that do not fit (:mod:`training.localization.lockstep`).
    """
    layers = text_layers(denoiser.backbone)
    sweep = _Sweep(denoiser, encoder, pairs, read, settings)
    rows = sweep.rows({ALL: layers, **{layer.name: (layer,) for layer in layers}})
    whole, alone = rows.pop(ALL), tuple(rows.values())
    ranked = sorted(alone, key=lambda row: -row.to_target.value)
    best, groups = ranked[0], list[Row]()
    by_name = {layer.name: layer for layer in layers}
    candidates = [by_name[row.name] for row in ranked[: settings.candidates]]
    for size in range(2, min(settings.largest_group, len(layers)) + 1):
        if _is_enough(best, whole, settings):
            break
        found = sweep.rows({_name(group): group for group in _groups(candidates, layers, size)})
        groups += found.values()
        best = max(found.values(), key=lambda row: row.to_target.value)
    chosen = tuple(by_name[name] for name in best.layers)
    carriers = sweep.rows(dict.fromkeys(KEYS_VALUES, chosen), {site: (site,) for site in KEYS_VALUES})
    references = {SOURCE: sweep.reference(SOURCE), TARGET: sweep.reference(TARGET), ALL: whole}
    return Localization(
        alone,
        tuple(groups),
        references,
        carriers,
        best,
        _why(best, whole, settings),
        sweep.chance(),
        model_parameters(denoiser.backbone),
        sweep.images,
    )


def _groups(
    candidates: Sequence[TextLayer], order: Sequence[TextLayer], size: int
) -> Iterator[tuple[TextLayer, ...]]:
    """All groups of so many of the best layers, each in order of execution."""
    place = {layer.name: number for number, layer in enumerate(order)}
    in_order = sorted(candidates, key=lambda layer: place[layer.name])
    yield from combinations(in_order, size)


def _name(layers: Sequence[TextLayer]) -> str:
    return " + ".join(layer.name for layer in layers)


def _is_enough(row: Row, whole: Row, settings: SweepSettings) -> bool:
    return row.to_target.value >= settings.enough * whole.to_target.value


def _why(best: Row, whole: Row, settings: SweepSettings) -> str:
    count = len(best.layers)
    layers = "one layer" if count == 1 else f"{count} layers"
    reached = (
        f"F1 {best.to_target.value:.3f} towards the target, all layers reach {whole.to_target.value:.3f}"
    )
    if _is_enough(best, whole, settings):
        return f"{layers}, the fewest that bring {settings.enough:.0%} of what all bring: {reached}"
    return f"{layers}, the best group of at most {settings.largest_group}, which is not {settings.enough:.0%} of all: {reached}"


class _Sweep:
    """Pictures and readings of one set of pairs; what was drawn is kept."""

    def __init__(
        self,
        denoiser: Denoiser,
        encoder: TextEncoder,
        pairs: Sequence[WordPair],
        read: Read,
        settings: SweepSettings,
    ) -> None:
        self._denoiser, self._read, self._settings = denoiser, read, settings
        self._prompts = prompts_of(pairs, encoder)
        self._sources = [pair.source_word for pair in pairs]
        self._targets = [pair.target_word for pair in pairs]
        self.images: dict[str, Images] = {}
        self._readings: dict[str, Sequence[Reading]] = {}

    def rows(
        self,
        groups: Mapping[str, tuple[TextLayer, ...]],
        sites: Mapping[str, tuple[Site, ...]] | None = None,
    ) -> dict[str, Row]:
        """A row a group of layers, by its name; ``sites`` where they are not keys and values."""
        settings, chosen_sites = self._settings, dict.fromkeys(groups, KEYS_VALUES) | dict(sites or {})
        variants = [
            Variant(name, layers, chosen_sites[name], settings.window) for name, layers in groups.items()
        ]
        drawn = draw_variants(
            self._denoiser,
            self._prompts,
            variants,
            steps=settings.steps,
            guidance=settings.guidance,
            latent_size=settings.latent_size,
            true_guidance=settings.true_guidance,
            rows_at_once=settings.rows_at_once,
        )
        latents = {SOURCE: drawn.source, TARGET: drawn.target, **drawn.variants}
        for name, rows in latents.items():
            if name not in self.images:
                self.images[name] = decode(self._denoiser.autoencoder, rows)
                self._readings[name] = self._read(self.images[name])
        return {name: self._row(name, layers, chosen_sites[name]) for name, layers in groups.items()}

    def reference(self, name: str) -> Row:
        """The row of a run that nothing was patched in."""
        return self._row(name, (), ())

    def chance(self) -> Interval:
        """F1 of the target's readings with words of other pairs."""
        return chance_level([reading.text for reading in self._readings[TARGET]], self._targets)

    def _row(self, name: str, layers: Sequence[TextLayer], sites: tuple[Site, ...]) -> Row:
        read = [reading.text for reading in self._readings[name]]
        scores = score_words(read, self._targets)
        ssim, psnr = self._kept(name)
        return Row(
            name,
            tuple(layer.name for layer in layers),
            sites,
            sum(layer.num_parameters for layer in layers),
            scores.f1(),
            score_words(read, self._sources).f1(),
            _mean(ssim),
            _mean(psnr),
            scores,
        )

    def _kept(self, name: str) -> tuple[Float[ndarray, " pairs"], Float[ndarray, " pairs"]]:
        """SSIM and PSNR to the source outside of the text of source, target and patched picture."""
        ssim, psnr = [], []
        for row, (own, first) in enumerate(zip(self.images[name], self.images[SOURCE], strict=True)):
            boxes = [box for run in (SOURCE, TARGET, name) for box in self._readings[run][row].boxes]
            where = outside(own.shape[:2], boxes)
            ssim.append(ssim_outside(first, own, where))
            psnr.append(psnr_outside(first, own, where))
        return np.array(ssim), np.array(psnr)


def prompts_of(pairs: Sequence[WordPair], encoder: TextEncoder) -> Prompts:
    """Pairs as a sampler takes them. Raises FoundryError for none, and naming a prompt whose end the encoder cuts."""
    if not pairs:
        raise FoundryError("text pairs: none; give at least one pair of prompts")
    sources, targets = [pair.source for pair in pairs], [pair.target for pair in pairs]
    cut = encoder.full([*sources, *targets])
    if cut:
        raise FoundryError(
            f"prompt '{cut[0]}' fills the text encoder's {encoder.max_tokens} tokens, so that its end may be lost; shorten it"
        )
    told = encoder.prompts([*sources, *targets])
    count = len(pairs)
    return Prompts(
        told.part(0, count),
        told.part(count, 2 * count),
        [pair.seed for pair in pairs],
        [(pair.source, pair.target) for pair in pairs],
    )


def _mean(values: Float[ndarray, " n"]) -> Interval:
    """Over pictures that have any pixel outside of text; nan without one."""
    finite = values[np.isfinite(values)]
    return (
        mean_interval(finite) if len(finite) else Interval(float("nan"), float("nan"), float("nan"), count=0)
    )
