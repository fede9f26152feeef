"""Number formats of the forward pass."""

from __future__ import annotations

import platform

import pytest
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from torch.utils._python_dispatch import TorchDispatchMode

from training.loop.precision import Precision, slow_format_note


class Called(TorchDispatchMode):
    """Names of the operators that were called inside."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        self.names.add(str(func))
        return func(*args, **(kwargs or {}))


def _attended(precision: str) -> tuple[Tensor, Tensor, set[str]]:
    query, key, value = torch.randn(3, 2, 4, 24, 16, generator=torch.Generator().manual_seed(0)).unbind()
    query.requires_grad_()
    format = Precision(precision, "cpu")
    with Called() as called, format.attention():
        with format.autocast():
            found = scaled_dot_product_attention(query * 1.0, key, value)
        found.square().sum().backward()
    assert query.grad is not None
    return found.detach(), query.grad, called.names


def test_attention_in_bf16_on_a_cpu_is_products_of_matrices_and_gives_what_fp32_gives() -> None:
    expected, gradient, fused = _attended("fp32")
    found, found_gradient, names = _attended("bf16")
    assert any("flash" in name for name in fused)
    assert not any("flash" in name for name in names)
    assert any("bmm" in name for name in names)
    torch.testing.assert_close(found.float(), expected, atol=0.02, rtol=0.05)
    torch.testing.assert_close(found_gradient, gradient, atol=0.05, rtol=0.1)


@pytest.mark.parametrize("has_it", [True, False])
def test_a_processor_without_bf16_is_told_of(has_it: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: has_it)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    assert bool(slow_format_note(torch.bfloat16, "cpu")) == (not has_it)
    assert slow_format_note(None, "cpu") == slow_format_note(torch.bfloat16, "cuda") == []
