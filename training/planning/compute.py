"""Multiply-adds, training FLOPs, time at a stated utilisation, and money: projected, not measured."""

from __future__ import annotations

from dataclasses import dataclass, replace

from training.backbones import Conditioning, LayerCost, example_inputs, layer_costs, variant_costs
from training.planning.gpus import Gpu
from training.planning.simulation import Setting, planned_model, simulate

TRAINING_FACTOR = 3
"""A backward pass costs two forward passes (the scalability paper's 3 x FLOPs)."""
FLOPS_PER_MAC = 2
RECOMPUTED = 4 / 3
"""Activation checkpointing runs the forward pass twice; utilisation gives no credit for it."""


@dataclass(frozen=True)
class Compute:
    """Work of one training and the time it takes; GPU-hours count all GPUs.

    ``training_flops``: 3 x 2 x multiply-adds of linears and convolutions x images, the paper's count; of a branch beside a
    frozen base what :func:`branch_compute` counts. Time is that with attention's own products, over utilisation times peak.
    """

    macs: int
    macs_with_attention: int
    training_flops: float
    images_per_second: float
    gpu_hours: float
    hours: float


def training_flops(macs: int, images: int) -> float:
    """3 x 2 x multiply-adds of one image x images seen, guidance left out (the scalability paper, section 5)."""
    return float(TRAINING_FACTOR * FLOPS_PER_MAC * macs * images)


@dataclass(frozen=True)
class Rate:
    """How fast GPUs are taken to be."""

    gpu: Gpu
    gpus: int
    mfu: float
    precision: str
    checkpointing: bool

    @property
    def flops_per_gpu(self) -> float:
        """Useful FLOPs a second of one GPU."""
        recomputed = RECOMPUTED if self.checkpointing else 1.0
        return self.gpu.peak(self.precision) * self.mfu / recomputed

    def gpu_hours(self, flops: float) -> float:
        """Time of one GPU."""
        return flops / self.flops_per_gpu / 3600


def compute_of(
    backbone: str,
    images: int,
    rate: Rate,
    *,
    latent_size: int | None = None,
    num_tokens: int = 77,
    conditioning: Conditioning | None = None,
) -> Compute:
    """Compute of training a backbone on so many images. Raises FoundryError for an unknown name."""
    total = sum(variant_costs(backbone, latent_size, num_tokens, conditioning).values(), LayerCost())
    with_products = total.macs + total.product_macs
    per_image = training_flops(with_products, 1)
    gpu_hours = rate.gpu_hours(per_image * images)
    return Compute(
        macs=total.macs,
        macs_with_attention=with_products,
        training_flops=training_flops(total.macs, images),
        images_per_second=rate.gpus * rate.flops_per_gpu / per_image,
        gpu_hours=gpu_hours,
        hours=gpu_hours / rate.gpus,
    )


def branch_compute(setting: Setting, images: int, rate: Rate, *, compared: float = 0.0) -> Compute:
    """Compute of training a branch beside its frozen base on so many images, both passes counted operation by operation.

    Gradients go back through the base to the first block, of which frozen weights need one product where trained ones need
    two, and nothing before it. ``compared``: forward passes more an image, without a layout. ``training_flops`` contains
    attention's own products, and no work that checkpointing does twice. Raises FoundryError for an unknown name.
    """
    once, asked = simulate(replace(setting, checkpointing=False)), simulate(setting)
    more = compared * once.forward_macs
    useful, spent = (
        FLOPS_PER_MAC * (line.forward_macs + line.backward_macs + more) for line in (once, asked)
    )
    counted = replace(rate, checkpointing=False)  # what is computed again is in ``spent``
    gpu_hours = counted.gpu_hours(spent * images)
    return Compute(
        macs=_weighted_macs(setting),
        macs_with_attention=round(once.forward_macs),
        training_flops=useful * images,
        images_per_second=rate.gpus * counted.flops_per_gpu / spent,
        gpu_hours=gpu_hours,
        hours=gpu_hours / rate.gpus,
    )


def _weighted_macs(setting: Setting) -> int:
    """Multiply-adds of linears and convolutions in one forward pass of one image."""
    model = planned_model(setting)
    inputs = example_inputs(model, 1, setting.latent_size, setting.num_tokens)
    return sum(cost.macs for cost in layer_costs(model, inputs).values())
