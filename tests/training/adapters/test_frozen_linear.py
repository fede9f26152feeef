"""Frozen linear layers in 8 bits and far from the device: values, gradients, memory, and where weights lie."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from tests.training.pretrained_pipelines import FAMILIES, FineTuning
from training.adapters.frozen_linear import FrozenLinear, freeze_linears, quantise_rows
from training.backbones import example_inputs
from training.run import run

pytestmark = pytest.mark.filterwarnings("ignore")  # of diffusers about null parts


def test_rows_are_rounded_to_half_a_step() -> None:
    torch.manual_seed(0)
    weight = torch.randn(5, 40) * torch.logspace(-3, 3, 5)[:, None]
    codes, scale = quantise_rows(weight)
    assert codes.dtype == torch.int8
    assert ((codes * scale - weight).abs() <= scale / 2 + 1e-12).all()
    zeros, _ = quantise_rows(torch.zeros(2, 3))
    assert not zeros.any()


@pytest.mark.parametrize("int8", [True, False])
@pytest.mark.parametrize("offloaded", [True, False])
def test_output_and_input_gradient_are_those_of_a_plain_layer(int8: bool, offloaded: bool) -> None:
    torch.manual_seed(0)
    plain = nn.Linear(6, 4)
    frozen = FrozenLinear(plain, int8=int8, offloaded=offloaded)
    with torch.no_grad():
        plain.weight.copy_(frozen.fetch(torch.device("cpu"), torch.float32))
    inputs = [torch.randn(3, 5, 6, generator=torch.Generator().manual_seed(1)) for _ in range(2)]
    outputs = []
    for layer, given in zip((plain, frozen), inputs, strict=True):
        outputs.append(layer(given.requires_grad_()))
        outputs[-1].square().sum().backward()
    torch.testing.assert_close(outputs[1], outputs[0])
    torch.testing.assert_close(inputs[1].grad, inputs[0].grad)
    assert frozen.weight.grad is None


def test_autocast_sets_the_format() -> None:
    frozen = FrozenLinear(nn.Linear(6, 4), int8=True, offloaded=False)
    given = torch.randn(3, 6, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = frozen(given)
    assert output.dtype == torch.bfloat16
    output.sum().backward()
    assert given.grad is not None
    assert given.grad.dtype == torch.float32


def test_offloaded_weights_stay_when_the_module_moves() -> None:
    layers = nn.Sequential(nn.Linear(6, 4), nn.LayerNorm(4))
    freeze_linears(layers, int8=True, offloaded=True)
    layers.to("meta")  # stands for a device that is not the host
    assert layers[0].weight.device.type == "cpu"
    assert layers[0].bias.device.type == layers[0].scale.device.type == "meta"
    assert layers[1].weight.device.type == "meta"
    assert layers(torch.empty(2, 6, device="meta")).device.type == "meta"
    near = nn.Sequential(nn.Linear(6, 4))
    freeze_linears(near, int8=True, offloaded=False)
    near.to("meta")
    assert near[0].weight.device.type == "meta"


def device_bytes(module: nn.Module) -> int:
    """Bytes of parameters and buffers that lie on the device of the training: all but offloaded weights."""
    away = {id(part.weight) for part in module.modules() if isinstance(part, FrozenLinear) and part.offloaded}
    tensors = [*module.parameters(), *module.buffers()]
    return sum(t.numel() * t.element_size() for t in tensors if id(t) not in away)


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_every_family_runs_on_a_frozen_base(name: str) -> None:
    torch.manual_seed(0)
    backbone = FAMILIES[name].backbone().eval()
    inputs = example_inputs(backbone, num_tokens=3)
    linears = [layer for layer in backbone.modules() if isinstance(layer, nn.Linear)]
    before, weights = device_bytes(backbone), sum(4 * layer.weight.numel() for layer in linears)
    rows = sum(4 * layer.out_features for layer in linears)
    with torch.no_grad():
        expected = inputs.call(backbone)
        freeze_linears(backbone, int8=False, offloaded=True)
        assert device_bytes(backbone) == before - weights
        torch.testing.assert_close(inputs.call(backbone), expected)
    backbone = FAMILIES[name].backbone().eval()
    freeze_linears(backbone, int8=True, offloaded=False)
    assert device_bytes(backbone) == before - weights * 3 // 4 + rows
    with torch.no_grad():
        assert inputs.call(backbone).isfinite().all()


def weights_of(folder: Path) -> np.ndarray:
    tensors = load_file(folder / "transformer" / "diffusion_pytorch_model.safetensors")
    return np.concatenate([tensors[key].numpy().ravel() for key in sorted(tensors)])


def test_training_beside_a_frozen_base(tmp_path: Path) -> None:
    """Offloading changes nothing; 8 bits change the way, little; activations can be computed again."""
    tuning = FineTuning("sd3", tmp_path)
    lora = {"rank": 2, "targets": ["linear"]}
    variants = {
        "plain": ({}, {}),
        "offloaded": ({}, {"offload_base": True, "activation_checkpointing": True}),
        "int8": ({"base_format": "int8"}, {"offload_base": True}),
    }
    found = {}
    for name, (recipe, execution) in variants.items():
        folder = tuning.prepare(name, execution, lora=lora, ema_half_life_images=None, **recipe)
        run(folder.path)
        found[name] = weights_of(folder.model)
    start = weights_of(tuning.parent)
    way = np.linalg.norm(found["plain"] - start)
    assert way > 0
    np.testing.assert_allclose(found["offloaded"], found["plain"], atol=1e-5)
    assert 0 < np.linalg.norm(found["int8"] - found["plain"]) < 0.5 * way
