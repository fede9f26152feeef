"""Layout tokens: an entity's phrase and box in one token or a few (CreatiLayout section 3.1, as its public code has it)."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from training.conditioning import Placed
from training.errors import FoundryError
from training.recipes.layout import LayoutOptions

FREQUENCIES = 8
BASE = 100.0
POSITION_DIM = FREQUENCIES * 2 * 4  # sine and cosine of four numbers


def fourier_of_boxes(boxes_xyxy_norm: Float[Tensor, "b n 4"]) -> Float[Tensor, "b n 64"]:
    """Sines and cosines of the four numbers under f_k = 100^(k/8), k = 0 to 7: by frequency, then sine before cosine, then
    left, top, right, bottom. No factor of 2 pi."""
    steps = torch.arange(FREQUENCIES, device=boxes_xyxy_norm.device, dtype=torch.float32)
    angles = boxes_xyxy_norm.float()[..., None, :] * (BASE ** (steps / FREQUENCIES))[:, None]  # [b, n, 8, 4]
    waves = torch.stack([angles.sin(), angles.cos()], dim=-2)  # [b, n, 8, 2, 4]
    return waves.flatten(-3).to(boxes_xyxy_norm.dtype)


class TwoLayers(nn.Module):
    """linear, SiLU, linear."""

    def __init__(self, dim_in: int, hidden: int, dim_out: int) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(dim_in, hidden)
        self.linear_2 = nn.Linear(hidden, dim_out)

    def forward(self, inputs: Float[Tensor, "*b dim_in"]) -> Float[Tensor, "*b dim_out"]:
        """The two layers."""
        return self.linear_2(nn.functional.silu(self.linear_1(inputs)))


class LayoutTokens(nn.Module):
    """From phrases and boxes to tokens of the model's width.

    ``text_dim``: width of the phrases' states. ``tokens_per_entity``: 1 where a phrase is a pooled vector (SD3), else how many
    of its token states are taken (FLUX: 30). ``embeds_text``: phrases go through two layers first; where they do not
    ``text_dim`` is the model's own width already. Learned nulls stand for what is padding, and for an entity that guidance
    leaves out; they begin at zero.
    """

    def __init__(
        self, text_dim: int, width: int, tokens_per_entity: int = 1, *, embeds_text: bool = True
    ) -> None:
        super().__init__()
        phrase_dim = width if embeds_text else text_dim
        self.tokens_per_entity = tokens_per_entity
        self.text_embedder = TwoLayers(text_dim, width, width) if embeds_text else None
        self.linears = TwoLayers(phrase_dim + POSITION_DIM, width // 2, width)
        self.null_positive_feature = nn.Parameter(torch.zeros(phrase_dim))
        self.null_position_feature = nn.Parameter(torch.zeros(POSITION_DIM))

    def forward(
        self,
        boxes_xyxy_norm: Float[Tensor, "b n 4"],
        phrases: Float[Tensor, "b n tokens text_dim"],
        there: Bool[Tensor, "b n"],
    ) -> Float[Tensor, "b n_tokens width"]:
        """Tokens, those of an entity together; where ``there`` is false nulls take the place of phrase and box."""
        known = there[..., None, None]
        text = phrases if self.text_embedder is None else self.text_embedder(phrases)
        text = torch.where(known, text, self.null_positive_feature.to(text.dtype))
        places = fourier_of_boxes(boxes_xyxy_norm).to(text.dtype)
        places = torch.where(there[..., None], places, self.null_position_feature.to(text.dtype))
        spread = places[..., None, :].expand(*text.shape[:-1], POSITION_DIM)
        return self.linears(torch.cat([text, spread], dim=-1)).flatten(1, 2)


def require_fit(layout: Placed, options: LayoutOptions, pictures: int) -> None:
    """Raise FoundryError where a model of these options cannot take a layout for so many pictures."""
    batch, entities, tokens, dim = layout.phrases.shape
    compared = {
        "pictures": (batch, pictures),
        "entities": (entities, options.max_boxes),
        "tokens of an entity": (tokens, options.tokens_per_entity),
        "width of phrases": (dim, options.phrase_dim),
    }
    for name, (found, wanted) in compared.items():
        if found != wanted:
            raise FoundryError(
                f"layout: {found} {name} found, this model takes {wanted}; pad layouts to max_boxes and encode phrases as it "
                "was trained"
            )
