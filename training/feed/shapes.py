"""Which latent sizes a backbone class takes beside the one that it was built for."""

from __future__ import annotations

from typing import Any

from training.backbones import bare, family_of, latent_channels, own_size
from training.backbones.families import ANY_SIZE
from training.errors import FoundryError


def check_latent_sizes(module: Any, shapes: tuple[tuple[int, int, int], ...], where: str) -> None:
    """Refuse latents that a backbone cannot take, before anything is trained; its own size always fits.

    Raises FoundryError naming the first shape that does not fit, by the rule of the backbone's family.
    """
    own = own_size(module)
    unit, most = family_of(module).side(bare(module).config)
    for channels, height, width in shapes:
        if (channels, height, width) == (latent_channels(module), *(own or ())):
            continue
        if height % unit or width % unit or max(height, width) > most:
            limit = f" and at most {most}" if most < ANY_SIZE else ""
            beside = f" beside its own {own[0]}" if own else ""
            raise FoundryError(
                f"{where}: latents of {height} x {width}; {type(bare(module)).__name__} takes sides that are multiples of "
                f"{unit}{limit}{beside}. Choose other buckets, or another backbone."
            )
