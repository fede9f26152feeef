"""Learning masks end to end: what the masked model draws is compared with what the dense model drew (EcoDiff).

For one prompt, with z_0 the latents at the end of the sampling chain from the same z_T,

    L = mean (z0_dense - z0_masked)^2 + beta (R_heads + R_ffn + R_norm)

(arXiv 2412.02852, official code). The dense model's z_0 is drawn once per prompt and kept. Gradients go through the whole
chain by :func:`training.sampling.gradient_checkpointing.chain_gradients`. R is a heuristic: the paper's derivation from L0 does not hold.

``distance: per_step`` replaces the first term by one of a single step, the ablation that the paper compares with (sheet,
section 9); see :meth:`MaskLearner.distance_gradients`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from training.conditioning import Condition
from training.errors import FoundryError
from training.pruning._layers import UnitKey
from training.pruning.hard_concrete import HardConcrete, expected_l0, mean_l1, mean_sigmoid
from training.pruning.masking import Masks
from training.pruning.noise import MaskNoise, step_of_draw
from training.randomness import SampleOrder, stream_key
from training.recipes.pruning import KINDS, PruningOptions
from training.sampling.denoising_loop import Sampled
from training.sampling.gradient_checkpointing import Chain, State, chain_gradients, run_chain
from training.sampling.replayable_steps import SamplerStep, sampling_chain

Masking = Callable[[Any, Masks], AbstractContextManager[Any]]
"""Hangs masks on a backbone while its context lasts."""

UnitCounts = Mapping[str, Mapping[str, int]]
"""Number of units by kind and layer's name."""


@dataclass(frozen=True)
class MaskUpdate:
    """What an update saw, as means over its prompts: the loss, its first term, and R of each kind."""

    number: int
    loss: float
    distance: float
    penalties: Mapping[str, float]


class LearnedMasks:
    """Stochastic masks of the current step: hard concrete samples of the logits; 1 for kinds that are not learned."""

    def __init__(
        self,
        logits: Mapping[str, Mapping[str, Tensor]],
        units: UnitCounts,
        hard_concrete: HardConcrete,
        noise: MaskNoise,
        like: Tensor,
    ) -> None:
        """``like`` tells the type and device of the activations that are multiplied."""
        self.logits, self.units = logits, units
        self.hard_concrete, self.noise, self.like = hard_concrete, noise, like

    def __call__(self, key: UnitKey) -> Float[Tensor, " units"]:
        """M of a layer's next call."""
        kind, name = key
        if kind not in self.logits:
            return self.like.new_ones(self.units[kind][name])
        logits = self.logits[kind][name]
        u = self.noise.uniform(name, len(logits)).to(logits)
        return self.hard_concrete.sample(logits, u).to(self.like)


