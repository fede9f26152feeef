"""Model folders in the layout of a stock diffusers pipeline, the proof that they reload, and their card."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import diffusers
import torch
from safetensors.torch import save_file

from training.backbones import Family, bare, family_of
from training.diffusion.few_step_schedulers import few_step_scheduler_of
from training.diffusion.noise_process import Noising
from training.diffusion.schedulers import scheduler_of
from training.model_folders.pretrained import child_index, copy_scheduler
from training.model_folders.probe import probe
from training.model_folders.stock_pipelines import copy_autoencoder, fitted_scheduler
from training.run_folder import PROBE


def export_pipeline(
    folder: Path,
    backbone: Any,
    autoencoder_folder: Path,
    noising: Noising,
    *,
    few_step: bool = False,
    parent: Path | None = None,
) -> None:
    """Write backbone, autoencoder, scheduler and index, and what the model says to a fixed input.

    ``few_step`` writes the scheduler of a consistency model; ``parent`` is the pipeline that a fine-tuned model came
    from, whose class and scheduler it keeps.
    """
    row = family_of(backbone)
    folder.mkdir(parents=True)
    save_backbone(backbone, folder / row.part)
    copy_autoencoder(autoencoder_folder, folder / "vae", row.pipeline)
    if parent is None:
        scheduler = fitted_scheduler(
            few_step_scheduler_of(noising) if few_step else scheduler_of(noising), row.pipeline
        )
        scheduler.save_pretrained(folder / "scheduler")
        index = _pipeline_index(backbone, type(scheduler).__name__, few_step=few_step)
    else:
        copy_scheduler(parent, folder / "scheduler")
        index = child_index(parent) | {row.part: _index_entry(backbone)}
    (folder / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")
    save_file({"output": probe(backbone)}, folder / PROBE)


def _index_entry(backbone: Any) -> list[str]:
    """Where a pipeline finds the backbone's class: in diffusers, or for pruned ones in this package."""
    kind = type(bare(backbone))
    return ["diffusers" if kind.__module__.startswith("diffusers.") else kind.__module__, kind.__name__]


def part_of(backbone: Any) -> str:
    """The sub-folder of a pipeline that a backbone lies in."""
    return family_of(backbone).part


def save_backbone(backbone: Any, folder: Path) -> None:
    """Write a backbone's weights and configuration; safetensors wants them in plain order.

    Where the backbone was loaded from is left out: the same model is the same bytes, wherever its parent lay.
    """
    is_channels_last = any(
        p.ndim == 4 and not p.is_contiguous() and p.is_contiguous(memory_format=torch.channels_last)
        for p in backbone.parameters()
    )
    backbone.to(memory_format=torch.contiguous_format)
    backbone.save_pretrained(folder)
    _forget_origin(folder / "config.json")
    if is_channels_last:
        backbone.to(memory_format=torch.channels_last)


def _forget_origin(path: Path) -> None:
    config = json.loads(path.read_text(encoding="utf-8"))
    if config.pop("_name_or_path", None) is not None:
        path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _pipeline_index(backbone: Any, scheduler_class: str, *, few_step: bool) -> dict[str, Any]:
    """What ``from_pretrained`` reads; parts that we do not ship are null and passed as None."""
    row: Family = family_of(backbone)
    stock = row.pipeline
    index: dict[str, Any] = {
        "_class_name": stock.few_step_name if few_step else stock.name,
        "_diffusers_version": diffusers.__version__,
    }
    index |= {name: [None, None] for name in stock.absent}
    return index | {
        **stock.settings,
        "scheduler": ["diffusers", scheduler_class],
        row.part: ["diffusers", type(backbone).__name__],
        "vae": ["diffusers", "AutoencoderKL"],
    }
