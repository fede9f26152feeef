"""The released modules and ours say the same.

``released/*.safetensors`` hold weights, inputs and the answer of the public CreatiLayout classes (HuiZhang0812/CreatiLayout, as of
2025) in tiny configurations, every zero-initialised part given values: data alone, none of their code.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.training.layout.tiny import FLUX_CONFIG, SD3_CONFIG
from training.conditioning import Placed
from training.errors import FoundryError
from training.layout.flux import LayoutFluxTransformer2DModel
from training.layout.released import load_released, our_name
from training.layout.sd3 import LayoutSD3Transformer2DModel
from training.recipes.layout import Kind, LayoutOptions

FOLDER = Path(__file__).parent / "released"
KINDS: dict[str, Kind] = {"sd3": "siam", "sd3_lora": "siam_lora", "flux": "siam"}


def model_of(name: str) -> Any:
    torch.manual_seed(9)
    options = LayoutOptions(
        kind=KINDS[name], max_boxes=3, phrase_dim=6, rank=4, tokens_per_entity=2 if name == "flux" else 1
    )
    if name == "flux":
        config = {**FLUX_CONFIG, "num_single_layers": 2, "pooled_projection_dim": 6}
        return LayoutFluxTransformer2DModel(**config, layout=options.model_dump()).eval()
    config = {**SD3_CONFIG, "num_layers": 2, "pooled_projection_dim": 6}
    return LayoutSD3Transformer2DModel(**config, layout=options.model_dump()).eval()


def split(name: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Weights, and the rest."""
    found = load_file(FOLDER / f"{name}.safetensors")
    weights = {
        key.removeprefix("weights."): value for key, value in found.items() if key.startswith("weights.")
    }
    return weights, {key: value for key, value in found.items() if not key.startswith("weights.")}


def answer(model: Any, name: str, told: dict[str, Tensor]) -> Tensor:
    phrases = told["phrases"] if name == "flux" else told["phrases"][:, :, None]
    layout = Placed(told["boxes"], phrases, told["there"].bool(), round(float(told["strength"]), 6))
    places: dict[str, Tensor] = {}
    if name == "flux":
        places["img_ids"] = torch.cartesian_prod(torch.zeros(1), torch.arange(4.0), torch.arange(4.0))
        places["txt_ids"] = torch.zeros(5, 3)
    with torch.no_grad():
        output: Tensor = model(
            told["latents"],
            encoder_hidden_states=told["text"],
            pooled_projections=told["pooled"],
            timestep=told["timestep"],
            layout=layout,
            return_dict=False,
            **places,
        )[0]
    return output


@pytest.mark.parametrize("name", list(KINDS))
def test_the_released_weights_say_here_what_they_say_there(name: str) -> None:
    weights, told = split(name)
    model = model_of(name)
    before = answer(model, name, told)
    load_released(model, weights)
    after = answer(model, name, told)
    assert (before - told["answer"]).abs().max() > 0.1
    torch.testing.assert_close(after, told["answer"], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", list(KINDS))
def test_a_tensor_too_many_too_few_or_of_another_shape_is_named(name: str) -> None:
    weights, _ = split(name)
    first = next(key for key in weights if "bbox" in key)
    with pytest.raises(FoundryError, match="'extra.weight' has no place"):
        load_released(model_of(name), {**weights, "extra.weight": torch.zeros(1)})
    with pytest.raises(FoundryError, match=f"'{our_name(first)}' is missing"):
        load_released(model_of(name), {key: value for key, value in weights.items() if key != first})
    with pytest.raises(FoundryError, match=f"'{first}' is .* the model takes"):
        load_released(model_of(name), {**weights, first: weights[first][..., :1]})


def test_the_released_lora_file_holds_the_branch_alone() -> None:
    weights, told = split("sd3_lora")
    branch = {key: value for key, value in weights.items() if "layout" in our_name(key)}
    model = model_of("sd3_lora")
    load_released(model, {key: value for key, value in weights.items() if key not in branch} | branch)
    whole = answer(model, "sd3_lora", told)
    again = model_of("sd3_lora")
    again.load_state_dict(
        {key: value for key, value in model.state_dict().items() if "layout" not in key}, strict=False
    )
    load_released(again, branch)
    assert torch.equal(answer(again, "sd3_lora", told), whole)
