"""8-bit moments: near to float32's path, a quarter of the memory, and state that resumes bit-equal."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from training.loop.adamw_8bit import SMALLEST, EightBitAdamW, code_values, decode, encode
from training.loop.checkpoints import optimizer_tensors, restore_optimizer


@pytest.mark.parametrize("signed", [True, False])
def test_code_values_are_dense_near_zero(signed: bool) -> None:
    values = code_values(signed)
    assert len(values) == len(set(values.tolist())) == 256
    assert (values.min() < -0.99) == signed
    assert values.max() == 1
    assert 0 in values.tolist()
    positive = values[values > 0]
    assert positive.min() < 1e-6
    assert (positive.diff() > 0).all()


@pytest.mark.parametrize("signed", [True, False])
def test_codes_are_the_nearest_values(signed: bool) -> None:
    torch.manual_seed(0)
    numbers = torch.randn(700) if signed else torch.rand(700)
    codes, scales = encode(numbers, signed=signed)
    blocks = [numbers[start : start + 256] for start in range(0, 700, 256)]
    assert torch.equal(scales, torch.stack([block.abs().max() for block in blocks]))
    found = decode(codes, scales, signed=signed)
    values = code_values(signed)
    slow = torch.cat(
        [
            values[(block[:, None] / block.abs().max() - values).abs().argmin(1)] * block.abs().max()
            for block in blocks
        ]
    )
    torch.testing.assert_close(found, slow)
    assert torch.equal(decode(*encode(torch.zeros(5), signed=signed), signed=signed), torch.zeros(5))


def trained(kind: type, steps: int) -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(64, 128), nn.Tanh(), nn.Linear(128, 8))
    optimizer = kind(module.parameters(), lr=1e-2, weight_decay=0.1)
    go_on(module, optimizer, 0, steps)
    return module, optimizer


def go_on(module: nn.Module, optimizer: torch.optim.Optimizer, first: int, steps: int) -> None:
    for step in range(first, first + steps):
        inputs = torch.randn(16, 64, generator=torch.Generator().manual_seed(step))
        (module(inputs) - inputs[:, :8]).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()


def test_it_follows_adamw() -> None:
    start, _ = trained(EightBitAdamW, 0)
    ours, _ = trained(EightBitAdamW, 30)
    exact, _ = trained(torch.optim.AdamW, 30)
    pairs = list(zip(ours.parameters(), exact.parameters(), start.parameters(), strict=True))
    way = torch.cat([(b - c).flatten() for _, b, c in pairs]).norm()
    off = torch.cat([(a - b).flatten() for a, b, _ in pairs]).norm()
    assert off < 0.2 * way


def test_small_tensors_follow_adamw_exactly() -> None:
    found, wanted = [nn.Parameter(torch.ones(8)) for _ in range(2)]
    for kind, parameter in ((EightBitAdamW, found), (torch.optim.AdamW, wanted)):
        optimizer = kind([parameter], lr=1e-2)
        for step in range(5):
            parameter.grad = torch.linspace(-1, 1, 8) * (step + 1)
            optimizer.step()
    torch.testing.assert_close(found, wanted)


def state_bytes(optimizer: torch.optim.Optimizer, parameter: Tensor) -> int:
    return sum(value.numel() * value.element_size() for value in optimizer.state[parameter].values())


def test_state_takes_a_quarter_of_the_memory() -> None:
    module, ours = trained(EightBitAdamW, 1)
    other, exact = trained(torch.optim.AdamW, 1)
    large, same = next(module.parameters()), next(other.parameters())
    assert large.numel() >= SMALLEST
    ratio = state_bytes(exact, same) / state_bytes(ours, large)
    assert 3.8 < ratio < 4


def test_saved_state_goes_on_bit_equal() -> None:
    whole, _ = trained(EightBitAdamW, 6)
    module, optimizer = trained(EightBitAdamW, 3)
    saved = {key: value.clone() for key, value in optimizer_tensors(optimizer, module).items()}
    fresh = EightBitAdamW(module.parameters(), lr=1e-2, weight_decay=0.1)
    restore_optimizer(fresh, module, saved)
    assert any(value.dtype == torch.uint8 for value in saved.values())
    go_on(module, fresh, 3, 3)
    for found, wanted in zip(module.parameters(), whole.parameters(), strict=True):
        assert torch.equal(found, wanted)
