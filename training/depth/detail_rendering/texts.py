"""Whose token each text token is: the global prompt's, or one instance's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from training.depth.detail_rendering.regions import Regions, padded
from training.errors import FoundryError

GLOBAL, ABSENT = -1, -2
"""Owners of a text token that is the global prompt's, and of one that is padding of a batch."""


@dataclass(frozen=True, eq=False)
class TokenLayout:
    """The tokens of a batch of pictures. ``owner``: of each text token the instance, :data:`GLOBAL` or :data:`ABSENT`.

    ``image_first``: image tokens stand before the text (SD3) or behind it (FLUX).
    """

    inside: Bool[Tensor, "b instances image"]
    owner: Int[Tensor, "b text"]
    image_first: bool = False

    @classmethod
    def of(
        cls,
        regions: Sequence[Regions],
        global_tokens: int,
        instance_tokens: Sequence[Sequence[int]] | int,
        *,
        image_first: bool = False,
    ) -> TokenLayout:
        """Pictures with any number of instances; texts stand as [T_g | T_1 ... T_n], shorter ones padded.

        ``instance_tokens``: the budget of each instance of each picture, or one for all. Raises FoundryError for another number of
        budgets than of instances, one that is not positive, and for grids that differ.
        """
        grids = {found.grid for found in regions}
        if len(grids) != 1:
            raise FoundryError(f"regions: grids {sorted(grids)} found; a batch has one size")
        rows = [
            _owners(number, len(own), global_tokens, instance_tokens) for number, own in enumerate(regions)
        ]
        tokens = max(map(len, rows))
        owner = torch.tensor([row + [ABSENT] * (tokens - len(row)) for row in rows])
        return cls(padded(regions), owner, image_first)

    @property
    def num_tokens(self) -> int:
        """Text and image together."""
        return self.owner.shape[1] + self.inside.shape[2]

    def of_rows(self, rows: int) -> TokenLayout:
        """The layout of so many rows of a forward pass: the pictures, or as many nulls before them (classifier-free guidance).

        Raises FoundryError for another number.
        """
        pictures = len(self.owner)
        if rows not in (pictures, 2 * pictures):
            raise FoundryError(
                f"{rows} rows attend and the layout tells of {pictures} pictures; make it for as many, one row a picture"
            )
        return self if rows == pictures else self.beside_nulls()

    def beside_nulls(self) -> TokenLayout:
        """The same behind as many pictures that nothing is told of: what classifier-free guidance denoises first."""
        owner = torch.where(self.owner == GLOBAL, GLOBAL, ABSENT)
        return TokenLayout(
            torch.cat([torch.zeros_like(self.inside), self.inside]),
            torch.cat([owner, self.owner]),
            self.image_first,
        )

    def to(self, device: str | torch.device) -> TokenLayout:
        """The same elsewhere, where masks of it lie too."""
        return TokenLayout(self.inside.to(device), self.owner.to(device), self.image_first)

    def part(self, start: int, stop: int) -> TokenLayout:
        """Some of the pictures."""
        return TokenLayout(self.inside[start:stop], self.owner[start:stop], self.image_first)


def _owners(
    picture: int, instances: int, global_tokens: int, budgets: Sequence[Sequence[int]] | int
) -> list[int]:
    own = [budgets] * instances if isinstance(budgets, int) else list(budgets[picture])
    if len(own) != instances:
        raise FoundryError(
            f"picture {picture}: {len(own)} text budgets for {instances} instances; give one each, or one number for all"
        )
    if global_tokens < 1 or any(budget < 1 for budget in own):
        raise FoundryError(
            f"picture {picture}: text budgets are {global_tokens} and {own}; give 1 token or more"
        )
    return [GLOBAL] * global_tokens + [number for number, budget in enumerate(own) for _ in range(budget)]