class MaskLearner:
    """Logits of every unit, and the updates that move them. What an update does depends on :meth:`state` alone."""

    def __init__(
        self,
        denoiser: Sampled,
        prompts: Condition,
        units: UnitCounts,
        masking: Masking,
        options: PruningOptions,
        seed: int = 0,
        latent_size: tuple[int, int] | None = None,
    ) -> None:
        """The backbone is frozen and set to evaluation here; ``latent_size`` None is its own.

        Raises FoundryError for fewer prompts than asked for, unknown kinds, and where no kind with units has a rate.
        """
        if len(prompts) < options.prompts:
            raise FoundryError(
                f"pruning: 'prompts' is {options.prompts}, but {len(prompts)} are given; give more or lower it"
            )
        denoiser.backbone.requires_grad_(False).eval()
        self.denoiser, self.prompts, self.masking = denoiser, prompts, masking
        self.options, self.seed, self.latent_size = options, seed, latent_size
        self.hard_concrete = HardConcrete(options.alpha, options.zeta, options.gamma, options.delta)
        self.logits = _initial_logits(units, options, denoiser.device)
        self.optimizer = torch.optim.AdamW(
            [
                {"params": list(layers.values()), "lr": options.learning_rates[kind]}  # type: ignore[index]
                for kind, layers in self.logits.items()
            ],
            weight_decay=options.weight_decay,
        )
        self.updates = 0
        # A backbone that checkpoints its own blocks calls their layers again within a step.
        again = bool(getattr(denoiser.backbone, "is_gradient_checkpointing", False))
        self.noise = MaskNoise(seed, shared_by_calls=again)
        like = next(denoiser.backbone.parameters())
        self.masks = LearnedMasks(self.logits, units, self.hard_concrete, self.noise, like)
        self._order = SampleOrder(seed, options.prompts)
        self._targets: dict[int, Tensor] = {}  # z0_dense by prompt, on the CPU
        self._paths: dict[int, tuple[Tensor, ...]] = {}  # the dense x_0 .. x_{T-1} by prompt, on the CPU

    @property
    def parameters(self) -> list[Tensor]:
        """All logits, kind after kind."""
        return [logits for layers in self.logits.values() for logits in layers.values()]

    def update(self) -> MaskUpdate:
        """Sum the gradients of the next ``accumulate`` prompts and move the logits.

        Raises FoundryError when a gradient is not finite (the logits stay), or when ``check_replay`` finds a difference.
        """
        count = self.options.accumulate
        first = self.updates * count
        parameters = self.parameters
        totals = [torch.zeros_like(logits) for logits in parameters]
        distances = []
        for draw, row in enumerate(self._order.draw(first, count).rows.tolist(), first):
            distance, gradients = self.distance_gradients(row, draw)
            distances.append(distance)
            for total, gradient in zip(totals, gradients, strict=True):
                total += gradient
        penalties = self.penalties()
        penalty = self.options.beta * torch.stack(list(penalties.values())).sum()
        # Each prompt's loss has the regularisers in it, and losses are summed.
        for total, gradient in zip(totals, torch.autograd.grad(penalty, parameters), strict=True):
            total += count * gradient
        self._step(totals)
        distance = sum(distances) / count
        values = {kind: float(value.detach()) for kind, value in penalties.items()}
        return MaskUpdate(self.updates, distance + float(penalty.detach()), distance, values)

    def _step(self, gradients: list[Tensor]) -> None:
        if not all(bool(torch.isfinite(gradient).all()) for gradient in gradients):
            raise FoundryError(
                f"pruning: update {self.updates + 1} has gradients that are not finite; "
                "lower 'steps' or 'guidance', or let the backbone compute in float32"
            )
        for logits, gradient in zip(self.parameters, gradients, strict=True):
            logits.grad = gradient
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)  # nothing is left for a later update
        self.updates += 1

    def distance_gradients(self, row: int, draw: int) -> tuple[float, tuple[Tensor, ...]]:
        """The distance of masked to dense for one prompt and its gradients; ``draw`` numbers what is drawn by chance.

        ``end_to_end``: mean (z0_dense - z0_masked)^2. ``per_step``: with i drawn evenly from the T steps and x_i the dense
        trajectory's state before step i, mean (e_dense(x_i) - e_masked(x_i))^2, where e is the network's guided prediction
        in its own parametrisation, before the scheduler uses it: all steps weigh the same, and a solver's memory and
        noise play no part. A draw costs two network evaluations and one backward pass; the dense trajectory is drawn once
        per prompt, its T latents being kept on the CPU.
        """
        if self.options.distance == "per_step":
            return self._step_gradients(row, draw)
        target = self.target(row)
        tolerance = 0.0 if self.options.check_replay else None
        with self.masking(self.denoiser.backbone, self.masks):
            chain = self._masked_chain(row, draw)
            trajectory = run_chain(chain, keep_last=True)
            final = trajectory.final.detach().requires_grad_()
            distance = (target.to(final) - final).square().mean()
            (grad_final,) = torch.autograd.grad(distance, final)
            found = chain_gradients(chain, trajectory, grad_final, self.parameters, tolerance=tolerance)
        return float(distance.detach()), found.parameters

    def _step_gradients(self, row: int, draw: int) -> tuple[float, tuple[Tensor, ...]]:
        path = self.dense_path(row)
        index = step_of_draw(self.seed, draw, len(path))
        step = cast(SamplerStep, self._chain(row).step)
        latents = path[index].to(self.denoiser.device)
        with torch.no_grad():
            target = step.prediction(latents, index)
        with self.masking(self.denoiser.backbone, self.masks), torch.enable_grad():
            self.noise.begin(draw, index)
            distance = (target - step.prediction(latents, index)).square().mean()
            found = torch.autograd.grad(distance, self.parameters, allow_unused=True, materialize_grads=True)
        return float(distance.detach()), found

    def dense_path(self, row: int) -> tuple[Float[Tensor, "1 c h w"], ...]:
        """The states before each step of a prompt's dense chain, drawn at their first use."""
        if row not in self._paths:
            self._paths[row] = tuple(latents.cpu() for latents, *_ in run_chain(self._chain(row)).states[:-1])
        return self._paths[row]

    def target(self, row: int) -> Float[Tensor, "1 c h w"]:
        """z0_dense of a prompt, drawn at its first use."""
        if row not in self._targets:
            self._targets[row] = run_chain(self._chain(row)).final.cpu()
        return self._targets[row]

    def penalties(self) -> dict[str, Float[Tensor, ""]]:
        """R of each kind that is learned, with its graph."""
        return {
            kind: penalty_of(list(layers.values()), self.options, self.hard_concrete)
            for kind, layers in self.logits.items()
        }

    def state(self) -> dict[str, Any]:
        """What resuming needs: logits, the optimizer's state and the number of updates, as copies that may be saved."""
        logits = {
            kind: {name: value.detach().clone() for name, value in layers.items()}
            for kind, layers in self.logits.items()
        }
        optimizer = copy.deepcopy(self.optimizer.state_dict())
        return {"logits": logits, "optimizer": optimizer, "updates": self.updates}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on bit by bit as the learner would have that gave this state. Raises FoundryError for other units."""
        for kind, name in sorted(_names(self.logits) ^ _names(state["logits"])):
            raise FoundryError(
                f"pruning: the state and this learner differ in '{kind}' of '{name}'; "
                "resume with the backbone and the learning rates that it was saved with"
            )
        with torch.no_grad():
            for kind, layers in self.logits.items():
                for name, logits in layers.items():
                    logits.copy_(state["logits"][kind][name])
        self.optimizer.load_state_dict(copy.deepcopy(state["optimizer"]))
        self.updates = int(state["updates"])

    def _chain(self, row: int) -> Chain:
        """The dense chain of a prompt; its noise is the same every time."""
        prompt = self.prompts.part(row, row + 1)
        steps, guidance = self.options.steps, self.options.guidance
        return sampling_chain(self.denoiser, prompt, [self._seed(row)], steps, guidance, self.latent_size)

    def _masked_chain(self, row: int, draw: int) -> Chain:
        chain = self._chain(row)

        def step(state: State, index: int) -> State:
            self.noise.begin(draw, index)
            return chain.step(state, index)

        return replace(chain, step=step)

    def _seed(self, row: int) -> int:
        if self.options.initial_noise == "shared":
            return self.seed
        return stream_key(self.seed, "initial noise", row)[0] >> 1  # generators take 63 bits


def penalty_of(
    layers: list[Float[Tensor, " _"]], options: PruningOptions, hard_concrete: HardConcrete
) -> Float[Tensor, ""]:
    """R of the layers of one kind, in the form that the options name."""
    if options.regulariser == "l1":
        return mean_l1(layers)
    if options.regulariser == "sigmoid":
        return mean_sigmoid(layers, options.sigmoid_scale, options.sigmoid_offset)
    return expected_l0(layers, hard_concrete)


def _initial_logits(
    units: UnitCounts, options: PruningOptions, device: torch.device
) -> dict[str, dict[str, Tensor]]:
    unknown = sorted(set(units) - set(KINDS))
    if unknown:
        raise FoundryError(f"pruning: units of kind '{unknown[0]}'; known are {', '.join(KINDS)}")
    learned = {kind: units[kind] for kind, rate in options.learning_rates.items() if rate and units.get(kind)}
    if not learned:
        raise FoundryError(
            f"pruning: the backbone has units of {', '.join(kind for kind in units if units[kind]) or 'no kind'}, and none "
            "of these has a learning rate above 0; give one"
        )
    # float32: in bfloat16 a logit near 3 moves by 1/64 or not at all
    return {
        kind: {
            name: nn.Parameter(torch.full((count,), options.logit_init, device=device))
            for name, count in layers.items()
        }
        for kind, layers in learned.items()
    }


def _names(logits: Mapping[str, Mapping[str, Any]]) -> set[tuple[str, str]]:
    return {(kind, name) for kind, layers in logits.items() for name in layers}
