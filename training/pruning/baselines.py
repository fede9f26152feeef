"""What EcoDiff is compared with: scores of the same units by chance, by weight, by gradient and by whole blocks.

Every function gives one finite number a unit, higher for what is to stay, so that :func:`keep_best` and :func:`prune` treat
all methods alike. None of them changes the backbone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from training.backbones import bare, denoise
from training.conditioning import Condition
from training.diffusion.noise_process import Noising
from training.errors import FoundryError
from training.pruning._layers import Kind, Layer, UnitKey, linear_of
from training.pruning.masking import masked
from training.pruning.units import chosen_layers, unit_groups
from training.randomness import normal, stream_key, uniform
from training.recipes.pruning import PruningOptions, TaylorOptions
from training.sampling.denoising_loop import Sampled
from training.sampling.gradient_checkpointing import run_chain
from training.sampling.replayable_steps import sampling_chain

UnitScores = dict[UnitKey, Tensor]
Log = Callable[[str], None]
"""Takes one line of progress."""


def _silent(_line: str) -> None:
    """For callers that do not listen."""


def random_scores(backbone: nn.Module, kinds: Sequence[Kind], seed: int) -> UnitScores:
    """Uniform numbers, a function of seed, kind, module's name and unit alone.

    Raises FoundryError as :func:`unit_groups` does.
    """
    return {
        group.key: torch.from_numpy(
            uniform(seed, f"random score/{'/'.join(group.key)}", 0, np.arange(group.num_units))
        ).float()
        for group in unit_groups(backbone, kinds)
    }


@torch.no_grad()
def magnitude_scores(backbone: nn.Module, kinds: Sequence[Kind]) -> UnitScores:
    """The L2 norm of all numbers that removal takes away with a unit: its rows, their biases, and its columns.

    So a head of a joint attention counts both streams, a neuron of GEGLU both halves. What the last unit of a module
    takes with it (normalisations of queries and keys) belongs to none. Raises FoundryError as :func:`unit_groups` does.
    """
    inner = bare(backbone)
    return {layer.key: _squares(inner, layer).sqrt().cpu() for layer in chosen_layers(inner, kinds)}


def _squares(backbone: nn.Module, layer: Layer) -> Float[Tensor, " units"]:
    """Sum of squares that go with each unit, in float32."""
    device = linear_of(backbone, layer.inputs[0]).weight.device
    total = torch.zeros(layer.num_units, device=device)
    for name in layer.inputs:
        linear = linear_of(backbone, name)
        rows = linear.weight.float().square().sum(1)
        if linear.bias is not None:
            rows = rows + linear.bias.float().square()
        total += rows.reshape(layer.row_blocks, layer.num_units, layer.width).sum((0, 2)).to(device)
    for name in layer.outputs:
        columns = linear_of(backbone, name).weight.float().square().sum(0)
        own = columns[layer.first_column :][: layer.num_units * layer.width]
        total += own.reshape(layer.num_units, layer.width).sum(1).to(device)
    return total


@runtime_checkable
class CaptionedLatents(Protocol):
    """Clean latents with what is told of each, on any device; a ``LatentBatch`` is one."""

    @property
    def latents(self) -> Float[Tensor, "n c h w"]: ...

    @property
    def condition(self) -> Condition: ...


def check_samples(latents: CaptionedLatents | None, options: TaylorOptions) -> None:
    """Raises FoundryError for fewer latents than Taylor scores are to be computed from."""
    found = 0 if latents is None else len(latents.latents)
    if found < options.samples:
        raise FoundryError(
            f"taylor: 'samples' is {options.samples}, but {found} latents are given; give more or lower it"
        )


def taylor_scores(
    backbone: nn.Module,
    noising: Noising,
    latents: CaptionedLatents,
    kinds: Sequence[Kind],
    options: TaylorOptions,
    seed: int,
    log: Log = _silent,
) -> UnitScores:
    """|d(sum of L_t)/dm| at m = 1: first-order estimates of what the denoising loss changes by when a unit goes.

    A unit's m is the mask that multiplies its output, a gate as in Molchanov et al. 2019 (arXiv 1906.10771, section 3.2).
    L_t is the mean squared error of the network's output against its target, unweighted, over ``samples`` latents with
    their captions, each with one noise for all t. As in Diff-Pruning (arXiv 2305.10924) t goes from low noise to high and
    gradients are summed before the absolute value is taken; with L_max the largest loss so far, the first t with
    L_t / L_max < ``threshold`` ends the sum and, as the paper's set {t : L_t / L_max > threshold} has it, takes no part
    (the official code adds it before it stops). Where the loss falls from low noise to high, as under epsilon prediction,
    this leaves out the noisiest levels; under v and flow prediction it seldom falls so far. Unlike there, t runs over
    ``noise_levels`` midpoints rather than over all 1000.

    Raises FoundryError for too few latents, a loss that is not finite, and as :func:`unit_groups` does.
    """
    check_samples(latents, options)
    device = next(bare(backbone).parameters()).device
    gates = {
        group.key: torch.ones(group.num_units, device=device, requires_grad=True)
        for group in unit_groups(backbone, kinds)
    }
    noise = _noise_of(latents, options.samples, seed)
    total = [torch.zeros_like(gate) for gate in gates.values()]
    largest = 0.0
    with masked(backbone, gates.__getitem__, kinds):
        for index in range(options.noise_levels):
            level = (index + 0.5) / options.noise_levels
            loss, gradients = _level_gradients(backbone, noising, latents, noise, level, options, gates)
            if not np.isfinite(loss):
                raise FoundryError(
                    f"taylor: the loss at noise level {level:g} is {loss}; let the backbone compute in float32"
                )
            largest = max(largest, loss)
            log(f"taylor: noise level {index + 1} of {options.noise_levels}, loss {loss:.4g}")
            if loss < options.threshold * largest:
                log(f"taylor: ends here, at {loss / largest:.3g} of the largest loss")
                break
            for own, gradient in zip(total, gradients, strict=True):
                own += gradient
    return {key: gradient.abs().cpu() for key, gradient in zip(gates, total, strict=True)}


def _noise_of(latents: CaptionedLatents, samples: int, seed: int) -> Float[Tensor, "n c h w"]:
    shape = latents.latents.shape[1:]
    drawn = np.stack([normal(seed, "taylor noise", 0, row, shape) for row in range(samples)])
    return torch.from_numpy(drawn)


def _level_gradients(
    backbone: nn.Module,
    noising: Noising,
    latents: CaptionedLatents,
    noise: Float[Tensor, "n c h w"],
    level: float,
    options: TaylorOptions,
    gates: UnitScores,
) -> tuple[float, list[Tensor]]:
    """L_t at one level and its gradient at the gates, batch by batch."""
    first = next(bare(backbone).parameters())
    device, dtype = first.device, first.dtype
    exact = torch.promote_types(torch.float32, dtype)  # in which the error is taken
    totals, loss = [torch.zeros_like(gate) for gate in gates.values()], 0.0
    for start in range(0, options.samples, options.batch_size):
        own = slice(start, min(start + options.batch_size, options.samples))
        clean, drawn = latents.latents[own].to(device).float(), noise[own].to(device)
        condition = latents.condition.part(own.start, own.stop).to(device, dtype)
        t = clean.new_full((len(clean),), level)
        noisy, target = (f(clean, drawn, t) for f in (noising.add_noise, noising.target))
        with torch.enable_grad():
            output = denoise(backbone, noisy.to(dtype), noising.timestep(t), condition)
            part = (output.to(exact) - target).square().mean() * (len(clean) / options.samples)
        found = torch.autograd.grad(part, list(gates.values()), allow_unused=True, materialize_grads=True)
        loss += float(part.detach())
        for own_total, gradient in zip(totals, found, strict=True):
            own_total += gradient
    return loss, totals


@dataclass(frozen=True)
class BlockSampling:
    """The samples that block removal compares: the first ``prompts`` of the options, one chain each."""

    denoiser: Sampled
    prompts: Condition
    options: PruningOptions
    seed: int
    latent_size: tuple[int, int] | None = None

    def final(self, row: int) -> Float[Tensor, "1 c h w"]:
        """z_0 of a prompt, from the same noise every time."""
        options = self.options
        seed = self.seed
        if options.initial_noise == "per_prompt":
            seed = stream_key(seed, "initial noise", row)[0] >> 1  # as mask learning draws it
        prompt = self.prompts.part(row, row + 1)
        chain = sampling_chain(
            self.denoiser, prompt, [seed], options.steps, options.guidance, self.latent_size
        )
        return run_chain(chain).final


def check_prompts(prompts: Condition, wanted: int, field: str) -> None:
    """Raises FoundryError for fewer prompts than the option named ``field`` asks for."""
    if len(prompts) < wanted:
        raise FoundryError(
            f"pruning: '{field}' is {wanted}, but {len(prompts)} are given; give more or lower it"
        )


def block_scores(
    denoiser: Sampled,
    prompts: Condition,
    kinds: Sequence[Kind],
    options: PruningOptions,
    seed: int,
    latent_size: tuple[int, int] | None = None,
    log: Log = _silent,
) -> UnitScores:
    """How far final latents move when a whole transformer block goes: mean (z0_dense - z0_without)^2 over prompts.

    Stands for removal of blocks as in BK-SDM (arXiv 2305.15798), by the units that all methods share. A block is one
    transformer block with its attentions and feed-forwards; without it all its units of ``kinds`` are masked by 0, so
    that the biases of its output projections stay, as they do in :func:`prune`. Every unit gets its block's score. In
    :func:`keep_best` with scope ``global`` equal scores keep whole blocks together, and at most one block of each kind is
    cut, within which the earlier units stay; scope ``layer`` would cut all blocks alike and is of no use here.

    Raises FoundryError for too few prompts, a scheduler that cannot be replayed, and as :func:`unit_groups` does.
    """
    wanted = options.block_removal.prompts
    check_prompts(prompts, wanted, "block_removal.prompts")
    sampling = BlockSampling(denoiser, prompts, options, seed, latent_size)
    groups = unit_groups(denoiser.backbone, kinds)
    blocks = list(dict.fromkeys(block_of(group.key) for group in groups))
    dense = [sampling.final(row) for row in range(wanted)]
    scores: dict[str, float] = {}
    for number, block in enumerate(blocks, 1):
        masks = {
            group.key: torch.full((group.num_units,), float(block_of(group.key) != block)) for group in groups
        }
        on_device = {key: mask.to(denoiser.device) for key, mask in masks.items()}
        with masked(denoiser.backbone, on_device.__getitem__, kinds):
            distances = [float((sampling.final(row) - dense[row]).square().mean()) for row in range(wanted)]
        scores[block] = sum(distances) / wanted
        log(f"block removal: {number} of {len(blocks)}, {block}: distance {scores[block]:.4g}")
    return {group.key: torch.full((group.num_units,), scores[block_of(group.key)]) for group in groups}


def block_of(key: UnitKey) -> str:
    """The name of the transformer block that a module with units is a part of."""
    return key[1].rpartition(".")[0]
