"""The analysis of one backbone: a registered variant by name, or the model in a folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import torch

from evaluation.analysis.breakdown import Cell, breakdown
from evaluation.analysis.similarity import BlockSimilarity, NoisedBatch, block_similarities
from evaluation.analysis.timing import Timing, time_parts
from evaluation.metrics.denoising import evaluation_noise
from training.backbones import (
    BACKBONES,
    Backbone,
    blueprint,
    build_backbone,
    count_parameters,
    example_inputs,
    layer_costs,
    variant_costs,
)
from training.conditioning import STRIDE_OF_STABLE_DIFFUSION
from training.diffusion.noise_process import Noising
from training.diffusion.schedulers import noising_of
from training.errors import FoundryError
from training.feed.conditions import alt_texts
from training.hardware import torch_threads
from training.model_folders.autoencoder_config import pixels_per_latent, read_autoencoder_config
from training.model_folders.classes import backbone_part, load_part
from training.recipes.validation import nearest
from training.shards import TrainingShards

TOKENS = 77
SAMPLES = 16  # that similarity is measured on
BYTES_PER_PARAMETER = 4
MEMORY_SHARE = 0.6  # of what is free, that weights may take


@dataclass(frozen=True)
class Analysis:
    """What one forward pass of one image costs, part by part, and how alike its blocks are.

    ``similarities`` is empty without data to look at. ``timed_runs``: passes of which medians are told, 0 for none.
    ``undisturbed_nanoseconds``: median of a whole pass without the clock's hooks.
    """

    name: str
    latent: int
    num_tokens: int
    cells: Sequence[Cell]
    similarities: Sequence[BlockSimilarity] = ()
    timed_runs: int = 0
    undisturbed_nanoseconds: int | None = None


def analyze(
    model: str,
    *,
    shards: Path | None = None,
    latent: int | None = None,
    runs: int = 0,
    num_threads: int | None = None,
) -> Analysis:
    """Analyse a registered backbone by name, or the model in a folder.

    Raises FoundryError when it is neither, or when shards are given for a registered one: it is untrained.
    """
    if model not in BACKBONES and Path(model).is_dir():
        return analyze_folder(Path(model), shards=shards, latent=latent, runs=runs, num_threads=num_threads)
    if model not in BACKBONES:
        raise FoundryError(
            f"'{model}' is no folder and no registered backbone; {nearest(model, list(BACKBONES))}"
        )
    if shards is not None:
        raise FoundryError(
            f"shards are given for '{model}', which has no trained weights to look at; name a model folder"
        )
    return analyze_variant(model, latent=latent, runs=runs, num_threads=num_threads)


def analyze_variant(
    name: str,
    *,
    latent: int | None = None,
    num_tokens: int = TOKENS,
    runs: int = 0,
    num_threads: int | None = None,
) -> Analysis:
    """Analyse a registered backbone; without ``runs`` no memory is taken and nothing is timed.

    Raises FoundryError for an unknown name, and when weights to be timed would not fit into free memory.
    """
    costs = variant_costs(name, latent, num_tokens)
    side = example_inputs(blueprint(name), 1, latent).noisy.shape[-1]
    timing = None
    if runs:
        _check_memory(name)
        model = build_backbone(name, 0).eval()
        with torch_threads(num_threads):
            timing = time_parts(model, example_inputs(model, 1, latent, num_tokens), runs=runs)
    return Analysis(
        name, side, num_tokens, breakdown(blueprint(name), costs, timing), (), runs, undisturbed(timing)
    )


def analyze_folder(
    folder: Path,
    *,
    shards: Path | None = None,
    latent: int | None = None,
    num_tokens: int = TOKENS,
    runs: int = 5,
    samples: int = SAMPLES,
    name: str | None = None,
    num_threads: int | None = None,
) -> Analysis:
    """Analyse the backbone in a pipeline folder; similarity is measured where training shards are given.

    Raises FoundryError when the folder holds no backbone of diffusers.
    """
    folder = Path(folder)
    name_of_part, kind = backbone_part(folder)
    part = folder / name_of_part
    meta = on_meta(part, kind)
    counted = example_inputs(meta, 1, latent, num_tokens)
    costs = layer_costs(meta, counted)
    timing: Timing | None = None
    alike: Sequence[BlockSimilarity] = ()
    if runs or shards:  # weights are loaded only where they are looked at
        model = load_part(kind, part)
        with torch_threads(num_threads):
            if runs:
                timing = time_parts(model, example_inputs(model, 1, latent, num_tokens), runs=runs)
            if shards:
                batch = noised_batch(shards, samples, _stride(folder))
                alike = tuple(block_similarities(model, _noising(folder), batch))
    return Analysis(
        name or folder.name,
        counted.noisy.shape[-1],
        num_tokens,
        breakdown(meta, costs, timing),
        alike,
        runs,
        undisturbed(timing),
    )


def noised_batch(
    shards_folder: Path, samples: int = SAMPLES, stride: int = STRIDE_OF_STABLE_DIFFUSION
) -> NoisedBatch:
    """The first training samples with their original captions and noise that is theirs alone.

    ``stride``: pixels of a side for one latent.
    """
    shards = TrainingShards.open(shards_folder)
    rows = shards.select(("train",), samples)
    if len(rows) < 2:
        raise FoundryError(
            f"{shards_folder}: {len(rows)} training samples; similarity needs at least 2; add pictures"
        )
    latents = torch.from_numpy(shards.gather_latents(rows)).float()
    identities = shards.samples["sample_id"].take(rows).to_pylist()
    channels, height, width = latents.shape[1:]
    noise = evaluation_noise(identities, 1, (channels, height, width))[:, 0]
    told = replace(alt_texts(shards, rows), pixels_per_latent=stride)
    return NoisedBatch(latents, noise, told)


def undisturbed(timing: Timing | None) -> int | None:
    """Nanoseconds of a whole pass, where one was timed."""
    return timing.undisturbed if timing else None


def _stride(folder: Path) -> int:
    """As the pipeline's autoencoder has it; as published ones do where there is none."""
    autoencoder = folder / "vae"
    return (
        pixels_per_latent(read_autoencoder_config(autoencoder))
        if (autoencoder / "config.json").is_file()
        else STRIDE_OF_STABLE_DIFFUSION
    )


def _noising(folder: Path) -> Noising:
    config = folder / "scheduler" / "scheduler_config.json"
    return noising_of(json.loads(config.read_text())) if config.is_file() else Noising("flow")


def on_meta(part: Path, kind: Any) -> Backbone:
    """A model of a folder's configuration, without memory."""
    with torch.device("meta"):
        return kind.from_config(kind.load_config(part)).eval()


def _check_memory(name: str) -> None:
    needed = count_parameters(name) * BYTES_PER_PARAMETER
    free = psutil.virtual_memory().available
    if needed > MEMORY_SHARE * free:
        raise FoundryError(
            f"'{name}' takes {needed / 1e9:.1f} GB of weights and {free / 1e9:.1f} GB are free; "
            f"at most {MEMORY_SHARE:.0%} of it may be taken; leave timing out"
        )
