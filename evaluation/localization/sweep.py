"""Every text layer patched in turn: what of the target's word arrives, and what of the source stays (arXiv 2502.09935).

Layers that write are those whose keys and values alone bring the target's word into the source's picture. Where one layer is
not enough, pairs and then triples of the best are tried. Each number is OCR's, named with its engine.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from evaluation.intervals import Interval
from evaluation.localization.prompts import WordPair
from evaluation.localization.runs import (
    SOURCE,
    TARGET,
    Drawing,
    Images,
    PairRuns,
    Read,
    Reading,
    mean_of_finite,
)
from evaluation.metrics.written_words import WordScores
from training.backbones import model_parameters
from training.localization import KEYS_VALUES, Site, TextLayer, text_layers
from training.localization.lockstep import Variant
from training.model_folders.denoiser import Denoiser
from training.sampling.control import ALL_STEPS, Window
from training.text_encoders import TextEncoder


@dataclass(frozen=True)
class SweepSettings(Drawing):
    """How pictures are drawn and layers chosen.

    ``window``: steps that are patched. ``enough``: a group of layers is enough when it brings that share of what all layers
    bring. ``candidates``: layers that groups are made of, those that alone lead farthest away from the source's word and towards
    the target's: where two write together, one of them may only spoil what was written. ``largest_group``: most layers of one.
    """

    window: Window = ALL_STEPS
    enough: float = 0.9
    candidates: int = 4
    largest_group: int = 3


@dataclass(frozen=True)
class Row:
    """What patching a group of layers does: scores over pairs.

    ``to_target``, ``to_source``: F1 of what is read with the target's and the source's word. ``ssim``, ``psnr_db``: likeness to
    the source's picture outside of text. ``nearer_source``: share of pictures whose rest is nearer to the source's picture than
    to the target's, so that colours which come along are seen. ``parameters``: of the keys' and values' projections patched.
    """

    name: str
    layers: tuple[str, ...]
    sites: tuple[Site, ...]
    parameters: int
    to_target: Interval
    to_source: Interval
    ssim: Interval
    psnr_db: Interval
    nearer_source: Interval
    scores: WordScores


@dataclass(frozen=True)
class Localization:
    """A sweep: one row a layer in order of execution, groups that were tried, and what was chosen.

    ``references``: rows of the source's and the target's own runs and of all layers patched. ``carriers``: the chosen layers
    with keys alone and values alone. ``chance``: F1 of unrelated words. ``images``, ``readings``: pictures by row and what was
    read in them, source and target included.
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
    readings: Mapping[str, Sequence[Reading]]

    @property
    def share(self) -> float:
        """Of the model's parameters, those of the chosen layers' keys and values."""
        return self.chosen.parameters / self.num_parameters


ALL = "all layers"
"""Row with every layer patched."""


def localize(
    denoiser: Denoiser, encoder: TextEncoder, pairs: Sequence[WordPair], read: Read, settings: SweepSettings
) -> Localization:
    """Sweep over all text layers of a model, one sampling for all of them, and choose those that write.

    Raises FoundryError for models without text layers and prompts that do not fit (:mod:`training.localization.lockstep`).
    """
    layers = text_layers(denoiser.backbone)
    runs = PairRuns(denoiser, encoder, pairs, read, settings)
    sweep = _Sweep(runs, settings.window)
    rows = sweep.rows({ALL: layers, **{layer.name: (layer,) for layer in layers}})
    whole, alone = rows.pop(ALL), tuple(rows.values())
    best, groups = max(alone, key=lambda row: row.to_target.value), list[Row]()
    by_name = {layer.name: layer for layer in layers}
    ranked = sorted(alone, key=lambda row: row.to_source.value - row.to_target.value)
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
        runs.chance(),
        model_parameters(denoiser.backbone),
        runs.images,
        runs.readings,
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
    """Rows of one set of pairs."""

    def __init__(self, runs: PairRuns, window: Window) -> None:
        self.runs, self._window = runs, window

    def rows(
        self,
        groups: Mapping[str, tuple[TextLayer, ...]],
        sites: Mapping[str, tuple[Site, ...]] | None = None,
    ) -> dict[str, Row]:
        """A row a group of layers, by its name; ``sites`` where they are not keys and values."""
        chosen_sites = dict.fromkeys(groups, KEYS_VALUES) | dict(sites or {})
        self.runs.draw(
            [Variant(name, layers, chosen_sites[name], self._window) for name, layers in groups.items()]
        )
        return {name: self._row(name, layers, chosen_sites[name]) for name, layers in groups.items()}

    def reference(self, name: str) -> Row:
        """The row of a run that nothing was patched in."""
        return self._row(name, (), ())

    def _row(self, name: str, layers: Sequence[TextLayer], sites: tuple[Site, ...]) -> Row:
        scores = self.runs.to_target(name)
        ssim, psnr, nearer = self.runs.kept(name)
        return Row(
            name,
            tuple(layer.name for layer in layers),
            sites,
            sum(layer.num_parameters for layer in layers),
            scores.f1(),
            self.runs.to_source(name).f1(),
            mean_of_finite(ssim),
            mean_of_finite(psnr),
            mean_of_finite(nearer),
            scores,
        )
