"""Which tokens may look at which, so that every instance is rendered by its own words (3DIS-FLUX, arXiv 2501.05131).

A pure function of step, layer and layout: nothing counts calls, nothing is trained.
"""

from training.depth.detail_rendering.attending import region_attention
from training.depth.detail_rendering.control import DetailRendering, rendering_by, texts_with_instances
from training.depth.detail_rendering.masks import RegionMasks, allowed_pairs
from training.depth.detail_rendering.regions import Regions, exclusive, in_boxes, in_masks
from training.depth.detail_rendering.rules import Mode, Rules, strict_steps_of
from training.depth.detail_rendering.texts import TokenLayout

__all__ = [
    "DetailRendering",
    "Mode",
    "RegionMasks",
    "Regions",
    "Rules",
    "TokenLayout",
    "allowed_pairs",
    "exclusive",
    "in_boxes",
    "in_masks",
    "region_attention",
    "rendering_by",
    "strict_steps_of",
    "texts_with_instances",
]
