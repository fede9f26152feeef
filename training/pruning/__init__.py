"""Structured pruning as in EcoDiff (arXiv 2412.02852): units, masks on them, their selection and structural removal."""

from training.pruning._layers import KINDS, Kind, UnitKey
from training.pruning.masking import Masks, masked
from training.pruning.plan import PlannedGroup, RemovalPlan, backbone_on_meta, plan_of_kept, plan_removal
from training.pruning.ratios import Ratio, keep_count
from training.pruning.removal import Keep, prune
from training.pruning.saving import pruned_class
from training.pruning.scores import read_scores, write_scores
from training.pruning.selection import Scope, Scores, keep_above, keep_best
from training.pruning.units import UnitGroup, unit_groups

__all__ = [
    "KINDS",
    "Keep",
    "Kind",
    "Masks",
    "PlannedGroup",
    "Ratio",
    "RemovalPlan",
    "Scope",
    "Scores",
    "UnitGroup",
    "UnitKey",
    "backbone_on_meta",
    "keep_above",
    "keep_best",
    "keep_count",
    "masked",
    "plan_of_kept",
    "plan_removal",
    "prune",
    "pruned_class",
    "read_scores",
    "unit_groups",
    "write_scores",
]
