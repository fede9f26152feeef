"""A training step without memory and without arithmetic, of which only the live bytes are kept.

The real forward, loss and backward of :mod:`training.objectives.diffusion`, and of a branch beside a frozen base, run on fake
tensors: shapes and number formats without values. Autocast is torch's own. On a GPU autocast computes norms in fp32, which torch's rules for a
CPU, on which fake tensors can be differentiated, do not; a hook on the norms adds that.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils.checkpoint import checkpoint

from training.backbones import (
    Backbone,
    BaseFormat,
    Conditioning,
    build_on_meta,
    denoise,
    example_inputs,
    freeze_base,
    variant,
    with_layout,
)
from training.backbones._building import collector_paused
from training.conditioning import Condition, Placed
from training.loop.precision import FORMATS, attention_of
from training.planning.blocks import pasted_blocks, repeated_blocks
from training.planning.live_bytes import PROBE_BATCH, LiveBytes, Timeline
from training.recipes.layout import LayoutOptions

DeviceKind = Literal["cpu", "gpu"]
Prepare = Callable[[nn.Module], None]


@dataclass(frozen=True)
class Setting:
    """What the live bytes of a step depend on, beside the number of images.

    ``branch``: a layout branch that is trained on the backbone, which stays frozen in ``base_format``.
    """

    backbone: str
    precision: str = "bf16"
    checkpointing: bool = False
    device: DeviceKind = "gpu"
    latent_size: int | None = None
    num_tokens: int = 77
    conditioning: Conditioning | None = None
    branch: LayoutOptions | None = None
    base_format: BaseFormat = "fp32"


def planned_model(setting: Setting) -> Backbone:
    """What a setting trains, on the meta device; the base of a branch is frozen. Raises FoundryError for an unknown name."""
    told = variant(setting.backbone, setting.conditioning)
    if setting.branch is None:
        return build_on_meta(told)
    model = build_on_meta(with_layout(told, **setting.branch.model_dump()))
    freeze_base(model, setting.base_format)
    return model


@lru_cache(maxsize=512)
def simulate(setting: Setting) -> Timeline:
    """Live bytes beside weights, optimiser and averages through forward and backward of one step.

    Raises FoundryError for an unknown backbone.
    """
    live = LiveBytes()
    fake = FakeTensorMode()
    with collector_paused():
        model, inputs = _fakes(setting, fake)
        for tensor in inputs.values():
            live.follow(tensor)
        for tensor in (*model.parameters(), *model.buffers()):
            live.ignore(tensor)
        with fake, live:
            return _step(model, inputs, setting, live, partial(_make_fake, fake=fake))


def _step(
    model: nn.Module, inputs: dict[str, Tensor], setting: Setting, live: LiveBytes, prepare: Prepare
) -> Timeline:
    noisy = inputs["latents"] + inputs["noise"]
    layout = Placed(inputs["boxes"], inputs["phrases"], inputs["there"]) if "boxes" in inputs else None
    condition = Condition(inputs["states"], inputs["mask"], inputs.get("pooled"), layout=layout)
    attention = attention_of(FORMATS.get(setting.precision), setting.device)
    with pasted_blocks(model, live, prepare, setting.device) as pasted, attention:
        with _autocast(setting.precision):
            output = denoise(model, noisy, inputs["timestep"], condition)
            squared = (output.float() - (inputs["noise"] - inputs["latents"])).square()
            loss = squared.mean() if layout is None else _weighed(squared)
        pasted.forward_ended()
        del output, squared
        forward_macs = live.macs
        loss.backward()
        rows = list(live.rows)  # what follows frees the gradients
        return Timeline.of(rows, forward_macs, live.macs - forward_macs)


def _weighed(squared: Tensor) -> Tensor:
    """The error as the layout objective weighs it, more inside boxes."""
    regions = squared.new_ones(len(squared), 1, *squared.shape[-2:])
    return (squared * regions).mean() / regions.mean()


def _autocast(precision: str) -> AbstractContextManager[object]:
    return nullcontext() if precision == "fp32" else torch.autocast("cpu", dtype=FORMATS[precision])


def _fakes(setting: Setting, fake: FakeTensorMode) -> tuple[nn.Module, dict[str, Tensor]]:
    model = planned_model(setting).train()
    example = example_inputs(model, PROBE_BATCH, setting.latent_size, setting.num_tokens)
    inputs = {
        "latents": example.noisy,
        "noise": torch.empty_like(example.noisy),
        "timestep": example.timestep,
        "states": example.condition.states,
        "mask": example.condition.mask.bool(),
    }
    if example.condition.pooled is not None:
        inputs["pooled"] = example.condition.pooled
    layout = example.condition.layout
    if layout is not None and setting.branch is not None:
        inputs |= {"boxes": layout.boxes_xyxy_norm, "phrases": layout.phrases, "there": layout.there}
    _make_fake(model, fake, list(repeated_blocks(model)))
    if setting.device == "gpu":
        _norms_in_fp32(model)
    if setting.checkpointing:
        model.enable_gradient_checkpointing(
            partial(checkpoint, use_reentrant=False, preserve_rng_state=False)
        )
    return model, {name: _fake(tensor, fake) for name, tensor in inputs.items()}


def _fake(tensor: Tensor, fake: FakeTensorMode) -> Tensor:
    return FakeTensor(fake, tensor, torch.device("cpu"))


def _make_fake(model: nn.Module, fake: FakeTensorMode, leave_out: Collection[nn.Module] = ()) -> None:
    """Make weights fake, but for those of modules left out."""
    with torch.utils._python_dispatch._disable_current_modes():
        for module in _modules(model, set(leave_out)):
            _make_tensors_fake(module, fake)


def _modules(module: nn.Module, leave_out: Collection[nn.Module]) -> Iterator[nn.Module]:
    yield module
    for child in module.children():
        if child not in leave_out:
            yield from _modules(child, leave_out)


def _make_tensors_fake(module: nn.Module, fake: FakeTensorMode) -> None:
    for name, parameter in module._parameters.items():
        if parameter is not None and not isinstance(parameter, FakeTensor):
            own = nn.Parameter(_fake(parameter.detach(), fake), requires_grad=parameter.requires_grad)
            module._parameters[name] = own
    for name, buffer in module._buffers.items():
        if buffer is not None and not isinstance(buffer, FakeTensor):
            module._buffers[name] = _fake(buffer, fake)


def _norms_in_fp32(model: nn.Module) -> None:
    """Under autocast, norms take and give fp32, as torch's rules for CUDA say."""
    for module in model.modules():
        if isinstance(module, (nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)):
            module.register_forward_pre_hook(_to_fp32)


def _to_fp32(_: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
    return (args[0].float(), *args[1:]) if torch.is_autocast_enabled("cpu") else args
