"""What a removal leaves, before anything is trained or cut: counts alone, so that a backbone on the meta device will do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from training.backbones import BACKBONES, Backbone, bare, blueprint, collector_paused
from training.errors import FoundryError
from training.model_folders.classes import backbone_part
from training.pruning._layers import Kind, UnitKey
from training.pruning.discrete_masks import Costs, Scope, Scores, check_something_left, keep_best
from training.pruning.ratios import Ratio, keep_count, ratio_of_sparsity
from training.pruning.units import DEFAULT_KINDS, UnitGroup, unit_groups
from training.recipes.validation import nearest


@dataclass(frozen=True)
class PlannedGroup:
    """One module: its units, and how many of them stay."""

    group: UnitGroup
    kept: int

    @property
    def removed(self) -> int:
        """Units that go."""
        return self.group.num_units - self.kept

    @property
    def removed_parameters(self) -> int:
        """Parameters that go with them."""
        shared = 0 if self.kept else self.group.shared_parameters
        return self.removed * self.group.parameters_per_unit + shared


@dataclass(frozen=True)
class RemovalPlan:
    """Parameters before, and every module that is pruned.

    Unit sparsity and share of parameters differ, for not all parameters belong to units; both are to be told.
    """

    params: int
    groups: tuple[PlannedGroup, ...]

    @property
    def removed(self) -> int:
        """Parameters that go."""
        return sum(each.removed_parameters for each in self.groups)

    @property
    def kept(self) -> int:
        """Parameters that are left."""
        return self.params - self.removed

    def of_kind(self, kind: Kind) -> RemovalPlan:
        """The part of one kind of units; ``params`` stay the whole backbone's."""
        return RemovalPlan(self.params, tuple(each for each in self.groups if each.group.kind == kind))

    @property
    def units(self) -> int:
        """Units of all modules of the plan."""
        return sum(each.group.num_units for each in self.groups)

    @property
    def removed_units(self) -> int:
        """Units that go, of all modules of the plan."""
        return sum(each.removed for each in self.groups)


def plan_removal(
    backbone: nn.Module,
    sparsity: Ratio | Mapping[Kind, Ratio],
    kinds: Sequence[Kind] = DEFAULT_KINDS,
    scope: Scope = "layer",
    *,
    scores: Scores | None = None,
    costs: Costs | None = None,
    legacy: bool = False,
) -> RemovalPlan:
    """Count what is removed at a sparsity: of each module's units, or of all units of a kind by ``scores``.

    floor(N * (1 - sparsity)) units are kept, exactly (sheet, section 6). ``sparsity`` may differ by kind. ``scores``
    are needed by scope ``global`` alone, which says from them how many units each module keeps; ``legacy`` is that of
    :func:`unit_groups`.

    Raises FoundryError for a sparsity out of range or that empties a whole kind, and for scores that do not fit.
    """
    groups = unit_groups(backbone, kinds, legacy=legacy)
    by_kind = sparsity if isinstance(sparsity, Mapping) else dict.fromkeys(kinds, sparsity)
    if set(by_kind) != set(kinds):
        raise FoundryError(
            f"sparsity: given for {', '.join(by_kind)}, kinds are {', '.join(kinds)}; give one for each"
        )
    ratios = {kind: ratio_of_sparsity(value) for kind, value in by_kind.items()}
    for kind, ratio in ratios.items():
        check_something_left(kind, [group.num_units for group in groups if group.kind == kind], ratio, scope)
    if scope == "global":
        if scores is None:
            raise FoundryError(
                "scope: 'global' ranks all units of a kind together; give the scores of a mask file"
            )
        return plan_of_kept(
            backbone, keep_best(scores_of_groups(scores, groups), ratios, "global", costs=costs)
        )
    kept = {group.key: keep_count(group.num_units, ratios[group.kind]) for group in groups}
    return _plan(backbone, groups, kept)


def backbone_on_meta(model: str) -> Backbone:
    """A registered backbone, or the one of a model folder (pruned ones too), with shapes and without values.

    Raises FoundryError when it is neither.
    """
    if model in BACKBONES:
        return blueprint(model)
    if not Path(model).is_dir():
        raise FoundryError(
            f"'{model}' is no folder and no registered backbone; {nearest(model, list(BACKBONES))}"
        )
    part, kind = backbone_part(Path(model))
    with collector_paused(), torch.device("meta"):
        return kind.from_config(kind.load_config(Path(model) / part)).eval()


def plan_of_kept(backbone: nn.Module, keep: Mapping[UnitKey, Tensor]) -> RemovalPlan:
    """Count what a given removal takes away; ``keep`` holds True for each unit of a module that stays."""
    kinds = list(dict.fromkeys(kind for kind, _ in keep))
    groups = [group for group in unit_groups(backbone, kinds) if group.key in keep]
    return _plan(backbone, groups, {key: int(value.sum()) for key, value in keep.items()})


def scores_of_groups(scores: Scores, groups: Sequence[UnitGroup]) -> dict[UnitKey, Tensor]:
    """The scores of these modules, in their order. Raises FoundryError for missing or misshapen ones, by name."""
    for group in groups:
        found = scores.get(group.key)
        if found is None or found.shape != (group.num_units,):
            raise FoundryError(
                f"scores: '{group.kind}/{group.name}' {'is missing' if found is None else f'has shape {list(found.shape)}'}, "
                f"{group.num_units} numbers are needed; write the scores of this backbone"
            )
    return {group.key: scores[group.key] for group in groups}


def _plan(backbone: nn.Module, groups: Sequence[UnitGroup], kept: Mapping[UnitKey, int]) -> RemovalPlan:
    params = sum(parameter.numel() for parameter in bare(backbone).parameters())
    return RemovalPlan(params, tuple(PlannedGroup(group, kept[group.key]) for group in groups))
