"""The parts of a backbone: they add up to it exactly, and each layer is where its name says."""

from __future__ import annotations

import pytest
import torch

from evaluation.analysis.breakdown import breakdown, totals
from evaluation.analysis.parts import KINDS, Part, parts_of, stage_order
from evaluation.analysis.timing import _Clock, time_parts
from training.backbones import blueprint, build_backbone, count_parameters, example_inputs, variant_costs
from training.errors import FoundryError
from training.hardware import torch_threads

FAMILIES = [
    "UNet-tiny",
    "PixArt-demo-h64-d4",
    "SD3-tiny",
    "FLUX-demo-h64-d2-s4",
    "IF-XL-demo-c32",
    "SDXL-TD4_4",
    "KOALA-700M",
]


@pytest.mark.parametrize("name", FAMILIES)
def test_parts_add_up_to_the_model(name: str) -> None:
    costs = variant_costs(name, None, 77)
    cells = breakdown(blueprint(name), costs)
    for by in ("kind", "stage"):
        whole = totals(cells, by)["all"]
        assert whole.parameters == count_parameters(name)
        assert whole.macs == sum(cost.macs for cost in costs.values())
        assert whole.product_macs == sum(cost.product_macs for cost in costs.values())
    assert len({(cell.stage, cell.kind) for cell in cells}) == len(cells)
    assert {cell.kind for cell in cells} <= set(KINDS)


def test_kinds_of_sdxl_are_those_of_a_count_by_name() -> None:
    """An obvious reference: every parameter by the words in its name."""
    model, found = blueprint("SDXL-stock"), totals(breakdown(blueprint("SDXL-stock"), {}))
    words = {
        "self_attention": ".attn1.",
        "cross_attention": ".attn2.",
        "feed_forward": ".ff.",
        "residual": ".resnets.",
    }
    for kind, word in words.items():
        expected = sum(value.numel() for name, value in model.named_parameters() if word in name)
        assert found[kind].parameters == expected, kind
    output_biases = 2 * (10 * 640 + 60 * 1280)  # of the attentions: they belong to no head
    attention = found["self_attention"].parameters + found["cross_attention"].parameters
    assert attention == 955_187_200 + output_biases
    assert found["feed_forward"].parameters == 1_229_465_600 + output_biases // 2


def test_stages_follow_the_pass() -> None:
    assert stage_order(blueprint("UNet-tiny")) == [
        "input", "down.0", "down.1", "mid", "up.0", "up.1", "output", "between",
    ]  # fmt: skip
    assert "mid" not in [cell.stage for cell in breakdown(blueprint("KOALA-700M"), {})]
    stages = stage_order(blueprint("PixArt-h1152-d28"))
    assert stages[1:7] == [f"blocks.{i}" for i in ("0-4", "5-9", "10-14", "15-19", "20-24", "25-27")]
    flux = stage_order(blueprint("FLUX-demo-h64-d2-s4"))
    assert flux[1:4] == ["blocks.0", "blocks.1", "single.0"]


def test_texts_own_projections_are_cross_attention() -> None:
    sd3, flux = parts_of(blueprint("SD3-tiny")), parts_of(blueprint("FLUX-tiny"))
    assert sd3["transformer_blocks.0.attn.add_k_proj"].kind == "cross_attention"
    assert sd3["transformer_blocks.0.attn.to_k"].kind == "self_attention"
    assert sd3["transformer_blocks.0.ff_context.net.2"].kind == "feed_forward"
    assert flux["single_transformer_blocks.0.proj_mlp"].kind == "feed_forward"
    assert flux["single_transformer_blocks.0.attn.to_q"] == Part("single.0", "self_attention")


def test_every_moment_belongs_to_the_innermost_part(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that ticks once a look: the time between two looks goes to whoever ran meanwhile."""
    ticks = iter(range(100))
    monkeypatch.setattr("evaluation.analysis.timing.time.perf_counter_ns", lambda: next(ticks))
    clock, outer, inner = _Clock(on_gpu=False), Part("mid", "rest"), Part("mid", "self_attention")
    clock.start()
    clock.enter(outer)
    clock.enter(inner)
    clock.leave()
    clock.leave()
    assert clock.stop() == {Part("between", "rest"): 2, outer: 2, inner: 1}


@pytest.mark.parametrize("name", ["UNet-tiny", "FLUX-tiny"])
def test_times_are_told_for_what_computes(name: str) -> None:
    model = build_backbone(name, 0).eval()
    timing = time_parts(model, example_inputs(model, 1, None, 8), runs=3)
    cells = breakdown(model, variant_costs(name, None, 8), timing)
    assert totals(cells)["all"].nanoseconds == timing.total > 0
    assert timing.undisturbed > 0
    assert all(cell.nanoseconds for cell in cells if cell.macs)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    with pytest.raises(FoundryError, match="runs is 0; at least 1"):
        time_parts(model, example_inputs(model), runs=0)


def test_threads_are_given_back() -> None:
    before = torch.get_num_threads()
    with torch_threads(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before
