"""Memory of one GPU by part, for one process, for copies (DDP) and for shards (FSDP2) of the weights.

Parts that are kept: weights and gradients in fp32, the optimiser's moments, each running average; of a base that stays frozen
beside a branch its weights alone, in the format it is stored in. What comes and goes is
taken from :mod:`training.planning.simulation`: gradients as they appear while activations go, activations, and the
copies of weights that autocast makes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import Literal

import numpy as np
from torch import nn

from training.backbones import Backbone, Conditioning, blueprint, hidden_matrices
from training.loop.parallelism import sharding_blocks
from training.planning.simulation import Setting, planned_model, simulate
from training.recipes.adapters import OptimizerOptions

Strategy = Literal["ddp", "fsdp"]
FP32 = 4.0


@dataclass(frozen=True)
class Shares:
    """How one training is spread: processes, images of one pass through the model on each, and passes a step."""

    gpus: int = 1
    strategy: Strategy = "ddp"
    images_per_pass: int = 1
    passes: int = 1

    @property
    def batch_size(self) -> int:
        """Images of one optimiser step."""
        return self.gpus * self.images_per_pass * self.passes


@dataclass(frozen=True)
class Memory:
    """Bytes on one GPU at the moment when most are in use.

    ``gathered``: under FSDP the blocks that are whole at that moment, with their gradients. ``activations`` contains
    everything that grows with the batch, ``autocast_copies`` what autocast casts of the weights and of their gradients.
    """

    weights: float
    gradients: float
    optimizer: float
    averages: float
    activations: float
    autocast_copies: float
    gathered: float = 0.0

    @property
    def total(self) -> float:
        """Sum of the parts."""
        return float(sum(asdict(self).values()))


@dataclass(frozen=True)
class Sizes:
    """Parameters of a backbone: all, of the largest one, of the largest block FSDP shards, and outside such blocks.

    ``hidden``: those of hidden matrices, and among them ``kernels`` those of convolutions. ``trained``: all that train, where a
    base stays frozen those of its branch; then ``largest_parameter`` and ``hidden`` are the branch's. ``trained_gathered``:
    those among the parameters outside blocks and in two blocks of the largest. ``bytes``: of all weights as they are stored,
    ``gathered_bytes``: of those outside blocks and of two of the largest.
    """

    parameters: int
    largest_parameter: int
    largest_block: int
    outside_blocks: int
    hidden: int
    kernels: int
    trained: int
    trained_gathered: int
    bytes: int
    gathered_bytes: int


@lru_cache(maxsize=512)
def sizes(backbone: str, conditioning: Conditioning | None = None) -> Sizes:
    """Count on the meta device. Raises FoundryError for an unknown name."""
    return _sizes_of(blueprint(backbone, conditioning))


@lru_cache(maxsize=512)
def sizes_of(setting: Setting) -> Sizes:
    """The same of what a setting trains, a frozen base and its branch included."""
    if setting.branch is None:
        return sizes(setting.backbone, setting.conditioning)
    return _sizes_of(planned_model(setting))


def _sizes_of(model: Backbone) -> Sizes:
    every = {id(parameter): parameter for parameter in model.parameters()}
    largest, outside = set[int](), set(every)
    for block in sharding_blocks(model):  # inner ones first, as they are sharded
        own = {id(parameter) for parameter in block.parameters()} & outside
        outside -= own
        largest = max(largest, own, key=lambda keys: _count(every[key] for key in keys))
    trained = [parameter for parameter in every.values() if parameter.requires_grad]
    gathered = [every[key] for key in (*outside, *largest, *largest)]
    hidden = _count(hidden_matrices(model))
    return Sizes(
        parameters=_count(every.values()),
        largest_parameter=max(parameter.numel() for parameter in trained),
        largest_block=_count(every[key] for key in largest),
        outside_blocks=_count(every[key] for key in outside),
        hidden=hidden,
        kernels=hidden - _count(hidden_matrices(model, convolutions=False)),
        trained=_count(trained),
        trained_gathered=_count(parameter for parameter in gathered if parameter.requires_grad),
        bytes=_bytes(every.values()),
        gathered_bytes=_bytes(gathered),
    )


def _count(parameters: Iterable[nn.Parameter]) -> int:
    return sum(parameter.numel() for parameter in parameters)


def _bytes(parameters: Iterable[nn.Parameter]) -> int:
    return sum(parameter.numel() * parameter.element_size() for parameter in parameters)


def state_bytes(size: Sizes, optimizer: OptimizerOptions) -> float:
    """What an optimiser keeps of a backbone: two moments, in 8 bits with a scale for each 256 of them, or one of a matrix
    that Muon takes."""
    if optimizer.name == "adamw8bit":
        return 2 * (1 + FP32 / 256) * size.trained
    if optimizer.name == "adamw":
        return 2 * FP32 * size.trained
    matrices = size.hidden if optimizer.convolutions else size.hidden - size.kernels
    return FP32 * (2 * size.trained - matrices)


def memory_of(
    setting: Setting, shares: Shares, num_averages: int, optimizer: OptimizerOptions | None = None
) -> Memory:
    """Memory by part when most is in use; AdamW where no optimiser is named. Raises FoundryError for an unknown backbone."""
    size = sizes_of(setting)
    whole = FP32 * size.trained
    moments = state_bytes(size, optimizer or OptimizerOptions())
    kept = Memory(float(size.bytes), 0.0, moments, num_averages * whole, 0.0, 0.0)
    timeline = simulate(setting)
    growing = timeline.per_image * shares.images_per_pass
    if shares.strategy == "fsdp":
        moment = int(np.argmax(growing + timeline.narrow))
        share = replace(
            kept, weights=kept.weights / shares.gpus, gradients=whole / shares.gpus,
            optimizer=kept.optimizer / shares.gpus, averages=kept.averages / shares.gpus,
            gathered=_gathered(size),
        )  # fmt: skip
    else:
        # DDP keeps gradients in its buckets, a second pass finds those of the first: all are there all the time.
        stay = shares.gpus > 1 or shares.passes > 1
        gradients = np.full_like(growing, whole + FP32 * size.largest_parameter) if stay else timeline.wide
        moment = int(np.argmax(growing + timeline.narrow + gradients))
        share = replace(kept, gradients=float(gradients[moment]))
    return replace(share, activations=float(growing[moment]), autocast_copies=float(timeline.narrow[moment]))


def _gathered(size: Sizes) -> float:
    """Whole weights outside blocks, which stay, and two blocks with gradients: the present one and its neighbour."""
    return size.gathered_bytes + FP32 * size.trained_gathered
