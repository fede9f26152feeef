"""Which layers write: text layers, activation patching at them, and sweeps over them (arXiv 2502.09935)."""

from training.localization.layers import TextLayer, layers_named, text_layers
from training.localization.patching import Patched, Recorded, TextCache
from training.localization.sites import KEYS_VALUES, MAPS, Site, hooked

__all__ = [
    "KEYS_VALUES",
    "MAPS",
    "Patched",
    "Recorded",
    "Site",
    "TextCache",
    "TextLayer",
    "hooked",
    "layers_named",
    "text_layers",
]
