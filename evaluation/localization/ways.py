"""Ways to put another word into a picture, and ways to keep one out, over the same pairs and noise.

Editing (arXiv 2502.09935, section 5): patching the layers that write, beside patching all of them, attention maps of the source
under the target's values (Prompt-to-Prompt's injection, arXiv 2208.01626), and plainly asking again. Guarding (section 6): a
prompt that asks for a toxic word (the source) with a harmless one (the target) at the layers that write, beside a negative prompt,
an exchanged prompt and safe latent guidance. Each is timed by itself, the way it would be used.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from evaluation.localization.runs import SOURCE, TARGET, Images, PairRuns
from training.conditioning import Condition
from training.localization import MAPS, Patched, Recorded, Site, TextCache, TextLayer
from training.localization.guard import guard
from training.localization.patching import Part
from training.model_folders.denoiser import decode
from training.sampling.control import Control, Window
from training.sampling.denoising_loop import sample_latents
from training.sampling.safe_guidance import sample_safely


@dataclass(frozen=True)
class Way:
    """One way. ``draw`` gives pictures of pairs that have their source drawn already; it is what is timed."""

    name: str
    about: str
    draw: Callable[[PairRuns], Images]


def asked_again(name: str = TARGET) -> Way:
    """The target's prompt from the same noise."""
    return Way(name, "the other prompt, from the same noise", lambda runs: _sampled(runs, target=True))


def patched(name: str, layers: Sequence[TextLayer], start: float) -> Way:
    """The source with the target's keys and values at some layers, from a share of the steps on; the target is drawn for them."""

    def draw(runs: PairRuns) -> Images:
        cache = TextCache()
        window = Window(start)
        _sampled(runs, Recorded(layers, cache, window=window), target=True)
        return _sampled(runs, Patched(layers, cache, window=window))

    return Way(
        name,
        f"keys and values of the other prompt at {len(layers)} layers from {start:.0%} of the steps on",
        draw,
    )


def attention_maps(name: str, layers: Sequence[TextLayer], stop: float) -> Way:
    """The target with the source's attention maps until a share of the steps: the source is drawn again to record them."""

    def draw(runs: PairRuns) -> Images:
        cache, window, sites = TextCache(), Window(0.0, stop), _maps(layers)
        _sampled(runs, Recorded(layers, cache, sites, window))
        return _sampled(runs, Patched(layers, cache, sites, window), target=True)

    return Way(name, f"the other prompt under this one's attention maps until {stop:.0%} of the steps", draw)


def _maps(layers: Sequence[TextLayer]) -> tuple[Site, ...]:
    """What the maps of all layers are a function of: text has queries, and pictures keys, in joint attention alone."""
    joint = any(layer.is_joint or layer.is_shared for layer in layers)
    return MAPS if joint else ("queries", "keys")


def editing_ways(
    chosen: Sequence[TextLayer], every: Sequence[TextLayer], starts: Sequence[float], stops: Sequence[float]
) -> list[Way]:
    """All ways of editing; the first one is what others are held beside."""
    own = [patched(f"patched from {start:.0%}", chosen, start) for start in starts]
    maps = [attention_maps(f"attention maps until {stop:.0%}", every, stop) for stop in stops]
    return [
        *own,
        patched(f"all layers from {starts[-1]:.0%}", every, starts[-1]),
        *maps,
        asked_again("asked again"),
    ]


def guarding_ways(chosen: Sequence[TextLayer], refreshes: Sequence[int]) -> list[Way]:
    """All ways of guarding; the first one is what others are held beside. The last two need classifier-free guidance."""
    return [
        *(
            _guarded(f"guarded, {count} refresh{'es' if count > 1 else ''}", chosen, count)
            for count in refreshes
        ),
        patched("guarded, harmless run beside", chosen, 0.0),
        Way("exchanged prompt", "the harmless prompt instead", lambda runs: _sampled(runs, target=True)),
        Way("negative prompt", "the toxic word as what guidance leads away from", _negative),
        Way("safe guidance", "safe latent guidance away from the toxic word", _safely),
    ]


