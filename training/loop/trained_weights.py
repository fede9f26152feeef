"""What a checkpoint holds of a module whose weights are partly frozen: what trains alone."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from training.errors import FoundryError


def trained_tensors(module: nn.Module) -> dict[str, Tensor]:
    """All tensors of a module, or what trains where some is frozen and comes from the parent again."""
    parameters = dict(module.named_parameters())
    if all(parameter.requires_grad for parameter in parameters.values()):
        return dict(module.state_dict())
    return {name: parameter.data for name, parameter in parameters.items() if parameter.requires_grad}


def restore_trained(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Put saved weights back; the inverse of :func:`trained_tensors`. Raises FoundryError when they do not fit."""
    wanted = trained_tensors(module)
    if set(wanted) != set(tensors):
        name = min(set(wanted) ^ set(tensors))
        raise FoundryError(
            f"checkpoint: '{name}' is not in both checkpoint and model; delete the run folder and launch it again"
        )
    module.load_state_dict(dict(tensors), strict=False)
