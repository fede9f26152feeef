"""Objectives: small objects that own their modules and data and return a loss for a batch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn

from training.feed.order import Order
from training.randomness import Draw
from training.recipes.execution import Execution
from training.recipes.specification import TrainingSpecification


@runtime_checkable
class Objective(Protocol):
    """What the loop needs to know of an objective. Scalars named ``count_...`` are summed, others averaged."""

    module: nn.Module  # everything that is trained
    num_samples: int

    def load(self, draw: Draw) -> Any:
        """The batch of the drawn rows, on the device."""
        ...

    def loss(self, batch: Any, draw: Draw) -> tuple[Tensor, dict[str, Tensor | float]]:
        """Mean loss over the batch, and named scalars."""
        ...

    def export(self, folder: Path) -> None:
        """Write the model with its present weights as a folder that stock libraries load."""
        ...

    def export_weights(self, folder: Path) -> None:
        """Write the trained module alone."""
        ...

    def write_samples(self, path: Path, execution: Execution) -> None:
        """Write a small PNG sheet of what the model makes now."""
        ...


@runtime_checkable
class Ordered(Protocol):
    """An objective whose data says in which order its samples come (buckets, stages, blocks of shards)."""

    def build_order(self) -> Order:
        """A new order; each user has one of its own."""
        ...


@runtime_checkable
class LooksAhead(Protocol):
    """An objective that can prepare batches before they are asked for."""

    def look_ahead(self, draws: Iterator[Draw]) -> None:
        """Take over the draws that :meth:`Objective.load` will be given, in their order."""
        ...


@runtime_checkable
class HasHiddenMatrices(Protocol):
    """An objective that trains a backbone and knows its hidden matrices."""

    def hidden_matrices(self, *, convolutions: bool) -> list[nn.Parameter]:
        """Weights that an optimiser of matrices may take, kernels of convolutions among them where asked."""
        ...


@runtime_checkable
class Closes(Protocol):
    """An objective that runs threads beside the training."""

    def close(self) -> None:
        """End them."""
        ...


@runtime_checkable
class StatefulObjective(Protocol):
    """An objective with state of its own beside ``module``, such as a target network; the loop keeps it in checkpoints."""

    def extra_state(self) -> dict[str, Tensor]:
        """Tensors that a resumed run needs, by name."""
        ...

    def restore_extra_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Put saved tensors back."""
        ...

    def after_step(self, images_seen: int, batch_size: int) -> None:
        """Called after every optimiser step."""
        ...


def build_objective(spec: TrainingSpecification, execution: Execution, device: str) -> Objective:
    """The recipe's objective, its data opened and its modules initialised from the seed.

    Raises FoundryError for a missing input path or data of another kind.
    """
    module, _, name = spec.recipe.objective_row.made_by.partition(":")
    made_by = getattr(import_module(f"training.objectives.{module}"), name)
    objective: Objective = made_by(spec, execution, device)
    return objective