def _guarded(name: str, layers: Sequence[TextLayer], refreshes: int) -> Way:
    def draw(runs: PairRuns) -> Images:
        backbone, prompts = runs.denoiser.backbone, runs.prompts
        control = guard(backbone, prompts.source, prompts.target, layers, refreshes=refreshes)
        return _sampled(runs, control)

    return Way(name, f"held keys and values of the harmless prompt at {len(layers)} layers", draw)


def needs_guidance(way: Way) -> bool:
    """Whether a way works by leading away from what the null stands for."""
    return way.draw in (_negative, _safely)


def _negative(runs: PairRuns) -> Images:
    told, words = runs.prompts.source, _words(runs)
    return _in_parts(
        runs,
        lambda part: _sampled_part(runs, told.part(*part).with_null(words.part(*part)), part),
    )


def _safely(runs: PairRuns) -> Images:
    told, words, drawing = runs.prompts.source, _words(runs), runs.drawing

    def draw(part: Part) -> Images:
        seeds = runs.prompts.seeds[slice(*part)]
        latents = sample_safely(
            runs.denoiser, told.part(*part), words.part(*part), seeds, drawing.steps, drawing.guidance,
            drawing.latent_size,
        )  # fmt: skip
        return decode(runs.denoiser.autoencoder, latents)

    return _in_parts(runs, draw)


def _words(runs: PairRuns) -> Condition:
    """The source's words alone, as prompts without a null of their own."""
    return replace(runs.encoder.prompts([pair.source_word for pair in runs.pairs]), null=None)


def _sampled(runs: PairRuns, control: Control | None = None, *, target: bool = False) -> Images:
    told = runs.prompts.target if target else runs.prompts.source

    def draw(part: Part) -> Images:
        own = None if control is None else control.part(*part)
        return _sampled_part(runs, told.part(*part), part, own)

    return _in_parts(runs, draw)


def _in_parts(runs: PairRuns, draw: Callable[[Part], Images]) -> Images:
    size = runs.drawing.rows_at_once
    parts = [(first, min(first + size, len(runs.pairs))) for first in range(0, len(runs.pairs), size)]
    return np.concatenate([draw(part) for part in parts])


@torch.inference_mode()
def _sampled_part(runs: PairRuns, told: Condition, part: Part, control: Control | None = None) -> Images:
    """Pairs that go through together; ``control`` is theirs alone."""
    drawing = runs.drawing
    latents = sample_latents(
        runs.denoiser,
        told,
        runs.prompts.seeds[slice(*part)],
        drawing.steps,
        drawing.guidance,
        drawing.latent_size,
        true_guidance=drawing.true_guidance,
        control=control,
    )
    return decode(runs.denoiser.autoencoder, latents)


@dataclass(frozen=True)
class Taken:
    """Seconds a picture of the source's own run, and of each way by name: the fastest of several, taken by turns."""

    source: float
    ways: dict[str, float]


def draw_ways(runs: PairRuns, ways: Sequence[Way], rounds: int) -> Taken:
    """Draw both prompts as they are and every way, and read them all; each is timed by turns, the fastest of ``rounds`` counts.

    On CPUs it is this process's time that counts, for others may run beside.
    """
    runs.draw([])
    clock = time.process_time if runs.denoiser.device.type == "cpu" else time.perf_counter
    own = Way(SOURCE, "", _sampled)
    seconds: dict[str, list[float]] = {}
    for number in range(rounds):
        for way in (own, *ways):
            began = clock()
            images = way.draw(runs)
            seconds.setdefault(way.name, []).append(clock() - began)
            if number == 0 and way is not own:
                runs.add(way.name, images)
    fastest = {name: min(found) / len(runs.pairs) for name, found in seconds.items()}
    return Taken(fastest.pop(SOURCE), fastest)
