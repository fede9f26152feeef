"""What stands where no unit is left, and the places of the adaLN channels that are.

An emptied module answers as a masked one does: with the bias of its output projection, or with zero; never with its
input. It stays joined to its input in the graph, so that the normalisation before it has gradients, of zero as under a
mask, and distributed training waits for no missing one. Linear layers of size 0 are avoided, which many kernels and quantisers cannot take.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn


class NoChannels(nn.Module):
    """In place of a linear layer without rows: an output of width 0."""

    emptied = True

    def forward(self, x: Float[Tensor, "*batch channels"]) -> Float[Tensor, "*batch 0"]:
        """Nothing, for each token."""
        return x[..., :0]


class BiasOnly(nn.Module):
    """In place of a linear layer without columns: its bias for each token, whatever comes in."""

    emptied = True

    def __init__(self, width: int, *, bias: bool) -> None:
        super().__init__()
        self.width = width
        self.bias = nn.Parameter(torch.zeros(width)) if bias else None

    def forward(self, x: Float[Tensor, "*batch channels"]) -> Float[Tensor, "*batch width"]:
        """The bias, as often as there are tokens; zero where the layer had none."""
        zeros = _zeros(x, self.width)
        return zeros if self.bias is None else zeros + self.bias.to(x.dtype)


class ZeroChannels(nn.Module):
    """In place of an adaLN projection without rows: zero in each of its ``width`` channels."""

    emptied = True

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, x: Float[Tensor, "*batch channels"]) -> Float[Tensor, "*batch width"]:
        """Zeros."""
        return _zeros(x, self.width)


def _zeros(x: Float[Tensor, "*batch channels"], width: int) -> Float[Tensor, "*batch width"]:
    return nn.functional.pad(x[..., :0], (0, width))


class Scatter(nn.Module):
    """Puts the channels of a shortened adaLN projection at their places among ``width``, zero elsewhere."""

    places: Int64[Tensor, " kept"]

    def __init__(self, width: int, kept: int) -> None:
        super().__init__()
        self.width = width
        self.register_buffer("places", torch.arange(kept))

    def forward(self, x: Float[Tensor, "*batch kept"]) -> Float[Tensor, "*batch width"]:
        """The channels, scattered."""
        whole = x.new_zeros(*x.shape[:-1], self.width)
        return whole.index_copy(-1, self.places, x)


class EmptiedAttention(nn.Module):
    """In place of an attention without heads; it has the names of the output projections that it stands for.

    It holds no processor: what sets the processors of a backbone passes it by.
    """

    emptied = True

    def __init__(self, attention: Any) -> None:
        super().__init__()
        self.is_joint = attention.added_kv_proj_dim is not None
        self.rescale = float(getattr(attention, "rescale_output_factor", 1.0))
        to_out, to_add_out = getattr(attention, "to_out", None), getattr(attention, "to_add_out", None)
        self.to_out = to_out  # already without columns; None in FLUX's single blocks
        self.to_add_out = to_add_out

    def forward(
        self,
        hidden_states: Float[Tensor, "b n c"],
        encoder_hidden_states: Float[Tensor, "b m c2"] | None = None,
        attention_mask: Any = None,
        **_unused: Any,
    ) -> Any:
        """The biases of the output projections; two streams where the attention had two."""
        if self.to_out is None:
            return hidden_states[..., :0]
        output = self.to_out[1](self.to_out[0](hidden_states)) / self.rescale
        if not self.is_joint or encoder_hidden_states is None:
            return output
        text = encoder_hidden_states if self.to_add_out is None else self.to_add_out(encoder_hidden_states)
        return output, text  # a text stream that ends here is not looked at
