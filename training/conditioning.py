"""What a backbone is told beside noisy latents and their noise level: one type for training, sampling and measuring."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from training.errors import FoundryError
from training.hardware import to_device

EMBEDDED_GUIDANCE = 3.5  # FLUX.1-dev's pipeline asks for it
STRIDE_OF_STABLE_DIFFUSION = (
    8  # pixels of a side for one latent in the autoencoders of all published pipelines
)


@dataclass(frozen=True)
class Placed:
    """Entities of a batch of pictures, each with a phrase and a box: what layout branches are told (:mod:`training.layout`).

    Every picture is padded to the model's ``max_boxes``, never to the longest of a batch: null tokens take part in attention,
    so that padding would make a picture depend on its neighbours. ``phrases``: their states, one token where a phrase is
    pooled. ``there``: false for padding, and where guidance leaves the entity out. ``strength`` s: 0 is the base.
    """

    boxes_xyxy_norm: Float[Tensor, "b n 4"]
    phrases: Float[Tensor, "b n tokens dim"]
    there: Bool[Tensor, "b n"]
    strength: float = 1.0

    def __len__(self) -> int:
        return len(self.there)

    def each(self, change: Callable[[Tensor], Tensor]) -> Placed:
        """Every tensor changed."""
        return self.each_with(self, lambda _, own: change(own))

    def each_with(self, other: Placed, join: Callable[[Tensor, Tensor], Tensor]) -> Placed:
        """Every tensor of ``other`` joined with its counterpart here."""
        return replace(
            self,
            boxes_xyxy_norm=join(other.boxes_xyxy_norm, self.boxes_xyxy_norm),
            phrases=join(other.phrases, self.phrases),
            there=join(other.there, self.there),
        )

    def exchanged(self) -> Placed:
        """The same with left and right exchanged."""
        x1, y1, x2, y2 = self.boxes_xyxy_norm.unbind(dim=-1)
        return replace(self, boxes_xyxy_norm=torch.stack([1 - x2, y1, 1 - x1, y2], dim=-1))

    def left_out(self, rows: Bool[Tensor, " b"] | None = None) -> Placed:
        """The same without entities, in all pictures or in some: what guidance extrapolates from."""
        kept = torch.zeros_like(self.there) if rows is None else self.there & ~rows[:, None]
        return replace(self, there=kept)


@dataclass(frozen=True)
class Condition:
    """Conditions of ``b`` pictures, one a row. A family takes what it knows; see :func:`training.backbones.denoise`.

    ``states`` and ``mask``: token states of the texts, zero where the mask is false. ``pooled``: pooled text, for
    SDXL, SD3 and FLUX. ``time_ids``: SDXL's original height and width, crop top and left, target height and width in
    pixels; None for uncropped pictures of the latent's own size, ``pixels_per_latent`` times its sides. ``guidance``: the scale that guidance-distilled
    models (FLUX.1-dev) embed. ``layout``: placed entities. ``control``: latents of a control picture.
    ``attention_mask``: which query may look at which key. ``null``: what stands for "no condition", one row, which
    classifier-free guidance extrapolates from.
    """

    states: Float[Tensor, "b tokens dim"]
    mask: Shaped[Tensor, "b tokens"]
    pooled: Float[Tensor, "b pooled_dim"] | None = None
    time_ids: Float[Tensor, "b 6"] | None = None
    guidance: float = EMBEDDED_GUIDANCE
    layout: Placed | None = None
    control: Float[Tensor, "b control_channels h w"] | None = None
    attention_mask: Shaped[Tensor, "b queries keys"] | None = None
    null: Condition | None = None
    pixels_per_latent: int = STRIDE_OF_STABLE_DIFFUSION

    @classmethod
    def of_arrays(
        cls,
        states: Float[np.ndarray, "b tokens dim"],
        mask: Bool[np.ndarray, "b tokens"],
        pooled: Float[np.ndarray, "b pooled_dim"] | None = None,
    ) -> Condition:
        """Texts that lie in the host's memory, which is shared."""
        own = None if pooled is None else torch.from_numpy(pooled)
        return cls(torch.from_numpy(states), torch.from_numpy(mask), own)

    def __len__(self) -> int:
        return len(self.states)

    def repeated(self, count: int) -> Condition:
        """The rows so often, one after the other, with the same null."""
        return self._each(lambda rows: rows.repeat(count, *[1] * (rows.ndim - 1)))

    def spread(self, count: int) -> Condition:
        """Every row so often, its copies side by side, with the same null."""
        return self._each(lambda rows: rows.repeat_interleave(count, dim=0))

    def followed_by(self, other: Condition) -> Condition:
        """The rows and then another's, which are padded or cut to as many tokens, with the same null."""
        return replace(other._each_with(self, lambda mine, theirs: torch.cat([mine, theirs])), null=self.null)

    def part(self, start: int, stop: int) -> Condition:
        """Some of the rows, with the same null."""
        return self._each(lambda rows: rows[start:stop])

    def to(self, device: str | torch.device | None = None, dtype: torch.dtype | None = None) -> Condition:
        """All of it, null included, on ``device``; numbers, but for the mask, in ``dtype``. None leaves it as it is."""

        def moved(rows: Tensor) -> Tensor:
            placed = rows if device is None else to_device(rows, device)
            return placed if dtype is None or not placed.is_floating_point() else placed.to(dtype)

        own = replace(self._each(moved), mask=self.mask if device is None else to_device(self.mask, device))
        return own if self.null is None else replace(own, null=self.null.to(device, dtype))

    def with_null(self, null: Condition) -> Condition:
        """The same beside another null, one row of it."""
        return replace(self, null=null)

    def last_as_null(self) -> Condition:
        """The rows but the last, which becomes their null."""
        most = len(self) - 1
        return self.part(0, most).with_null(self.part(most, most + 1))

    def doubled(self) -> Condition:
        """The null once a row, then the rows themselves, as stock pipelines stack them for classifier-free guidance.

        Sizes, control latents, layout and attention mask that the null does not name hold for both halves.
        Raises FoundryError where the null is missing, or one of the two has pooled text and the other has none.
        """
        null = self._require_null()
        return self._each_with(null, lambda empty, given: torch.cat([empty.expand_as(given), given]))

    def dropped(self, rows: Bool[Tensor, " b"]) -> Condition:
        """The same with the null in place of some rows. Raises FoundryError as :meth:`doubled` does."""
        null = self._require_null()

        def chosen(empty: Tensor, given: Tensor) -> Tensor:
            return torch.where(rows.reshape(-1, *[1] * (given.ndim - 1)), empty.to(given.dtype), given)

        return replace(self._each_with(null, chosen), null=null)

    def _each(self, change: Callable[[Tensor], Tensor]) -> Condition:
        """Every tensor changed."""
        changed: dict[str, Any] = {name: change(rows) for name, rows in self._tensors().items()}
        layout = None if self.layout is None else self.layout.each(change)
        return replace(self, layout=layout, **changed)

    def _each_with(self, null: Condition, join: Callable[[Tensor, Tensor], Tensor]) -> Condition:
        """Every tensor joined with its counterpart in the null; what comes out has no null."""
        empty = null._fitted(self.states.shape[1])._tensors()
        found: dict[str, Any] = {
            name: join(empty.get(name, rows), rows) for name, rows in self._tensors().items()
        }
        layout = None if self.layout is None else self.layout.each_with(null.layout or self.layout, join)
        return replace(self, null=None, layout=layout, **found)

    def _tensors(self) -> dict[str, Tensor]:
        """Every tensor there is but those of the layout, by the name of its field."""
        own = {
            "states": self.states,
            "mask": self.mask,
            "pooled": self.pooled,
            "time_ids": self.time_ids,
            "control": self.control,
            "attention_mask": self.attention_mask,
        }
        return {name: rows for name, rows in own.items() if rows is not None}

    def _fitted(self, tokens: int) -> Condition:
        """Padded with zeros, or cut, to so many tokens."""
        missing = tokens - self.states.shape[1]
        if not missing:
            return self
        pad = torch.nn.functional.pad  # which also cuts
        return replace(self, states=pad(self.states, (0, 0, 0, missing)), mask=pad(self.mask, (0, missing)))

    def _require_null(self) -> Condition:
        if self.null is None:
            raise FoundryError(
                "'null' of the condition is missing, and guidance extrapolates from it; give the empty text by with_null"
            )
        if (self.pooled is None) != (self.null.pooled is None):
            has, lacks = ("null", "condition") if self.pooled is None else ("condition", "null")
            raise FoundryError(f"the {has} has pooled text and the {lacks} has none; encode both alike")
        return self.null
