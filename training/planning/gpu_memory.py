"""Memory of one GPU by part, for one process, for copies (DDP) and for shards (FSDP2) of the weights.

Parts that are kept: weights and gradients in fp32, the optimiser's moments, each running average. What comes and goes is
taken from :mod:`training.planning.simulation`: gradients as they appear while activations go, activations, and the
copies of weights that autocast makes.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import Literal

import numpy as np

from training.backbones import Conditioning, blueprint, hidden_matrices
from training.loop.parallelism import sharding_blocks
from training.planning.simulation import Setting, simulate
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

    ``hidden``: those of hidden matrices, and among them ``kernels`` those of convolutions.
    """

    parameters: int
    largest_parameter: int
    largest_block: int
    outside_blocks: int
    hidden: int
    kernels: int


@lru_cache(maxsize=512)
def sizes(backbone: str, conditioning: Conditioning | None = None) -> Sizes:
    """Count on the meta device. Raises FoundryError for an unknown name."""
    model = blueprint(backbone, conditioning)
    counts = {id(parameter): parameter.numel() for parameter in model.parameters()}
    total, largest = sum(counts.values()), max(counts.values())
    blocks, inside = [], set[int]()
    for block in sharding_blocks(model):  # inner ones first, as they are sharded
        own = {id(parameter) for parameter in block.parameters()} - inside
        blocks.append(sum(counts[key] for key in own))
        inside |= own
    hidden = sum(matrix.numel() for matrix in hidden_matrices(model))
    linear = sum(matrix.numel() for matrix in hidden_matrices(model, convolutions=False))
    outside = total - sum(counts[key] for key in inside)
    return Sizes(total, largest, max(blocks, default=0), outside, hidden, hidden - linear)


def state_bytes(size: Sizes, optimizer: OptimizerOptions) -> float:
    """What an optimiser keeps of a backbone: two moments, in 8 bits with a scale for each 256 of them, or one of a matrix
    that Muon takes."""
    if optimizer.name == "adamw8bit":
        return 2 * (1 + FP32 / 256) * size.parameters
    if optimizer.name == "adamw":
        return 2 * FP32 * size.parameters
    matrices = size.hidden if optimizer.convolutions else size.hidden - size.kernels
    return FP32 * (2 * size.parameters - matrices)


def memory_of(
    setting: Setting, shares: Shares, num_averages: int, optimizer: OptimizerOptions | None = None
) -> Memory:
    """Memory by part when most is in use; AdamW where no optimiser is named. Raises FoundryError for an unknown backbone."""
    size = sizes(setting.backbone, setting.conditioning)
    whole = FP32 * size.parameters
    moments = state_bytes(size, optimizer or OptimizerOptions())
    kept = Memory(whole, 0.0, moments, num_averages * whole, 0.0, 0.0)
    timeline = simulate(setting)
    growing = timeline.per_image * shares.images_per_pass
    if shares.strategy == "fsdp":
        moment = int(np.argmax(growing + timeline.narrow))
        share = replace(
            kept, weights=whole / shares.gpus, gradients=whole / shares.gpus,
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
    return 2.0 * FP32 * (size.outside_blocks + 2 * size.largest_block)
