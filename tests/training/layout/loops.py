"""Our real loop over a branch beside a base of random weights, on random latents, texts and layouts of its own shape."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int32

from training.backbones import build_backbone, denoise, pooled_dim, text_dim
from training.diffusion.noise_process import Noising
from training.layout.entities import Entity
from training.layout.shards import write_layout_shards
from training.loop.loop import Loop
from training.loop.optimizer import build_optimizer
from training.loop.precision import Precision
from training.measuring.steps import fixed_batch
from training.measuring.synthetic import NUM_SAMPLES, Case, loop_of
from training.objectives.layout import LayoutObjective
from training.recipes.diffusion import DiffusionOptions
from training.recipes.execution import Execution
from training.recipes.specification import TrainingSpecification
from training.text_encoders import TextEncoder
from training.text_encoders.encoding import TokenStates


class RandomEncoder(TextEncoder):
    """States of the right widths that mean nothing; ``calls`` counts the batches that were encoded."""

    def __init__(self, dim: int, pooled: int, tokens: int) -> None:
        self.digest, self.dim, self.pooled_dim, self.max_tokens = "d" * 64, dim, pooled, tokens
        self.calls = 0

    def lengths(self, texts: Sequence[str]) -> Int32[np.ndarray, " texts"]:
        """Every text fills it."""
        return np.full(len(texts), self.max_tokens, np.int32)

    def full(self, texts: Sequence[str]) -> list[str]:
        """None is cut."""
        return []

    def encode_batch(self, texts: Sequence[str]) -> TokenStates:
        """Drawn with a fixed seed."""
        self.calls += 1
        random = torch.Generator().manual_seed(len(texts))
        states = torch.randn(len(texts), self.max_tokens, self.dim, generator=random)
        pooled = torch.randn(len(texts), self.pooled_dim, generator=random)
        return TokenStates(states.half(), self.lengths(texts), pooled.half())

    def to(self, device: str) -> RandomEncoder:
        """It has no weights."""
        return self


def encoder_for(backbone: str, tokens: int) -> RandomEncoder:
    """For a registered backbone."""
    with torch.device("meta"):
        config = build_backbone(backbone).config
    return RandomEncoder(text_dim(config), pooled_dim(config) or text_dim(config), tokens)


class BranchInMemory(LayoutObjective):
    """The real objective, whose base has random weights and lies in no folder."""

    base_name: str

    def start(self, spec: TrainingSpecification, execution: Execution) -> tuple[DiffusionOptions, Any]:
        """A new branch on the base, which predicts noise."""
        return self.grown(build_backbone(self.base_name, 0), Noising("epsilon"), spec.recipe)


def layout_loop(
    case: Case,
    branch: Mapping[str, Any],
    folder: Path,
    *,
    tokens_per_entity: int = 1,
    recipe: Mapping[str, Any] | None = None,
    execution: Mapping[str, Any] | None = None,
) -> Loop:
    """A loop that trains a branch, ``branch`` as :class:`training.recipes.layout.BranchChoice` has it."""
    settings = {
        "objective": "layout",
        "parent": "base",
        "layout": {"branch": dict(branch), "compare_every_images": 10**9},
        **(recipe or {}),
    }
    kind = type("Grown", (BranchInMemory,), {"base_name": case.backbone})
    encoder = encoder_for(case.backbone, tokens_per_entity)

    def objective(spec: TrainingSpecification, how: Execution, device: str) -> LayoutObjective:
        place = folder / "layouts"
        write_layout_shards(
            place, layouts(), encoder, spec.inputs["dataset"], tokens_per_entity=tokens_per_entity
        )
        paths = {**how.input_paths, "layout": str(place)}
        return kind(spec, how.model_copy(update={"input_paths": paths}), device)

    return loop_of(case, folder, "cpu", settings, objective, execution)


def layouts() -> list[list[Entity]]:
    """Two entities a sample."""
    boxes = ((0.1, 0.1, 0.5, 0.6), (0.4, 0.3, 0.9, 0.9))
    return [[Entity(f"entity {n}", box) for n, box in enumerate(boxes)] for _ in range(NUM_SAMPLES)]


def floor_step(loop: Loop, case: Case) -> Callable[[], None]:
    """Forward, backward, clip and optimiser of a copy of the loop's model on one batch in memory, and nothing else."""
    model = copy.deepcopy(loop.module)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = build_optimizer(loop.recipe, model)
    precision = Precision(case.precision, loop.device_type)
    batch = fixed_batch(loop, case.batch_size)
    timestep, target = torch.rand(case.batch_size) * 999, torch.randn_like(batch.latents)

    def step() -> None:
        with precision.autocast():
            output = denoise(model, batch.latents, timestep, batch.condition)
        (output.float() - target).square().mean().backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0, foreach=True)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step
