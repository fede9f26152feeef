"""Structured pruning as in EcoDiff (arXiv 2412.02852): units, masks on them, their selection and structural removal."""

from training.pruning._layers import KINDS, Kind, UnitKey
from training.pruning.baselines import (
    CaptionedLatents,
    block_scores,
    magnitude_scores,
    random_scores,
    taylor_scores,
)
from training.pruning.costs import CostMeasure, unit_costs
from training.pruning.discrete_masks import Costs, Scope, Scores, keep_above, keep_best
from training.pruning.learning import MaskUpdate
from training.pruning.masking import Masks, masked
from training.pruning.metering import ScoringCost
from training.pruning.ratios import Ratio, keep_count
from training.pruning.removal import Keep, prune
from training.pruning.removal_plan import (
    PlannedGroup,
    RemovalPlan,
    backbone_on_meta,
    plan_of_kept,
    plan_removal,
)
from training.pruning.saving import pruned_class
from training.pruning.scores import read_scores, write_scores
from training.pruning.scoring import ScoredUnits, score_units
from training.pruning.units import UnitGroup, unit_groups
from training.recipes.pruning import LEARNED_METHODS, METHODS, Method

__all__ = [
    "KINDS",
    "LEARNED_METHODS",
    "METHODS",
    "CaptionedLatents",
    "CostMeasure",
    "Costs",
    "Keep",
    "Kind",
    "MaskUpdate",
    "Masks",
    "Method",
    "PlannedGroup",
    "Ratio",
    "RemovalPlan",
    "Scope",
    "ScoredUnits",
    "Scores",
    "ScoringCost",
    "UnitGroup",
    "UnitKey",
    "backbone_on_meta",
    "block_scores",
    "keep_above",
    "keep_best",
    "keep_count",
    "magnitude_scores",
    "masked",
    "plan_of_kept",
    "plan_removal",
    "prune",
    "pruned_class",
    "random_scores",
    "read_scores",
    "score_units",
    "taylor_scores",
    "unit_costs",
    "unit_groups",
    "write_scores",
]
