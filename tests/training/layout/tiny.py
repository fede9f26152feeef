"""Tiny backbones with and without layout branches, and what they are told."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import FluxTransformer2DModel, SD3Transformer2DModel
from torch import Tensor, nn

from training.conditioning import Placed
from training.layout.flux import LayoutFluxTransformer2DModel
from training.layout.sd3 import LayoutSD3Transformer2DModel
from training.recipes.layout import Kind, LayoutOptions

MAX_BOXES, PHRASE_DIM, FLUX_TOKENS = 4, 6, 2
SD3_CONFIG: dict[str, Any] = {
    "sample_size": 8, "patch_size": 2, "in_channels": 4, "out_channels": 4, "num_layers": 3, "attention_head_dim": 8,
    "num_attention_heads": 2, "joint_attention_dim": 12, "caption_projection_dim": 16, "pooled_projection_dim": 10,
    "pos_embed_max_size": 8, "qk_norm": None,
}  # fmt: skip
FLUX_CONFIG: dict[str, Any] = {
    "in_channels": 16, "num_layers": 2, "num_single_layers": 3, "attention_head_dim": 8, "num_attention_heads": 2,
    "joint_attention_dim": PHRASE_DIM, "pooled_projection_dim": 10, "axes_dims_rope": (2, 2, 4),
}  # fmt: skip
SD3_KINDS: tuple[Kind, ...] = ("siam", "siam_lora", "adapter", "gated", "none")
FLUX_KINDS: tuple[Kind, ...] = ("siam", "none")
ALL = [*(("SD3", kind) for kind in SD3_KINDS), *(("FLUX", kind) for kind in FLUX_KINDS)]


def base(family: str = "SD3", **changed: Any) -> Any:
    """The stock model, the same every time."""
    torch.manual_seed(0)
    if family == "SD3":
        return SD3Transformer2DModel(**{**SD3_CONFIG, **changed}).eval()
    return FluxTransformer2DModel(**{**FLUX_CONFIG, **changed}).eval()


def with_layout(stock: Any, kind: Kind, **options: Any) -> Any:
    """A model with an untrained branch on the stock one's weights."""
    is_flux = isinstance(stock, FluxTransformer2DModel)
    if kind == "none":
        options["box_aligned"] = True
    torch.manual_seed(1)
    told = LayoutOptions(
        kind=kind,
        max_boxes=MAX_BOXES,
        phrase_dim=PHRASE_DIM,
        rank=4,
        tokens_per_entity=FLUX_TOKENS if is_flux else 1,
        **options,
    )
    own = {name: value for name, value in stock.config.items() if not name.startswith("_")}
    made = LayoutFluxTransformer2DModel if is_flux else LayoutSD3Transformer2DModel
    model = made(**own, layout=told.model_dump())
    missing, unexpected = model.load_state_dict(stock.state_dict(), strict=False)
    assert not unexpected
    assert all("layout" in name for name in missing)
    return model.eval()


def randomised(model: nn.Module) -> Any:
    """Every zero-initialised part of the branch is given values."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "layout" in name and not parameter.any():
                parameter.copy_(torch.randn_like(parameter) * 0.3)
    return model


def inputs(model: Any, batch: int = 2) -> dict[str, Tensor]:
    """Latents, text and timesteps of up to two pictures."""
    torch.manual_seed(2)
    pooled, text = torch.randn(2, 10), torch.randn(2, 5, 12)
    if isinstance(model, SD3Transformer2DModel):
        own = {"hidden_states": torch.randn(2, 4, 8, 8), "timestep": torch.tensor([300.0, 700.0])}
        return {
            name: value[:batch]
            for name, value in {**own, "encoder_hidden_states": text, "pooled_projections": pooled}.items()
        }
    places = torch.cartesian_prod(torch.zeros(1), torch.arange(4.0), torch.arange(4.0))
    own = {
        "hidden_states": torch.randn(2, 16, 16),
        "timestep": torch.tensor([0.3, 0.7]),
        "encoder_hidden_states": text[..., :PHRASE_DIM],
        "pooled_projections": pooled,
    }
    return {name: value[:batch] for name, value in own.items()} | {
        "img_ids": places,
        "txt_ids": torch.zeros(5, 3),
    }


def placed(model: Any, counts: tuple[int, ...] = (1, 4)) -> Placed:
    """Layouts of two pictures with so many entities each."""
    torch.manual_seed(3)
    corner, size = torch.rand(2, MAX_BOXES, 2) * 0.5, torch.rand(2, MAX_BOXES, 2) * 0.4 + 0.1
    tokens = model.layout_options.tokens_per_entity
    there = torch.arange(MAX_BOXES) < torch.tensor(counts)[:, None]
    return Placed(
        torch.cat([corner, corner + size], dim=-1), torch.randn(2, MAX_BOXES, tokens, PHRASE_DIM), there
    )


def answer(model: Any, layout: Placed | None = None, given: dict[str, Tensor] | None = None) -> Tensor:
    """What the model says."""
    told = {} if layout is None else {"layout": layout}
    with torch.no_grad():
        output: Tensor = model(**(given or inputs(model)), return_dict=False, **told)[0]
    return output
